"""Tells the other pods what this one has learned, and takes in what they have.

Each pod tells the sums of its own ratings: once a second what changed, and everything every ten
seconds, for pods that came. All use all sums. When a pod is gone one of the others takes its sums
over, so that a roll of all pods forgets nothing. A store that is away loses words, nothing else.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.learning.lessons import Lesson, Lessons, places_of, selecting
from switchboard_dataplane.signals.learned import Place
from switchboard_dataplane.signals.sharers import owner_of
from switchboard_dataplane.sources.sharing import Sharing

log = logging.getLogger(__name__)

LEARNED: Final = "learned"
#: How often a pod tells what has changed, and everything, in seconds.
TELL_S: Final = 1.0
TELL_ALL_S: Final = 10.0
#: A pod that said nothing for so long is gone, in seconds.
GONE_S: Final = 45.0
#: A word has so many sums at most: some 600 KB.
SUMS_TOLD_MAX: Final = 125

_VECTOR_SCALE: Final = 127.0

# ruff: noqa: PLC0415 - numpy is loaded with the first policy that learns


class ToldSums(msgspec.Struct, frozen=True, array_like=True):
    """What a pod has learned of a tier by its own ratings."""

    policy: str
    rule: str
    router: str
    tier: str
    era: int
    sums: bytes


class ToldShare(msgspec.Struct, frozen=True, array_like=True):
    """By how much a pod's ratings have moved the share of strong requests."""

    policy: str
    rule: str
    router: str
    quality: float
    moved: float


