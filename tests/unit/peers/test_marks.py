"""What one pod found to rest, the others let rest for what is left of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest

from fakes.followers import FaultyReader
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.stores import OURS, MemoryRig
from fakes.virtual_time import eventually
from switchboard_dataplane.peers import MARKS_MAX, MarkSharing, Peers
from switchboard_dataplane.signals.marks import Mark, Marks
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_policy.store import Heard, StoreReader

SNAPSHOT = snapshot(policy("chat", rule("default", tier("only", "cloud"))), backend("cloud"))
LIMITED = Mark("ai/cloud", "rate_limited", 30.0, credential="key-1")


class Pod:
    """A pod as far as marks go."""

    def __init__(self, name: str, source: StoreReader) -> None:
        loop = asyncio.get_running_loop()
        self.marks = Marks()
        self.sharing = Sharing(
            source, pod=name, keyring=lambda: OURS, clock=loop.time, random=Random(7)
        )
        self.mark_sharing = MarkSharing(
            self.marks,
            self.sharing,
            snapshot=lambda: SNAPSHOT,
            clock=loop.time,
            call_later=loop.call_later,
        )

    def left_s(self, mark: Mark) -> float:
        """How long it lets the subject of a mark rest from now on; 0 if it knows of none."""
        rest = self.marks.of(mark.backend).get(mark.subject)
        return 0.0 if rest is None else rest.until - asyncio.get_running_loop().time()

    def find(self, mark: Mark) -> None:
        self.marks.put(mark, asyncio.get_running_loop().time())


@asynccontextmanager
async def running(*pods: Pod) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(pod.sharing.run()) for pod in pods]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_mark_of_one_pod_is_soon_in_force_in_the_others(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        await asyncio.sleep(1)
        one.find(LIMITED)
        await eventually(lambda: two.left_s(LIMITED) > 0, within_s=0.3)
        assert two.left_s(LIMITED) == pytest.approx(one.left_s(LIMITED), abs=0.1)
        said = rig.store.said
        await asyncio.sleep(1)
        assert rig.store.said == said, "what was heard is not told again"


async def test_marks_of_a_moment_are_one_word_and_a_flood_is_bounded(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        await asyncio.sleep(1)
        marks = [
            msgspec.structs.replace(LIMITED, credential=f"key-{number}")
            for number in range(MARKS_MAX + 500)
        ]
        for mark in marks:
            one.find(mark)
        await eventually(lambda: two.left_s(marks[0]) > 0)
        assert rig.store.said == 1
        assert sum(two.left_s(mark) > 0 for mark in marks) == MARKS_MAX


async def test_a_mark_that_comes_late_rests_for_what_is_left(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    one, two = Pod("one", source), Pod("two", rig.reader())
    async with running(one, two):
        await asyncio.sleep(1)
        source.cut = True
        await asyncio.sleep(3)
        one.find(LIMITED)
        one.find(msgspec.structs.replace(LIMITED, credential="short", for_s=0.5))
        await asyncio.sleep(1)
        source.cut = False
        await asyncio.sleep(3)
        assert two.left_s(LIMITED) in (0.0, pytest.approx(one.left_s(LIMITED), abs=0.2))
        assert two.left_s(msgspec.structs.replace(LIMITED, credential="short")) <= 0.0


async def test_marks_of_backends_that_are_not_in_force_are_passed_over(rig: MemoryRig) -> None:
    two = Pod("two", rig.reader())
    unknown = msgspec.structs.replace(LIMITED, backend="ai/elsewhere")
    body = msgspec.json.encode([unknown, LIMITED])
    two.mark_sharing.take("one", body, asyncio.get_running_loop().time() - 2.0)
    assert not two.marks.of("ai/elsewhere")
    assert two.left_s(LIMITED) == pytest.approx(28.0, abs=0.1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'[{"backend":"ai/cloud"}]',
        b'[{"backend":"ai/cloud","failure":"a newer one","for_s":5}]',
        b'[{"backend":"ai/cloud","failure":"auth","for_s":-5}]',
        b'[{"backend":"ai/cloud","failure":"auth","for_s":0}]',
    ],
)
async def test_marks_that_make_no_sense_change_nothing(rig: MemoryRig, body: bytes) -> None:
    two = Pod("two", rig.reader())
    two.mark_sharing.take("one", body, asyncio.get_running_loop().time())
    assert not two.marks.of("ai/cloud")


async def test_a_defect_in_what_is_shared_ends_nothing_and_is_begun_anew(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FaultyReader):
        async def shared(self, after: str, *, timeout_ms: int) -> Heard:
            if self.cut:
                raise RuntimeError("a defect")
            return await super().shared(after, timeout_ms=timeout_ms)

    source = Broken(rig.reader())
    one, two = Pod("one", source), Pod("two", rig.reader())
    source.cut = True
    peers = asyncio.create_task(Peers(one.sharing, None).run())
    async with running(two):
        await asyncio.sleep(8)
        assert not peers.done()
        assert "a defect" in caplog.text
        source.cut = False
        await asyncio.sleep(6)
        one.find(LIMITED)
        await eventually(lambda: two.left_s(LIMITED) > 0)
        peers.cancel()
        await asyncio.wait([peers])
        assert peers.cancelled()


async def test_nobody_takes_his_own_marks_again(rig: MemoryRig) -> None:
    one = Pod("one", rig.reader())
    async with running(one):
        await asyncio.sleep(1)
        one.find(LIMITED)
        await asyncio.sleep(0.5)
        before = one.marks.of("ai/cloud")[LIMITED.subject]
        await asyncio.sleep(3)
        assert one.marks.of("ai/cloud")[LIMITED.subject] is before
