"""What is true now of each endpoint, by endpoint id, each signal with its age.

Requests in flight; the time to the first content of streams and the time of whole answers, by the
size of the prompt; errors, which fade; the speed of answers. Time is an argument everywhere.
"""

import math
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from switchboard_dataplane.errors import Failure
from switchboard_dataplane.signals.admission import BackendQueue, Queues, Waiter
from switchboard_dataplane.signals.average import DECAY_S, Average
from switchboard_dataplane.signals.breaker import Breaker, Ejections, breaker_of_nobody
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.learned import NOBODY, Learner
from switchboard_dataplane.signals.marks import Marks
from switchboard_dataplane.signals.sessions import Histories, Sessions
from switchboard_dataplane.signals.thresholds import QualityTargets, ShareTrackers
from switchboard_dataplane.signals.tier_loads import TierLoads

#: The classes of prompts, by their tokens: up to each of these, and above the last.
PROMPT_CLASSES: Final = (256, 2_048, 16_384)
#: A failed attempt makes an endpoint look so many times slower, until it fades.
ERROR_WEIGHT: Final = 4.0
#: As many errors as are remembered: what has come back must not wait for minutes.
ERRORS_MAX: Final = 8.0
#: Its multiples are spread over [0, 1) as evenly as multiples can be.
GOLDEN_RATIO: Final = (math.sqrt(5.0) - 1.0) / 2.0
#: A shorter answer does not tell how fast an endpoint writes, in tokens; nor does one that came in
#: less than this time, in seconds: something on its way held it back, and let it go at once.
SPEED_TOKENS_MIN: Final = 16
SPEED_TOOK_MIN_S: Final = 0.02
#: More tiers than this were in force once and are gone: their sequences may begin anew.
TURNS_MAX: Final = 100_000
#: Less than this is no error any more.
_ERRORS_MIN: Final = 0.01


def prompt_class(tokens: int) -> int:
    """Return the number of the class that a prompt of so many tokens is in."""
    small, medium, large = PROMPT_CLASSES
    return (tokens > small) + (tokens > medium) + (tokens > large)


def _by_class() -> tuple[Average, ...]:
    return tuple(Average() for _ in range(len(PROMPT_CLASSES) + 1))


@dataclass(slots=True)
class BackendLoad:
    """The requests in flight at all endpoints of a backend: nobody has to sum them.

    ``queue`` is there once a request has waited for the backend, or how long one does mattered.
    """

    in_flight: int = 0
    queue: BackendQueue | None = None


@dataclass(slots=True)
class EndpointSignal:
    """One endpoint's signals; times are the event loop's, in seconds.

    ``ttft_s`` (streams: to the first content) and ``latency_s`` (whole answers: to the head) have
    an average for each class of prompts; ``waiting`` are those in flight without an answer yet;
    ``tokens_per_s`` is how fast single streams were written; a fast one counts at once.
    ``joined_at`` is when the endpoint came or came back, minus infinity if it was there before us.
    ``starts`` says whether that is worth a look.
    ``since`` is always when the attempt began that the news is of.
    """

    backend: BackendLoad = field(default_factory=BackendLoad)
    breaker: Breaker = field(default_factory=breaker_of_nobody)
    engine: EngineLoad | None = None
    in_flight: int = 0
    waiting: int = 0
    ttft_s: tuple[Average, ...] = field(default_factory=_by_class)
    latency_s: tuple[Average, ...] = field(default_factory=_by_class)
    tokens_per_s: Average = field(default_factory=Average)
    errors: float = 0.0
    errors_at: float = -math.inf
    joined_at: float = -math.inf
    starts: bool = False
    _engine_seen: EngineLoad | None = None
    _in_flight_then: int = 0

    def dispatched(self, now: float) -> None:
        """Count an attempt in: it waits until ``heard``, and is in flight until ``released``."""
        if self.engine is not self._engine_seen:
            self._engine_seen, self._in_flight_then = self.engine, self.in_flight
        self.waiting += 1
        self.in_flight += 1
        self.backend.in_flight += 1
        self.breaker.dispatched(now)

    def heard(self) -> None:
        """Count an attempt as one that waits no longer: it was answered, or failed, or given up."""
        self.waiting -= 1

    def answered(
        self, first_s: float, now: float, *, since: float, tokens: int, stream: bool
    ) -> None:
        """Take in an answer that began after ``first_s``, to a prompt of so many ``tokens``."""
        self.waited(first_s, now, tokens=tokens, stream=stream)
        # A stream may still break, and one that breaks is no success; but a breaker that waits for
        # one answer is not to wait for the end of a long one.
        if not stream or self.breaker.state != "closed":
            self.breaker.succeeded(now, since=since)

    def finished(self, now: float, *, since: float) -> None:
        """Take in that a stream came to its end."""
        self.breaker.succeeded(now, since=since)

    def refused(self, now: float, *, since: float) -> None:
        """Take in that the endpoint answered, with an error that is the caller's."""
        self.breaker.succeeded(now, since=since)

    def waited(self, waited_s: float, now: float, *, tokens: int, stream: bool) -> None:
        """Take in that an answer took so long to begin."""
        kind = self.ttft_s if stream else self.latency_s
        kind[prompt_class(tokens)].take_peak(waited_s, now)

    def silent(self, waited_s: float, now: float, *, tokens: int, stream: bool) -> None:
        """Take in that no answer came for so long; that says nothing where longer is expected."""
        known = (self.ttft_s if stream else self.latency_s)[prompt_class(tokens)]
        if not known.counts(now) or waited_s > known.value:
            known.take_peak(waited_s, now)

    def failed(self, failure: Failure, now: float, *, since: float) -> None:
        """Take in a failed attempt."""
        self.errors = min(ERRORS_MAX, self.errors_now(now) + 1.0)
        self.errors_at = now
        self.breaker.failed(failure, now, since=since)

    def released(self, now: float, *, since: float) -> None:
        """Count an attempt out."""
        self.in_flight -= 1
        self.backend.in_flight -= 1
        self.breaker.released(now, since=since)
        if self.backend.queue is not None:
            self.backend.queue.freed(self, now, took_s=now - since)

    def reserve(self) -> None:
        """Count a request in that is being woken, before it is dispatched."""
        self.in_flight += 1
        self.backend.in_flight += 1

    def unreserve(self) -> None:
        """Count it out again."""
        self.in_flight -= 1
        self.backend.in_flight -= 1

    def offer(self, *, after: Waiter | None = None) -> None:
        """Offer a place that was not taken to the next that waits, behind ``after``."""
        if self.backend.queue is not None:
            self.backend.queue.hand_on(self, after=after)

    def wrote(self, output_tokens: int, took_s: float, now: float) -> None:
        """Take in that a stream of so many tokens took so long from its first content to its end.

        A fast one shows what the endpoint can; a slow one may have had a caller that reads slowly.
        """
        if output_tokens >= SPEED_TOKENS_MIN and took_s >= SPEED_TOOK_MIN_S:
            self.tokens_per_s.take_peak(output_tokens / took_s, now)

    def returned(self, now: float) -> None:
        """Take in that the endpoint may serve again: it starts slowly, as a new one does."""
        self.joined_at = now
        self.starts = True

    def errors_now(self, now: float) -> float:
        """Return the errors that still count."""
        if self.errors == 0.0:
            return 0.0
        errors = self.errors * math.exp(-max(0.0, now - self.errors_at) / DECAY_S)
        return errors if errors > _ERRORS_MIN else 0.0

    @property
    def grown(self) -> int:
        """How many more are in flight from here than when the engine's numbers were new."""
        return self.in_flight - self._in_flight_then if self.engine is self._engine_seen else 0

    def penalty(self, now: float) -> float:
        """Return how many times slower its errors make it look: 1 without any."""
        return 1.0 if self.errors == 0.0 else 1.0 + ERROR_WEIGHT * self.errors_now(now)


