"""Words between pods: heard by all, dated by the store, believed only if they are genuine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from fakes.followers import FaultyReader
from fakes.stores import OURS, SCOPE, STRANGER, MemoryRig
from fakes.virtual_time import eventually
from switchboard_dataplane.sources.sharing import BODY_BYTES_MAX, Sharing
from switchboard_policy.seal import Keyring
from switchboard_policy.store import WORDS_KEPT_MS, StoreReader
from switchboard_policy.store.signing import sign_word

KEPT_S = WORDS_KEPT_MS / 1000


class Pod:
    """A pod that shares, and what it heard about the topic ``load``: who, what, how old."""

    def __init__(self, name: str, source: StoreReader, ring: Keyring = OURS) -> None:
        loop = asyncio.get_running_loop()
        self.heard: list[tuple[str, bytes, float]] = []
        self.sharing = Sharing(
            source, pod=name, keyring=lambda: ring, clock=loop.time, random=Random(7)
        )
        self.sharing.hear(
            "load", lambda pod, body, at: self.heard.append((pod, body, loop.time() - at))
        )

    @property
    def words(self) -> list[tuple[str, bytes]]:
        return [(pod, body) for pod, body, _ in self.heard]


@asynccontextmanager
async def running(*pods: Pod) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(pod.sharing.run()) for pod in pods]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_all_pods_hear_a_word_the_speaker_among_them(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.sharing.tell("load", b"first")
        one.sharing.tell("nobody-listens", b"second")
        two.sharing.tell("load", b"third")
        await eventually(lambda: len(one.words) == len(two.words) == 2)
        for pod in (one, two):
            assert sorted(pod.words) == [("one", b"first"), ("two", b"third")]
            assert all(age_s < 0.2 for _, _, age_s in pod.heard)


async def test_a_word_has_the_age_that_it_has_and_an_old_one_is_not_heard(rig: MemoryRig) -> None:
    late = Pod("late", rig.reader())
    now_ms = rig.store.clock_ms()
    for ago_ms in (WORDS_KEPT_MS + 1, 2_000, -WORDS_KEPT_MS - 1):
        word = sign_word(
            OURS, topic="load", pod="one", said_ms=now_ms - ago_ms, body=str(ago_ms).encode()
        )
        rig.store.pods(SCOPE).words[rig.store.said + 1] = word
        rig.store.said += 1
    async with running(late):
        await eventually(lambda: late.heard)
        ((_, body, age_s),) = late.heard
        assert body == b"2000"
        assert age_s == pytest.approx(2.0, abs=0.1)


async def test_what_a_stopped_pod_had_to_say_has_its_age_when_it_is_sent(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    one, two = Pod("one", source), Pod("two", rig.reader())
    async with running(one, two):
        one.sharing.tell("load", b"before")
        await eventually(lambda: two.heard)
        source.cut = True
        await asyncio.sleep(KEPT_S)
        one.sharing.tell("load", b"lost, for the store is away")
        await asyncio.sleep(0.01)
        one.sharing.tell("load", b"too old when it can be sent")
        await asyncio.sleep(KEPT_S + 1)
        one.sharing.tell("load", b"after")
        source.cut = False
        await eventually(lambda: two.words[-1] == ("one", b"after"))
        assert len(two.words) == 2


async def test_a_stranger_is_not_believed_and_told_of_once(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture
) -> None:
    stranger, two = Pod("one", rig.reader(), STRANGER), Pod("two", rig.reader())
    async with running(stranger, two):
        for number in range(3):
            stranger.sharing.tell("load", str(number).encode())
            await asyncio.sleep(1)
        assert two.heard == []
        assert caplog.text.count("is not believed") == 1


async def test_a_body_beyond_its_bound_is_not_heard(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.sharing.tell("load", b"x" * (BODY_BYTES_MAX + 1))
        one.sharing.tell("load", b"small")
        await eventually(lambda: two.heard)
        await asyncio.sleep(1)
        assert two.words == [("one", b"small")]


async def test_nothing_piles_up_and_nobody_waits_while_the_store_is_away(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    source.cut = True
    one, two = Pod("one", source), Pod("two", rig.reader())
    async with running(one, two):
        for number in range(1_000):
            one.sharing.tell("load", str(number).encode())
        assert len(one.sharing._unsent) < 100
        await asyncio.sleep(60)
        assert two.heard == []
        source.cut = False
        one.sharing.tell("load", b"now")
        await eventually(lambda: two.words == [("one", b"now")])


async def test_a_store_that_lost_everything_or_is_another_one_is_heard_again(
    rig: MemoryRig,
) -> None:
    source = FaultyReader(rig.reader())
    one, two = Pod("one", rig.reader()), Pod("two", source)
    async with running(one, two):
        for number in range(5):
            one.sharing.tell("load", str(number).encode())
        await eventually(lambda: len(two.heard) == 5)
        source.cut = True
        await asyncio.sleep(3)
        rig.store.flush()
        rig.store.said = 0
        source.cut = False
        await asyncio.sleep(3)
        one.sharing.tell("load", b"again")
        await eventually(lambda: two.words[-1] == ("one", b"again"))
