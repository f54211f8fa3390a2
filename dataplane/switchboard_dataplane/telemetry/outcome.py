"""The outcome of a request, and the queue that takes outcomes off the hot path."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from switchboard_dataplane.learning.noting import Noted

log = logging.getLogger(__name__)

#: Outcomes that may wait to be folded; more than that are counted and dropped.
QUEUE_MAX: Final = 10_000
#: How long outcomes gather before they are folded, in seconds.
FOLD_DELAY_S: Final = 0.05
#: Folded in one go; more would hold up the requests that are being served, in outcomes.
FOLD_BATCH: Final = 50


class Attempt:
    """One attempt; ``failure`` is its class, "" if it answered, "cancelled" if the caller left.

    ``lost`` says that it was ended because another's content came first: ``failure`` is then
    "timeout" if its firstToken was over, else "lost". Tokens and cost are those of a stream that
    broke and was answered anew, or of the prompt of one that was given up in a race; the last
    attempt's are the outcome's.
    """

    def __init__(
        self,
        backend: str,
        endpoint: str,
        tier: str,
        failure: str,
        duration_s: float,
        *,
        lost: bool = False,
    ) -> None:
        self.backend: Final = backend
        self.endpoint: Final = endpoint
        self.tier: Final = tier
        self.failure = failure
        self.duration_s = duration_s
        self.lost: Final = lost
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_microdollars: float | None = None


#: Who was first: the attempt that another joined, one of those that joined it, or nobody.
Won = Literal["first", "second", "none"]


class RaceEnd(NamedTuple):
    """The end of a race: the tier of the attempt that was joined, and who was first."""

    tier: str
    won: Won


#: Why a request was made on another one's account.
Purpose = Literal["step", "candidate", "agreement", "judge", "classifier", "mirror", "sample"]


class Aside:
    """A request that the gateway made on another one's account, to a backend of its policy.

    A cascade's ``step``, one ``candidate`` of several answers, a second opinion (``agreement``), a
    ``judge`` of an answer or of a ``sample`` of them, a ``classifier`` or a ``mirror``. ``failure``
    is a word of a closed set: an error's code, "" where an answer came; ``verdict`` what it said,
    in a word. Tokens and cost are of all its ``attempts``; the cost is None where a backend names
    no prices.
    """

    def __init__(self, purpose: Purpose, backend: str, failure: str, duration_s: float) -> None:
        self.purpose: Final = purpose
        self.backend: Final = backend
        self.failure: Final = failure
        self.duration_s: Final = duration_s
        self.verdict = ""
        self.attempts: tuple[Attempt, ...] = ()
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_microdollars: float | None = None


class Outcome:
    """What became of a request.

    ``status`` is the one that the caller got (0 if it left before), ``error`` the code of the
    error, "" without one. ``backend``, ``endpoint``, ``tier``, ``provider`` and
    ``upstream_model`` are those of the last attempt, "" without one; ``model`` is what the caller
    asked for. ``client`` is who called, as "namespace/name", "" where nobody was asked. Tokens and
    cost are None where nothing was served; ``estimated`` says that the
    upstream reported no usage. Prices are those of the snapshot that the request was bound to.
    Filled in by the call that it is made of; nobody changes it after.
    ``panic`` says that ejections were ignored when the last attempt's endpoint was picked.
    ``spills`` are the tiers that handed the request on, each with the threshold that it had passed.
    ``races`` are those among its attempts. ``breaks`` are the backends, in order, whose streams
    broke after content had gone out, ``retries_denied`` the repeats that the retry budget had no
    room for. ``arm`` is the side of the policy's comparison that the caller is on. ``asides`` were
    made on its account before it ended. ``judged`` are a cascade's tiers, in order, each with
    what came of its answer: "accepted", "unjudged" or why the next one was asked. ``ensemble`` says
    in a word what chose among several answers, "" where there was one. ``held`` says that a stream
    was held back, so it did not go out as fast as it was written. ``noted`` is what is known
    beside it where the policy learns, else None.
    """

    def __init__(self, *, at: float, api: str, status: int, duration_s: float) -> None:
        self.at: Final = at
        self.api: Final = api
        self.status: Final = status
        self.duration_s: Final = duration_s
        self.client = ""
        self.model = ""
        self.stream = False
        self.policy = ""
        self.rule = ""
        self.tier = ""
        self.backend = ""
        self.endpoint = ""
        self.provider = ""
        self.upstream_model = ""
        self.revision = ""
        self.attempts: tuple[Attempt, ...] = ()
        self.races: tuple[RaceEnd, ...] = ()
        self.breaks: tuple[str, ...] = ()
        self.retries_denied = 0
        self.panic = False
        self.spills: tuple[tuple[str, str], ...] = ()
        self.guardrails: tuple[str, ...] = ()
        self.expression_errors = 0
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens = 0
        self.estimated = False
        self.cost_microdollars: float | None = None
        self.ttft_s: float | None = None
        self.error = ""
        self.caller_left = False
        self.arm = ""
        self.asides: tuple[Aside, ...] = ()
        self.judged: tuple[tuple[str, str], ...] = ()
        self.ensemble = ""
        self.held = False
        self.noted: Noted | None = None

    @property
    def spent_microdollars(self) -> float:
        """What answer, attempts before it and asides cost, as far as prices are known."""
        spent = self.cost_microdollars or 0.0
        for attempt in self.attempts:
            spent += attempt.cost_microdollars or 0.0
        for aside in self.asides:
            spent += aside.cost_microdollars or 0.0
        return spent

    @property
    def answered(self) -> bool:
        """Whether the last attempt gave an answer."""
        return bool(self.attempts) and not self.attempts[-1].failure


#: Takes in a batch of outcomes, in the order in which the requests ended.
Observer = Callable[[Sequence[Outcome]], None]


@dataclass(slots=True)
class OutcomeQueue:
    """A bounded queue of outcomes, folded into the observers in batches, off the hot path.

    ``later`` calls a function after some seconds. ``dropped`` counts what found the queue full.
    """

    observers: Sequence[Observer]
    later: Callable[[float, Callable[[], None]], object]
    dropped: int = 0
    _waiting: deque[Outcome] = field(default_factory=deque[Outcome])
    _due: bool = False

    def put(self, outcome: Outcome) -> None:
        """Append an outcome; never fails and never waits."""
        if len(self._waiting) >= QUEUE_MAX:
            self.dropped += 1
            return
        self._waiting.append(outcome)
        if not self._due:
            self._due = True
            self.later(FOLD_DELAY_S, self._fold)

    def drain(self) -> None:
        """Fold all that waits, at the end of the process."""
        while self._waiting:
            self._fold_batch()

    def _fold(self) -> None:
        self._fold_batch()
        self._due = bool(self._waiting)
        if self._due:
            # Not at once: what the sockets brought in meanwhile comes first.
            self.later(0, self._fold)

    def _fold_batch(self) -> None:
        count = min(FOLD_BATCH, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(count)]
        for observer in self.observers:
            try:
                observer(batch)
            except Exception:
                log.exception("an observer of outcomes failed")