class SignalTable(dict[str, EndpointSignal]):
    """Signals by endpoint id; asking for an endpoint that has none makes them.

    ``ejected`` are the endpoints that are out, ``marks`` what was told to rest; in ``queues`` are
    the requests that wait for an endpoint below its limit, in ``waking`` those that wait for a
    backend's first; ``tier_loads`` are how busy tiers are that spill. ``learner`` has learned of
    ratings; ``histories`` are what conversations have cost.
    """

    def __init__(self, ejected: Ejections | None = None) -> None:
        super().__init__()
        self.ejected = Ejections() if ejected is None else ejected
        self.ejected.returned = self._returned
        self.marks = Marks()
        self.queues = Queues()
        self.waking = Queues()
        self.tier_loads = TierLoads()
        self.shares = ShareTrackers()
        self.targets = QualityTargets()
        self.sessions = Sessions()
        self.histories = Histories()
        self.learner: Learner = NOBODY
        self.loads: dict[str, BackendLoad] = {}
        self._known: set[str] = set()
        self.turns: dict[tuple[str, str, str], float] = {}

    def __missing__(self, endpoint_id: str) -> EndpointSignal:
        backend = self.backend(endpoint_id.partition("@")[0])
        signal = self[endpoint_id] = EndpointSignal(backend, Breaker(endpoint_id, self.ejected))
        return signal

    def backend(self, name: str) -> BackendLoad:
        """Return the load of a backend, by its name."""
        load = self.loads.get(name)
        if load is None:
            load = self.loads[name] = BackendLoad(queue=self.queues.get(name))
        return load

    def queue(self, name: str) -> BackendQueue:
        """Return the queue of a backend; from now on it is told what its endpoints have free."""
        # Always this one: what is known of a backend may outlive a queue that nobody waited in.
        queue = self.backend(name).queue = self.queues[name]
        return queue

    def turn(self, tier: tuple[str, str, str], chance: Callable[[], float]) -> float:
        """Return the next number in [0, 1) of a tier's own sequence.

        It begins by chance and goes on by the golden ratio, so that every part of [0, 1) gets its
        share of any number of turns, but for a few; chance alone is 50 of 1,000 off at times.
        """
        at = self.turns.get(tier)
        if at is None:
            if len(self.turns) >= TURNS_MAX:
                self.turns.clear()
            at = chance()
        self.turns[tier] = (at + GOLDEN_RATIO) % 1.0
        return at

    def joined(self, endpoint_ids: Iterable[str], now: float, *, new: bool = True) -> None:
        """Take in endpoints that may serve now; those that came start slowly, if they are new."""
        came = set(endpoint_ids) - self._known
        if new:
            for endpoint_id in came:
                self[endpoint_id].returned(now)
        self._known |= came

    def keep_only(self, endpoint_ids: AbstractSet[str]) -> None:
        """Forget endpoints that are gone and have nothing in flight."""
        self._known &= endpoint_ids
        self.ejected.keep_only(endpoint_ids)
        gone = [name for name in self if name not in endpoint_ids and not self[name].in_flight]
        for name in gone:
            del self[name]
        if gone:
            kept = {name.partition("@")[0] for name in self}
            self.loads = {name: load for name, load in self.loads.items() if name in kept}

    def _returned(self, endpoint_id: str, now: float) -> None:
        self[endpoint_id].returned(now)
        queue = self[endpoint_id].backend.queue
        if queue is not None:
            queue.rouse()
