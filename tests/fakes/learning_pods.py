"""Pods as far as learning goes, over a store in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from fakes.outcomes import outcome
from fakes.stores import OURS, SCOPE, MemoryRig
from switchboard_dataplane.learning.building import build_learning
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.journal import (
    Journal,
)
from switchboard_dataplane.learning.noting import Noted
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.choices import Choices
from switchboard_dataplane.telemetry.instruments import Counter
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_policy.store import Retention, StoreReader
from switchboard_policy.store.signing import check_record

KEEP = Retention(entries=1_000, age_ms=3_600_000)
AT = datetime(2026, 1, 1, tzinfo=UTC)

_either = msgspec.json.Decoder(Decided | Rating)


@dataclass
class Pod:
    """A pod as far as learning goes. ``learned`` is what its learner heard."""

    name: str
    source: StoreReader
    keep: Retention = KEEP
    learned: list[tuple[str, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.sharing = Sharing(
            self.source, pod=self.name, keyring=lambda: OURS, clock=loop.time, random=Random(7)
        )
        attempts = Counter("attempts", ("backend", "reason", "arm"), "")
        cost = Counter("cost", ("backend", "policy", "rule", "tier", "arm"), "")
        self.choices = Choices(attempts, cost)
        self.learning = build_learning(
            self.source,
            sharing=self.sharing,
            keyring=lambda: OURS,
            keep=self.keep,
            choices=self.choices,
            clock=loop.time,
            today=lambda: AT + timedelta(seconds=loop.time()),
            random=Random(7),
        )
        self.journal.learners.append(self._learn)

    @property
    def journal(self) -> Journal:
        return self.learning.journal

    def answer(
        self,
        decision: str,
        *,
        turn: int = 0,
        continued: int = 0,
        texts: bool = False,
        **fields: Any,
    ) -> None:
        """It has answered a request, just now."""
        noted = Noted(decision, texts=texts, judged=False)
        noted.turn, noted.continued = turn, continued
        noted.readings = fields.pop("readings", {})
        now = asyncio.get_running_loop().time()
        self.journal.fold([ended(noted, at=now, **fields)])

    def hear(self, decision: str, value: float, *, comment: str = "") -> None:
        """A caller rates a decision at this pod."""
        self.journal.take_feedback(
            Rating(
                decision=decision,
                value=value,
                source="feedback",
                at=AT + timedelta(seconds=asyncio.get_running_loop().time()),
                comment=comment,
            )
        )

    def _learn(self, decision: Decided, rating: Rating, readings: object) -> None:
        del readings
        self.learned.append((decision.id, rating.source, rating.value))


def ended(noted: Noted | None, **fields: Any) -> Outcome:
    said = {"policy": "ai/chat", "rule": "default", "tier": "small", "backend": "ai/small"}
    return outcome(**{**said, **fields}, noted=noted)


@asynccontextmanager
async def running(*pods: Pod) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(pod.sharing.run()) for pod in pods]
    tasks += [asyncio.create_task(pod.journal.log.run()) for pod in pods]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def logged(rig: MemoryRig) -> list[Decided | Rating]:
    """What the store's log holds, all of it signed."""
    records = [record for _, record in rig.store.pods(SCOPE).decisions.values()]
    for record in records:
        check_record(OURS, record)
    return [_either.decode(record.body) for record in records]
