"""Pods learn together, over a store that may be away, from pods that come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from fakes.followers import FaultyReader
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.stores import OURS, MemoryRig
from switchboard_dataplane.choosing.context import context_of
from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.lesson_sharing import (
    GONE_S,
    LEARNED,
    TELL_ALL_S,
    LessonSharing,
    ToldOutcome,
    ToldShare,
    ToldSums,
    Word,
)
from switchboard_dataplane.learning.lessons import Lessons
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.signals.learned import Offer, Place
from switchboard_dataplane.signals.thresholds import QualityTargets
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_policy import ir
from switchboard_policy.store import StoreReader

AT = datetime(2026, 1, 1, tzinfo=UTC)
CHAT = context_of("chat", 100)
EMBEDDING = np.array([0.6, 0.8], np.float32)
OFFERS = (Offer(0, "small", 0.5), Offer(1, "large", 0.5))
SELECTS = {
    "bandit": ir.Select("Bandit"),
    "near": ir.Select("Neighbours"),
    "held": ir.Select("Complexity", target_quality_permille=500),
}
BANDIT, NEAR, HELD = (Place("ai/chat", name) for name in SELECTS)
TIERS = tier("small", "a"), tier("large", "b")
RULES = [rule(name, *TIERS, select=select) for name, select in SELECTS.items()]
RUNNING = snapshot(policy("chat", *RULES), backend("a"), backend("b"))


@dataclass
class Pod:
    """A pod as far as lessons go."""

    name: str
    source: StoreReader

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.lessons = Lessons(lambda: RUNNING, QualityTargets(), Routers())
        self.sharing = Sharing(
            self.source, pod=self.name, keyring=lambda: OURS, clock=loop.time, random=Random(7)
        )
        self.telling = LessonSharing(self.lessons, self.sharing, loop.time)

    def rate(self, quality: float, times: int = 1, *, name: str = "bandit") -> None:
        """The small tier has answered so often, and was rated."""
        said = Decided(id="d", at=AT, policy="ai/chat", rule=name, tier="small", context=CHAT)
        rating = Rating(decision="d", value=quality, source="feedback", at=AT)
        for _ in range(times):
            self.lessons.learn(said, rating, {"embedding": EMBEDDING})

    def knows(self) -> float:
        """Return how good the small tier is, as far as it knows."""
        return self.lessons.bandit(BANDIT).estimate(CHAT, OFFERS)[0]


@asynccontextmanager
async def running(*pods: Pod) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.sharing.run()) for one in pods]
    tasks += [asyncio.create_task(one.telling.run()) for one in pods]
    try:
        await asyncio.sleep(0.2)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_one_pod_learns_all_know(rig: MemoryRig) -> None:
    one, other = Pod("one", rig.reader()), Pod("other", rig.reader())
    async with running(one, other):
        one.rate(1.0, 50)
        one.rate(1.0, 30, name="near")
        one.rate(1.0, 10, name="held")
        await asyncio.sleep(3)
        assert other.knows() == pytest.approx(one.knows(), abs=1e-3)
        assert other.knows() > 0.9
        near = other.lessons.near(NEAR, EMBEDDING, OFFERS)
        assert near == pytest.approx(one.lessons.near(NEAR, EMBEDDING, OFFERS), abs=0.02)
        assert other.lessons.targets[HELD, 0.5].share == pytest.approx(0.4)


async def test_a_pod_that_comes_later_is_told_everything(rig: MemoryRig) -> None:
    one = Pod("one", rig.reader())
    async with running(one):
        one.rate(1.0, 50)
        await asyncio.sleep(60)
        late = Pod("late", rig.reader())
        async with running(late):
            assert late.knows() == pytest.approx(0.5)
            await asyncio.sleep(TELL_ALL_S + 2)
            assert late.knows() > 0.9


async def test_a_roll_of_all_pods_forgets_nothing(rig: MemoryRig) -> None:
    old = [Pod(f"old-{number}", rig.reader()) for number in range(3)]
    new = [Pod(f"new-{number}", rig.reader()) for number in range(3)]
    async with AsyncExitStack() as stack:
        ending = [await stack.enter_async_context(AsyncExitStack()) for _ in old]
        for pod, own in zip(old, ending, strict=True):
            pod.rate(1.0, 20)
            await own.enter_async_context(running(pod))
        await asyncio.sleep(2 * TELL_ALL_S)
        knew = old[0].knows()
        for pod, own in zip(new, ending, strict=True):
            await stack.enter_async_context(running(pod))
            await asyncio.sleep(2 * TELL_ALL_S)
            await own.aclose()
            await asyncio.sleep(GONE_S + 3 * TELL_ALL_S)
        for pod in new:
            assert pod.knows() == pytest.approx(knew, abs=0.02)


async def test_while_the_store_is_away_nobody_is_taken_to_be_gone(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    one, other = Pod("one", source), Pod("other", rig.reader())
    async with running(one, other):
        other.rate(1.0, 50)
        await asyncio.sleep(5)
        knew = one.knows()
        source.cut = True
        await asyncio.sleep(10 * GONE_S)
        assert one.knows() == knew
        own = one.lessons.bandit(BANDIT).told()["small"].sums
        assert own.products.sum() == 0.0
        source.cut = False
        await asyncio.sleep(2 * TELL_ALL_S)
        assert one.knows() == pytest.approx(other.knows(), abs=1e-3)


SUMS = ToldSums("ai/chat", "bandit", "", "small", 0, b"no sums")


@pytest.mark.parametrize(
    "word",
    [
        b"no word",
        Word(sums=(SUMS,)),
        Word(sums=(msgspec.structs.replace(SUMS, rule="gone"),)),
        Word(sums=(msgspec.structs.replace(SUMS, rule="near"),)),
        Word(sums=(msgspec.structs.replace(SUMS, router="sha256:0"),)),
        Word(shares=(ToldShare("ai/chat", "held", "", 0.7, 0.5),)),
        Word(shares=(ToldShare("ai/chat", "held", "", 0.5, float("nan")),)),
        Word(shares=(ToldShare("ai/chat", "near", "", 0.5, 0.5),)),
        Word(outcomes=(ToldOutcome("ai/chat", "near", "", "gone", 0.5, b"\x01\x02"),)),
        Word(outcomes=(ToldOutcome("ai/chat", "near", "", "small", 1.5, b"\x01\x02"),)),
        Word(outcomes=(ToldOutcome("ai/chat", "near", "", "small", 0.5, b"\x01\x02\x03"),)),
        Word(outcomes=(ToldOutcome("ai/chat", "bandit", "", "small", 0.5, b"\x01\x02"),)),
    ],
)
async def test_a_word_that_says_nothing_of_what_is_in_force_changes_nothing(
    rig: MemoryRig, word: Any
) -> None:
    one = Pod("one", rig.reader())
    one.rate(0.9, 5, name="near")
    before = one.lessons.near(NEAR, EMBEDDING, OFFERS)
    body = word if isinstance(word, bytes) else msgspec.msgpack.encode(word)
    one.telling.take("other", body, 0.0)
    assert one.knows() == pytest.approx(0.5)
    assert one.lessons.near(NEAR, EMBEDDING, OFFERS) == before
    assert one.lessons.targets[HELD, 0.5].share == 0.5


async def test_an_era_that_no_pod_can_have_is_not_believed(rig: MemoryRig) -> None:
    one, other = Pod("one", rig.reader()), Pod("other", rig.reader())
    other.rate(1.0, 5)
    sums = other.lessons.bandit(BANDIT).told()["small"].sums.pack()
    for era in (-1, 2**31):
        told = msgspec.structs.replace(SUMS, era=era, sums=sums)
        one.telling.take("other", msgspec.msgpack.encode(Word(sums=(told,))), 0.0)
    assert one.knows() == pytest.approx(0.5)


async def test_a_pod_that_has_learned_nothing_says_nothing(rig: MemoryRig) -> None:
    one, other, heard = Pod("one", rig.reader()), Pod("other", rig.reader()), list[str]()
    other.sharing.hear(LEARNED, lambda pod, body, at: heard.append(pod))
    async with running(one, other):
        await asyncio.sleep(3 * TELL_ALL_S)
        assert heard == []
        one.rate(1.0)
        await asyncio.sleep(3)
        assert heard == ["one"]