class ToldOutcome(msgspec.Struct, frozen=True, array_like=True):
    """How good the answer of a tier was: the request's embedding has a byte a dimension."""

    policy: str
    rule: str
    router: str
    tier: str
    quality: float
    embedding: bytes


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a pod tells at once."""

    sums: tuple[ToldSums, ...] = ()
    shares: tuple[ToldShare, ...] = ()
    outcomes: tuple[ToldOutcome, ...] = ()


_decoder: Final = msgspec.msgpack.Decoder(Word)


@dataclass(slots=True)
class LessonSharing:
    """Speaks and listens. ``clock`` is the event loop's."""

    lessons: Lessons
    sharing: Sharing
    clock: Callable[[], float]
    _heard: dict[str, float] = field(default_factory=dict[str, float])
    _told_all_at: float = -math.inf

    def __post_init__(self) -> None:
        self.sharing.hear(LEARNED, self.take)

    async def run(self) -> None:
        """Tell until cancelled. A defect here costs what others would have learned."""
        while True:
            await asyncio.sleep(TELL_S)
            try:
                self.tell()
            except Exception:
                log.exception("what was learned is not told by a defect of the data plane")

    def tell(self) -> None:
        """Tell what has changed since the last word, or everything if that was long ago."""
        now, snapshot = self.clock(), self.lessons.snapshot()
        if snapshot is None:
            return
        whole = now - self._told_all_at >= TELL_ALL_S
        if whole:
            self._told_all_at = now
            self.lessons.keep_only(places_of(snapshot))
            self._notice_gone(now)
        places = None if whole else self.lessons.changed
        words = list(self._words(places))
        self.lessons.changed.clear()
        self.lessons.untold.clear()
        for word in words:
            self.sharing.tell(LEARNED, msgspec.msgpack.encode(word))

    def take(self, pod: str, body: bytes, at: float) -> None:
        """Take in what a pod has learned, said at ``at``."""
        self._heard[pod] = at
        snapshot = self.lessons.snapshot()
        if pod == self.sharing.pod or snapshot is None:
            return
        try:
            word = _decoder.decode(body)
        except (ValueError, RecursionError) as error:
            # A newer version may have other words.
            log.info("what pod %s has learned cannot be read: %s", pod, error)
            return
        for told in word.sums:
            self._take_sums(pod, told, snapshot)
        for share in word.shares:
            self._take_share(pod, share, snapshot)
        for outcome in word.outcomes:
            self._take_outcome(outcome, snapshot)

    # --- words ------------------------------------------------------------------------------

    def _words(self, places: set[Place] | None) -> Iterable[Word]:
        sums = [
            ToldSums(*place, tier, told.era, told.sums.pack())
            for place, bandit in self.lessons.bandits().items()
            if places is None or place in places
            for tier, told in bandit.told().items()
        ]
        shares = [
            ToldShare(*place, quality, target.moved)
            for (place, quality), target in self.lessons.targets.items()
            if places is None or place in places
        ]
        outcomes = [
            ToldOutcome(*one.place, one.tier, one.quality, _pack(one.embedding))
            for one in self.lessons.untold
        ]
        if shares or outcomes:
            yield Word((), tuple(shares), tuple(outcomes))
        for first in range(0, len(sums), SUMS_TOLD_MAX):
            yield Word(tuple(sums[first : first + SUMS_TOLD_MAX]))

    def _take_sums(self, pod: str, told: ToldSums, snapshot: Snapshot) -> None:
        place = Place(told.policy, told.rule, told.router)
        found = selecting(snapshot, told.policy, told.rule)
        if found is None or found[2].by != "Bandit" or found[2].router != told.router:
            return
        from switchboard_dataplane.signals.bandit import ERA_MAX, SumsRefused, Told, unpack

        bandit = self.lessons.bandit(place)
        try:
            sums = unpack(told.sums, bandit.dimensions)
        except SumsRefused as error:
            log.info("what pod %s has learned of %s is refused: %s", pod, told.policy, error)
            return
        if 0 <= told.era < ERA_MAX:
            bandit.hear(pod, told.tier, Told(told.era, sums))

    def _take_share(self, pod: str, told: ToldShare, snapshot: Snapshot) -> None:
        found = selecting(snapshot, told.policy, told.rule)
        if found is None or not math.isfinite(told.moved):
            return
        wanted = found[2].target_quality_permille
        if wanted is not None and told.quality == wanted / 1000:
            place = Place(told.policy, told.rule, told.router)
            self.lessons.targets[place, told.quality].heard[pod] = told.moved

    def _take_outcome(self, told: ToldOutcome, snapshot: Snapshot) -> None:
        found = selecting(snapshot, told.policy, told.rule)
        if found is None or found[2].by != "Neighbours" or not 0.0 <= told.quality <= 1.0:
            return
        place = Place(told.policy, told.rule, told.router)
        lesson = Lesson(place, told.tier, told.quality, _unpack(told.embedding))
        try:
            self.lessons.take_near(lesson, found[1])
        except ValueError as error:
            log.info("what a pod has learned of %s is refused: %s", told.policy, error)

    # --- pods that are gone -----------------------------------------------------------------

    def _notice_gone(self, now: float) -> None:
        me = self.sharing.pod
        if now - self._heard.get(me, -math.inf) > GONE_S:
            # The store is away: silence says nothing of the others.
            return
        live = {pod for pod, at in self._heard.items() if now - at <= GONE_S}
        for pod in self._heard.keys() - live:
            del self._heard[pod]
            adopt = owner_of(pod, live) == me
            for bandit in self.lessons.bandits().values():
                bandit.lose(pod, adopt=adopt)
            for target in self.lessons.targets.values():
                moved = target.heard.pop(pod, 0.0)
                if adopt:
                    target.moved += moved


def _pack(embedding: Any) -> bytes:
    import numpy as np

    scaled = np.asarray(embedding, np.float32) * _VECTOR_SCALE
    packed: bytes = np.clip(np.rint(scaled), -127, 127).astype(np.int8).tobytes()
    return packed


def _unpack(data: bytes) -> Any:
    import numpy as np

    return np.frombuffer(data, np.int8).astype(np.float32) / _VECTOR_SCALE
