"""Who leads: one replica at a time, by a Lease, with an epoch that only ever rises.

The rules are those of Kubernetes' own leader election: a replica that saw no change of the Lease
for its whole duration, by its own monotonic clock, may take it; the resourceVersion makes a write
of two at once impossible. A leader that cannot renew in time stops before another may start, and
the store's fence (the epoch) stops one that slept through that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Final, Protocol, TypeVar

from switchboard_operator.errors import ApiAway, Conflict, KubeError
from switchboard_operator.kube import LeaseRecord
from switchboard_policy.compiler.world import Name

DURATION_S: Final = 4
"""How long others wait for a leader that says nothing."""
RENEW_DEADLINE_S: Final = 3.0
"""How long a leader goes on without a renewal; shorter than the duration."""
RETRY_S: Final = 0.5
"""Between two renewals; others look at the Lease twice as often."""
TRIES: Final = 3
"""A call may take this part of the renew deadline: one that hangs leaves time for the next."""
JITTER: Final = 0.2
SILENCE_S: Final = 60.0
"""Between two warnings of the same trouble with the Lease."""

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class Leases(Protocol):
    """The calls that an election makes; all may raise KubeError."""

    async def get_lease(self, name: Name) -> LeaseRecord | None:
        """Return the Lease; None if there is none yet."""
        ...

    async def create_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Create it. Raises Conflict."""
        ...

    async def update_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Replace it. Raises Conflict."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """A replica: the Pod that it runs in ("" if none) and a token of this process."""

    pod: str
    token: str

    def __str__(self) -> str:
        return f"{self.pod}_{self.token}" if self.pod else self.token

    def replaces(self, holder: str) -> bool:
        """Say whether the holder is an earlier process of this Pod: then it has ended."""
        return bool(self.pod) and holder.rpartition("_")[0] == self.pod


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a Lease lasts, in seconds.

    ``duration_s`` is how long others wait for a silent leader, and ``renew_deadline_s``, which is
    less, how long that one goes on without a renewal. ``retry_s`` is between two renewals.
    """

    duration_s: int = DURATION_S
    renew_deadline_s: float = RENEW_DEADLINE_S
    retry_s: float = RETRY_S

    @property
    def call_s(self) -> float:
        """How long a call may take."""
        return self.renew_deadline_s / TRIES


@dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic seconds for what has passed, wall time for what people read, and chance."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    random: Random


