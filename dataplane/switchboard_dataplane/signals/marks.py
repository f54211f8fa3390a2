"""What was told to rest, and until when: credentials and endpoints, remembered across requests.

A mark is a relative time, so that pods can share it without agreeing on a clock. It ends by
itself: its time is capped, a credential that was changed has another identity, and the requests
come back over a while after it rather than all at once. Time and chance are arguments.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from switchboard_dataplane.errors import Failure

#: Quotas renew within minutes, or by the day; an hour bounds what a wrong header can do, and
#: costs one refused request an hour where the quota is a day's. In seconds.
CREDENTIAL_REST_MAX_S: Final = 3_600.0
#: A server that sheds load guesses when it will be well; beyond a minute that is worth nothing.
ENDPOINT_REST_MAX_S: Final = 60.0
#: A refused key or an unpaid bill may be mended at the provider, where nobody tells us: so often
#: one request finds out.
REFUSED_REST_S: Final = 60.0
#: Requests return over this share of the time that was rested, and at most over so many seconds:
#: all of them at once would be refused again.
SPREAD: Final = 0.5
SPREAD_MAX_S: Final = 10.0
#: Another pod is told again only where the end has moved by more than this, in seconds.
NEWS_S: Final = 1.0
#: How often what is over is dropped, in seconds.
SWEEP_S: Final = 60.0

_NOTHING: Final[Mapping[str, "Rest"]] = {}


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something is to rest ``for_s`` seconds from now.

    With ``endpoint`` (an endpoint's id) that endpoint alone; else all that the ``backend`` is
    asked with the ``credential`` of this identity, "" being no credential. ``failure`` says why.
    ``announced``: nothing was refused, an answer only said that its limit is used up.
    """

    backend: str
    failure: Failure
    for_s: float
    credential: str = ""
    endpoint: str = ""
    announced: bool = False

    @property
    def subject(self) -> str:
        """What rests, among all that its backend has."""
        return self.endpoint or credential_subject(self.credential)


class Rest(msgspec.Struct, frozen=True, gc=False):
    """A mark in force: until ``until`` for every request, for some up to ``spread_s`` longer.

    Times are the event loop's, in seconds.
    """

    until: float
    spread_s: float
    failure: Failure
    announced: bool

    def ends(self, chance: float) -> float:
        """Return when it is over for a request of this chance in [0, 1)."""
        return self.until + chance * self.spread_s


def credential_subject(identity: str) -> str:
    """Return the subject of a credential's mark; no endpoint's id is like it."""
    return f"#{identity}"


def spread_of(rested_s: float) -> float:
    """Return over how many seconds requests come back to what has rested so long."""
    return min(SPREAD * rested_s, SPREAD_MAX_S)


def _tell_nobody(_: Mark) -> None:
    pass


class Marks:
    """The marks of one data plane.

    ``on_mark`` is told of each that this pod found itself. ``horizon`` is when the last of them is
    over: from then on there is nothing to look at.
    """

    __slots__ = ("_rests", "_sweep_at", "horizon", "on_mark")

    def __init__(self) -> None:
        self.on_mark: Callable[[Mark], None] = _tell_nobody
        self.horizon = -math.inf
        self._rests: dict[str, dict[str, Rest]] = {}
        self._sweep_at = -math.inf

    def of(self, backend: str) -> Mapping[str, Rest]:
        """Return what rests of a backend, by subject; some of it may be over."""
        return self._rests.get(backend, _NOTHING)

    def put(self, mark: Mark, now: float) -> None:
        """Take in a mark that this pod found itself, and tell of it where it is news."""
        before = self.of(mark.backend).get(mark.subject)
        rest = self.take(mark, now)
        if rest is not None and (before is None or abs(rest.until - before.until) > NEWS_S):
            self.on_mark(mark)

    def take(self, mark: Mark, now: float) -> Rest | None:
        """Take in a mark that another pod found; return what came of it.

        One that makes no sense is passed over, and one that was announced where the same was
        refused: answers that were on their way say nothing new.
        """
        # Not "for_s <= 0": a peer may send anything, and NaN compares with nothing.
        if not mark.for_s > 0.0:
            return None
        before = self.of(mark.backend).get(mark.subject)
        if mark.announced and before is not None and not before.announced and before.until > now:
            return None
        spread_s = spread_of(mark.for_s)
        cap_s = ENDPOINT_REST_MAX_S if mark.endpoint else CREDENTIAL_REST_MAX_S
        until = now + min(mark.for_s, cap_s - spread_s)
        rest = Rest(until, spread_s, mark.failure, mark.announced)
        if now >= self._sweep_at:
            self._sweep(now)
        self._rests.setdefault(mark.backend, {})[mark.subject] = rest
        self.horizon = max(self.horizon, until + spread_s)
        return rest

    def _sweep(self, now: float) -> None:
        """Drop what is over: credentials that were changed, endpoints that are gone."""
        self._sweep_at = now + SWEEP_S
        kept = {
            backend: {subject: rest for subject, rest in rests.items() if rest.ends(1.0) > now}
            for backend, rests in self._rests.items()
        }
        self._rests = {backend: rests for backend, rests in kept.items() if rests}
