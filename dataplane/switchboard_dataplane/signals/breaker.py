"""Ejection: which endpoints are left out because their answers, or their probes, have failed.

An endpoint's breaker opens after failures in a row, or at a rate of failures among enough of its
answers. When its time is over it is *due*: one request is let through, whose answer closes it or
opens it again. News of a request that began before the state did says nothing about the state, so
neither a late success nor a late timeout moves it. Time and chance are arguments.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from typing import Final, Literal

from switchboard_dataplane.acyclic import mypyc_attr
from switchboard_dataplane.errors import Failure
from switchboard_policy import ir

#: The rate of failures is that of the last 5 to 10 seconds.
WINDOW_S: Final = 5.0
#: Below this number of answers a rate says nothing.
ANSWERS_MIN: Final = 20
#: Failures further apart are no row, in seconds: a caller that leaves tells nothing of the answers
#: in between.
ROW_S: Final = 60.0
#: By how much the time that a breaker stays open may be less: pods do not ask again all at once.
OPEN_JITTER: Final = 0.2
#: What speaks against an endpoint. What a credential, a quota, a name or a caller is to blame for
#: shows that the endpoint answers.
COUNTED: Final[frozenset[Failure]] = frozenset(
    {"connect", "timeout", "reset", "overloaded", "server_error", "protocol"}
)

State = Literal["closed", "open", "half_open"]


def _default_rule(_: str) -> ir.Breaker:
    return ir.Breaker()


def _always_there(_: str) -> bool:
    return True


def _no_chance() -> float:
    return 0.0


def _nobody_hears(_: str, __: float) -> None:
    return


class Era:
    """A time in which the same endpoints are left out: another object for each."""

    __slots__ = ()


class Ejections(dict[str, float]):
    """The endpoints that are left out, by id: since when. Empty in normal times.

    ``rule_of`` returns the rule of a backend by its name, ``is_there`` whether an endpoint (by id)
    is one that decisions may pick at all, ``chance`` a number in [0, 1).
    """

    __slots__ = ("_breakers", "_chance", "_due", "counts", "era", "is_there", "returned", "rule_of")

    def __init__(
        self,
        *,
        rule_of: Callable[[str], ir.Breaker] = _default_rule,
        is_there: Callable[[str], bool] = _always_there,
        chance: Callable[[], float] = _no_chance,
    ) -> None:
        super().__init__()
        #: How many endpoints of each backend are left out; a backend that has none is not in it.
        self.counts: dict[str, int] = {}
        #: What was made of those that are left out may be remembered for as long.
        self.era = Era()
        self.rule_of = rule_of
        self.is_there = is_there
        #: Hears the id of an endpoint that may serve again, and when.
        self.returned: Callable[[str, float], None] = _nobody_hears
        self._chance = chance
        self._breakers: dict[str, Breaker] = {}
        # (when it is due, its id), by backend; what is no longer so is dropped when it is met.
        self._due: dict[str, list[tuple[float, str]]] = {}

    def due(self, backend: str, now: float) -> str:
        """Return the id of an endpoint of the backend that one request may try, "" without one."""
        queue = self._due.get(backend)
        while queue:
            at, endpoint_id = queue[0]
            if at > now:
                return ""
            breaker = self._breakers.get(endpoint_id)
            if breaker is not None and breaker.due_at == at and breaker.unwell_since is None:
                return endpoint_id
            heapq.heappop(queue)
        self._due.pop(backend, None)
        return ""

    def breaker_of(self, endpoint_id: str) -> "Breaker | None":
        """Return the breaker of an endpoint that is left out."""
        return self._breakers.get(endpoint_id)

    def keep_only(self, endpoint_ids: Iterable[str]) -> None:
        """Forget the endpoints that are gone: one that comes back begins anew."""
        for gone in self.keys() - endpoint_ids:
            self._breakers[gone].reset()

    def put_out(self, breaker: "Breaker", now: float) -> None:
        """Leave an endpoint out from now on, if it is not already."""
        if breaker.endpoint_id not in self:
            self[breaker.endpoint_id] = now
            self._breakers[breaker.endpoint_id] = breaker
            self.counts[breaker.backend] = self.counts.get(breaker.backend, 0) + 1
            self.era = Era()

    def let_in(self, breaker: "Breaker", now: float) -> None:
        """Let an endpoint serve again, if it is left out."""
        if breaker.endpoint_id in self:
            self.forget(breaker)
            self.returned(breaker.endpoint_id, now)

    def forget(self, breaker: "Breaker") -> None:
        """Know no longer that an endpoint is left out."""
        if self.pop(breaker.endpoint_id, None) is not None:
            del self._breakers[breaker.endpoint_id]
            self.era = Era()
            self.counts[breaker.backend] -= 1
            if not self.counts[breaker.backend]:
                del self.counts[breaker.backend]

    def queue(self, breaker: "Breaker", due_at: float) -> None:
        """Remember when an endpoint is due."""
        heapq.heappush(self._due.setdefault(breaker.backend, []), (due_at, breaker.endpoint_id))

    def open_for_s(self, rule: ir.Breaker) -> float:
        """Return how long a breaker stays open this time."""
        return rule.open_for_ms / 1000 * (1 - OPEN_JITTER * self._chance())


@mypyc_attr(acyclic=True)
class Breaker:
    """The breaker of one endpoint, and what its probes say.

    ``since`` is always when the attempt began that the news is of. ``due_at`` is when an open one
    lets a request through, ``changed_at`` when ``state`` began, ``opened_at`` when it ceased to be
    closed, ``why`` the last failure that opened it; ``unwell_since`` is when its probes began to
    say that it is unwell.
    """

    __slots__ = (
        "_answers",
        "_answers_before",
        "_ejections",
        "_failed_at",
        "_failures",
        "_failures_before",
        "_in_a_row",
        "_window_at",
        "backend",
        "changed_at",
        "due_at",
        "endpoint_id",
        "opened_at",
        "state",
        "unwell_since",
        "why",
    )

    def __init__(self, endpoint_id: str, ejections: Ejections) -> None:
        self.endpoint_id = endpoint_id
        self.backend = endpoint_id.partition("@")[0]
        self._ejections = ejections
        self._begin()

    def _begin(self) -> None:
        self.state: State = "closed"
        self.changed_at = self.opened_at = self.due_at = self._window_at = -math.inf
        self.unwell_since: float | None = None
        self.why = ""
        self._failed_at = -math.inf
        self._in_a_row = self._answers = self._failures = 0
        self._answers_before = self._failures_before = 0

    def dispatched(self, now: float) -> None:
        """An attempt begins; of an open breaker that is due, it is the one that is let through."""
        if self.state == "open" and now >= self.due_at:
            self._become("half_open", now)
            self.due_at = math.inf

    def succeeded(self, now: float, *, since: float) -> None:
        """Take in an answer."""
        if since < self.changed_at:
            return
        if self.state == "closed":
            self._in_a_row = 0
            if now - self._window_at >= WINDOW_S:
                self._turn(now)
            self._answers += 1
        else:
            self._close(now)

    def failed(self, failure: Failure, now: float, *, since: float) -> None:
        """Take in a failure of the attempt."""
        if since < self.changed_at:
            return
        if failure not in COUNTED:
            if self.state == "half_open":
                # Not what was asked for, but an answer.
                self._close(now)
            return
        if self.state == "closed":
            self._count(now)
            # The streams of one that went away may all break: nobody is left out by that.
            if self._too_many() and self._ejections.is_there(self.endpoint_id):
                self._open(failure, now)
        elif self.state == "half_open":
            self._open(failure, now)

    def released(self, now: float, *, since: float) -> None:
        """An attempt is over; one that was let through and brought no news makes room."""
        if self.state == "half_open" and since == self.changed_at:
            self._become("open", now)
            self._wait_until(now)

    def probed(self, now: float, *, well: bool) -> None:
        """Take in what the probes say now."""
        if not well:
            if self.unwell_since is None:
                self.unwell_since = now
            self._ejections.put_out(self, now)
        elif self.unwell_since is not None:
            self.unwell_since = None
            if self.state == "closed":
                self._ejections.let_in(self, now)
            elif self.state == "open":
                self._ejections.queue(self, self.due_at)

    def reset(self) -> None:
        """Forget everything."""
        self._ejections.forget(self)
        self._begin()

    def _count(self, now: float) -> None:
        if now - self._window_at >= WINDOW_S:
            self._turn(now)
        self._answers += 1
        self._failures += 1
        self._in_a_row = self._in_a_row + 1 if now - self._failed_at <= ROW_S else 1
        self._failed_at = now

    def _turn(self, now: float) -> None:
        """Begin another window; the one before counts too, if it is the last."""
        recent = now - self._window_at < 2 * WINDOW_S
        self._answers_before = self._answers if recent else 0
        self._failures_before = self._failures if recent else 0
        self._answers = self._failures = 0
        self._window_at = now

    def _too_many(self) -> bool:
        rule = self._ejections.rule_of(self.backend)
        if self._in_a_row >= rule.consecutive_failures:
            return True
        answers = self._answers + self._answers_before
        failures = self._failures + self._failures_before
        return answers >= ANSWERS_MIN and failures * 1000 >= answers * rule.failure_rate_permille

    def _open(self, failure: Failure, now: float) -> None:
        self.why = failure
        if self.state == "closed":
            self.opened_at = now
        self._become("open", now)
        rule = self._ejections.rule_of(self.backend)
        self._wait_until(now + self._ejections.open_for_s(rule))
        self._ejections.put_out(self, now)

    def _close(self, now: float) -> None:
        unwell_since = self.unwell_since
        self._begin()
        self._become("closed", now)
        self.unwell_since = unwell_since
        if unwell_since is None:
            self._ejections.let_in(self, now)

    def _become(self, state: State, now: float) -> None:
        self.state = state
        self.changed_at = now

    def _wait_until(self, due_at: float) -> None:
        self.due_at = due_at
        self._ejections.queue(self, due_at)


def breaker_of_nobody() -> Breaker:
    """Return a breaker that no decision looks at, for signals of no endpoint."""
    return Breaker("", Ejections())