class Leadership:
    """This replica's part in the election.

    ``floor`` returns the highest epoch that the store holds, 0 while the store is away.
    """

    def __init__(
        self,
        leases: Leases,
        name: Name,
        identity: Identity,
        *,
        clock: Clock,
        floor: Callable[[], Awaitable[int]],
        terms: Terms | None = None,
    ) -> None:
        self._leases = leases
        self._name = name
        self._identity = identity
        self._clock = clock
        self._floor = floor
        self._terms = terms or Terms()
        self._listeners: list[Callable[[], None]] = []
        self._seen: LeaseRecord | None = None
        self._seen_at = 0.0
        self._epoch: int | None = None
        self._valid_until = 0.0
        self._warned_at: float | None = None

    @property
    def epoch(self) -> int | None:
        """The epoch of this replica's leadership; None while it does not lead."""
        if self._epoch is not None and self._clock.monotonic() < self._valid_until:
            return self._epoch
        return None

    @property
    def holder(self) -> str:
        """Who leads, as far as is known."""
        return self._seen.holder if self._seen else ""

    def listen(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called after every gain and every loss."""
        self._listeners.append(changed)

    async def run(self) -> None:
        """Take part until cancelled; then release."""
        try:
            while True:
                await self._round()
                await self._clock.sleep(self._wait_s())
        finally:
            await self._release()

    def step_down(self, why: str) -> None:
        """Stop leading at once; a later round may gain the Lease with a higher epoch."""
        if self._epoch is not None:
            log.warning("no longer the leader: %s", why)
            self._epoch = None
            self._changed()

    async def _round(self) -> None:
        # Past its term a replica may not go on with its epoch, even if nobody took the Lease: what
        # came meanwhile was neither published nor reported, and a new epoch does all of it.
        self._step_down_if_past(self._valid_until)
        try:
            if self._epoch is None:
                await self._try_to_gain()
            else:
                await self._renew(self._epoch)
        except KubeError as error:
            self._warn(error)
        else:
            if self._warned_at is not None:
                log.info("the Lease %s: in reach again", self._name)
                self._warned_at = None
        self._step_down_if_past(self._valid_until)

    def _wait_s(self) -> float:
        """Return the time until the next round: by chance, so that replicas do not keep step."""
        wait_s = self._terms.retry_s * (1 + JITTER * self._clock.random.random())
        if self._epoch is not None:
            return wait_s
        left_s = self._seen_at + self._duration_s() - self._clock.monotonic()
        return min(wait_s / 2, left_s) if left_s > 0 else wait_s / 2

    def _warn(self, error: KubeError) -> None:
        now = self._clock.monotonic()
        if self._warned_at is None or now - self._warned_at >= SILENCE_S:
            log.warning("the Lease %s: %s", self._name, error)
            self._warned_at = now

    async def _try_to_gain(self) -> None:
        began = self._clock.monotonic()
        held = await self._in_time(self._leases.get_lease(self._name))
        self._look(held, began)
        if held is not None and not self._is_free(held, began):
            return
        known = held.epoch if held else 0
        record = self._record(
            epoch=max(known, await self._floor_in_time()) + 1,
            transitions=held.transitions + 1 if held else 0,
            version=held.version if held else "",
        )
        write = self._leases.update_lease if held else self._leases.create_lease
        began = self._clock.monotonic()
        try:
            self._look(await self._in_time(write(self._name, record)), began)
        except Conflict:
            return
        self._epoch, self._valid_until = record.epoch, began + self._terms.renew_deadline_s
        log.info("leading with epoch %d as %s", record.epoch, self._identity)
        self._changed()

    async def _renew(self, epoch: int) -> None:
        valid_until = self._valid_until
        if await self._write_own(str(self._identity), epoch):
            # One that came too late is none.
            self._step_down_if_past(valid_until)
            return
        holder = self.holder or "nobody"
        self.step_down(f"the Lease is held by {holder}")

    def _step_down_if_past(self, valid_until: float) -> None:
        if self._epoch is not None and self._clock.monotonic() >= valid_until:
            self.step_down(f"the Lease was not renewed for {self._terms.renew_deadline_s:g} s")

    async def _release(self) -> None:
        if self._epoch is None:
            return
        epoch, self._epoch = self._epoch, None
        self._changed()
        try:
            await self._write_own("", epoch)
        except KubeError as error:
            log.warning("the Lease %s was not released: %s", self._name, error)

    async def _write_own(self, holder: str, epoch: int) -> bool:
        """Write this replica's own Lease; False where it is another's by now, or gone.

        A call whose answer was lost may have changed it, and so may a person.
        """
        for _ in range(TRIES):
            began = self._clock.monotonic()
            assert self._seen is not None  # noqa: S101 - a leader has seen its Lease
            record = replace(
                self._seen,
                holder=holder,
                duration_s=self._terms.duration_s,
                renewed=self._timestamp(),
                epoch=epoch,
            )
            try:
                self._look(
                    await self._in_time(self._leases.update_lease(self._name, record)), began
                )
            except Conflict:
                held = await self._in_time(self._leases.get_lease(self._name))
                self._look(held, began)
                if held is None or held.holder != str(self._identity):
                    return False
            else:
                self._valid_until = began + self._terms.renew_deadline_s
                return True
        return True

    async def _in_time(self, call: Awaitable[_Answer]) -> _Answer:
        """Await a call, but not for so long that there would be no time for another."""
        try:
            async with asyncio.timeout(self._terms.call_s):
                return await call
        except TimeoutError as error:
            raise ApiAway(f"no answer within {self._terms.call_s:g} s") from error

    async def _floor_in_time(self) -> int:
        """Return the store's epoch; 0 of a store that hangs, as of one that is away."""
        try:
            async with asyncio.timeout(self._terms.call_s):
                return await self._floor()
        except TimeoutError:
            return 0

    def _look(self, record: LeaseRecord | None, at: float) -> None:
        if record is None or self._seen is None or record.version != self._seen.version:
            self._seen, self._seen_at = record, at

    def _is_free(self, held: LeaseRecord, now: float) -> bool:
        if held.holder in ("", str(self._identity)) or self._identity.replaces(held.holder):
            return True
        return now - self._seen_at >= self._duration_s()

    def _duration_s(self) -> float:
        """Return for how long the holder's last word counts; the holder says it."""
        return (self._seen.duration_s if self._seen else 0) or self._terms.duration_s

    def _record(self, *, epoch: int, transitions: int, version: str) -> LeaseRecord:
        now = self._timestamp()
        return LeaseRecord(
            holder=str(self._identity),
            duration_s=self._terms.duration_s,
            acquired=now,
            renewed=now,
            transitions=transitions,
            epoch=epoch,
            version=version,
        )

    def _changed(self) -> None:
        for changed in self._listeners:
            changed()

    def _timestamp(self) -> str:
        return self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
