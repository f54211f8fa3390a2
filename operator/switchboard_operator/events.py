"""Events of objects: one a transition of a condition, at a bounded rate, lost without harm.

The status is what counts; an Event tells somebody who looks at `kubectl describe` what became of
an edit, and when.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from switchboard_operator.errors import KubeError
from switchboard_operator.lease import Clock
from switchboard_operator.resources import ObjectKey
from switchboard_operator.status import Status, Verdict
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.conditions import (
    ACCEPTED,
    DEGRADED,
    PROGRAMMED,
    RESOLVED_REFS,
    Reason,
)

EVENTS_PER_S: Final = 10
"""A fleet-wide change is told in the statuses; the API server keeps Events for an hour."""
WAITING_MAX: Final = 256
"""More are dropped, the oldest first: who looks wants to know what is so now."""
MESSAGE_CHARACTERS_MAX: Final = 1024
"""The API server refuses a longer one."""
SILENCE_S: Final = 60.0
"""Between two warnings of the same trouble with Events."""
NOT_DEGRADED: Final = "NotDegraded"
"""The reason of an Event that tells of the end of Degraded."""

#: The other types only sum these up.
_TOLD: Final = (ACCEPTED, RESOLVED_REFS, PROGRAMMED, DEGRADED)
_BAD: Final = frozenset({Reason.REFUSED_BY_POD, Reason.STORE_UNAVAILABLE})

log = logging.getLogger(__name__)


class Transition(NamedTuple):
    """What an Event says."""

    reason: str
    message: str
    warning: bool


class Posting(Protocol):
    """The call that is made."""

    async def record_event(
        self,
        about: Name,
        *,
        uid: str,
        warning: bool,
        reason: str,
        message: str,
        at: str,
        kind: str = "ConfigMap",
    ) -> None:
        """Post an Event. Raises KubeError."""
        ...


def transitions(before: Status | None, after: Status) -> Iterator[Transition]:
    """Yield what changed in a condition's status or reason, once a reason.

    That all is well with a new object is one Event: it is Programmed.
    """
    told = set[str]()
    for of in _TOLD:
        was = before.verdict(of) if before else None
        now = after.verdict(of)
        if now is None:
            if was is not None:
                yield Transition(NOT_DEGRADED, f"{DEGRADED} no more", warning=False)
            continue
        same = was is not None and (was.holds, was.reason) == (now.holds, now.reason)
        begins_well = was is None and now.holds and of in (ACCEPTED, RESOLVED_REFS)
        if same or begins_well or now.reason in told:
            continue
        told.add(now.reason)
        yield Transition(str(now.reason), _sentence(now), warning=_is_bad(now))


class Announcer:
    """The Events that are to be posted.

    ``leads`` says whether this replica may post: what waits when it may not is dropped. ``done`` is
    told each one's outcome for the metrics.
    """

    def __init__(
        self,
        posting: Posting,
        *,
        clock: Clock,
        leads: Callable[[], bool],
        done: Callable[[str], None],
    ) -> None:
        self._posting = posting
        self._clock = clock
        self._leads = leads
        self._done = done
        self._waiting = deque[tuple[ObjectKey, str, Transition, str]]()
        self._wake = asyncio.Event()
        self._warned_at = float("-inf")

    def tell(self, key: ObjectKey, uid: str, before: Status | None, after: Status) -> None:
        """Have the transitions between two statuses of an object told."""
        for transition in transitions(before, after):
            self.announce(key, uid, transition)

    def announce(self, key: ObjectKey, uid: str, transition: Transition) -> None:
        """Have one thing told of an object."""
        if len(self._waiting) == WAITING_MAX:
            self._waiting.popleft()
            self._done("dropped")
        self._waiting.append((key, uid, transition, _timestamp(self._clock.now())))
        self._wake.set()

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            await self._wake.wait()
            while self._waiting:
                if self._leads():
                    await self._post(*self._waiting.popleft())
                    await self._clock.sleep(1 / EVENTS_PER_S)
                else:
                    self._waiting.popleft()
                    self._done("dropped")
            self._wake.clear()

    async def _post(self, key: ObjectKey, uid: str, what: Transition, at: str) -> None:
        try:
            await self._posting.record_event(
                key.name,
                uid=uid,
                warning=what.warning,
                reason=what.reason,
                message=what.message,
                at=at,
                kind=str(key.kind),
            )
        except KubeError as error:
            self._done("failed")
            if (now := self._clock.monotonic()) - self._warned_at >= SILENCE_S:
                self._warned_at = now
                log.warning("an Event about %s: %s", key, error)
        else:
            self._done("posted")


def _is_bad(verdict: Verdict) -> bool:
    if verdict.type == DEGRADED:
        return True
    if verdict.type == PROGRAMMED:
        return verdict.reason in _BAD
    return not verdict.holds


def _sentence(verdict: Verdict) -> str:
    text = f"{verdict.type}={verdict.status}: {verdict.message}"
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def _timestamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
