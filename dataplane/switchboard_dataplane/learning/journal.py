"""What was decided and how it was rated: remembered, logged, told to peers and to who learns.

It takes in outcomes in batches, after the metrics did, and ratings from wherever they come. All of
it is off the path of requests, and bounded.
"""

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from switchboard_dataplane.learning.decision_log import DecisionLog
from switchboard_dataplane.learning.decisions import Decided, Learn
from switchboard_dataplane.learning.early import Early
from switchboard_dataplane.learning.gathering import Gathering, Repeats
from switchboard_dataplane.learning.noting import Noted
from switchboard_dataplane.learning.ratings import Rating, Source
from switchboard_dataplane.learning.recent import Recent, Remembered
from switchboard_dataplane.learning.records import decided, implied
from switchboard_dataplane.learning.regenerations import Regenerations
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.choices import Choices, Whose
from switchboard_dataplane.telemetry.outcome import Outcome

log = logging.getLogger(__name__)

RATINGS: Final = "ratings"
TURNS: Final = "turns"
CONTINUED: Final = "continued"
#: Ratings that come together are told together, in seconds, and so many at once.
RATINGS_GATHER_S: Final = 0.2
RATINGS_TOLD_MAX: Final = 200
#: Turns are told together, in seconds, and so many at once.
TURNS_GATHER_S: Final = 0.5
TURNS_TOLD_MAX: Final = 4_096
#: Ratings of a decision by one source that are taken in: who says much keeps nobody else out.
RATINGS_MAX: Final = 16
#: Decisions of other pods whose ratings are counted.
FOREIGN_MAX: Final = 10_000

#: A turn, and how long before the word it was asked, or gone on from, in milliseconds.
_TURN: Final = struct.Struct(">QI")
_AGE_MAX_MS: Final = 2**32 - 1

_ratings_decoder = msgspec.json.Decoder(list[Rating])


@dataclass(slots=True, kw_only=True)
class Journal:
    """Keeps decisions and ratings of one pod. ``today`` tells the time of day in UTC.

    ``learners`` hear of the ratings of the decisions that this pod made; ``judge`` gets the
    requests that were drawn for it. ``clock`` and ``call_later`` are the event loop's.
    """

    sharing: Sharing
    log: DecisionLog
    choices: Choices
    clock: Callable[[], float]
    today: Callable[[], datetime]
    call_later: Callable[[float, Callable[[], None]], object]
    learners: list[Learn] = field(default_factory=list[Learn])
    judge: Callable[[Noted, Outcome], None] | None = None
    recent: Recent = field(default_factory=Recent)
    regenerations: Regenerations = field(default_factory=Regenerations)
    early: Early = field(default_factory=Early)
    _surplus: int = 0
    _foreign: Repeats = field(default_factory=lambda: Repeats(FOREIGN_MAX))
    _ratings: Gathering[Rating] = field(init=False)
    _turns: Gathering[tuple[int, float]] = field(init=False)
    _continued: Gathering[tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._ratings = Gathering(
            send=self._tell_ratings,
            call_later=self.call_later,
            gather_s=RATINGS_GATHER_S,
            most=RATINGS_TOLD_MAX,
        )
        self._turns = self._telling(TURNS)
        self._continued = self._telling(CONTINUED)
        self.sharing.hear(RATINGS, self._hear_ratings)
        self.sharing.hear(TURNS, partial(self._hear_turns, self._regenerated))
        self.sharing.hear(CONTINUED, partial(self._hear_turns, self._went_on))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many entries for the log were written and dropped, and what else was left out.

        ``untold`` were too many for a word to other pods, ``surplus`` are ratings of a decision
        that had enough of them.
        """
        untold = self._ratings.dropped + self._turns.dropped + self._continued.dropped
        return {**self.log.counts, "untold": untold, "surplus": self._surplus}

    # --- decisions --------------------------------------------------------------------------

    def fold(self, outcomes: Sequence[Outcome]) -> None:
        """Take in a batch of outcomes: an Observer."""
        for outcome in outcomes:
            if outcome.noted is not None:
                self._take(outcome, outcome.noted)

    def _take(self, outcome: Outcome, noted: Noted) -> None:
        now = self.clock()
        at = self.today() - timedelta(seconds=max(0.0, now - outcome.at))
        decision = decided(outcome, noted, pod=self.sharing.pod, at=at)
        self.recent.remember(decision, noted.readings, now, texts=noted.texts)
        self.log.put(decision)
        if noted.judged and self.judge is not None:
            self.judge(noted, outcome)
        self._take_early(decision.id)
        for source, value, tier in implied(outcome):
            self.rate(decision.id, value, source, tier=tier)
        began_at = outcome.at - outcome.duration_s
        if noted.continued:
            self._went_on(noted.continued, began_at)
            self._continued.add((noted.continued, began_at))
        if noted.turn:
            self._regenerated(noted.turn, began_at)
            self.regenerations.answered(noted.turn, decision.id, outcome.at)
            self._turns.add((noted.turn, began_at))

    def _regenerated(self, turn: int, asked_at: float) -> None:
        earlier = self.regenerations.asked(turn, asked_at)
        if earlier:
            self.rate(earlier, 0.0, "regeneration")

    def _went_on(self, turn: int, asked_at: float) -> None:
        earlier = self.regenerations.asked(turn, asked_at)
        remembered = self.recent.find(earlier, self.clock()) if earlier else None
        # Who goes on from half an answer is not content with it.
        if remembered is not None and not remembered.decision.error:
            self.rate(earlier, 1.0, "continuation")

    # --- ratings ----------------------------------------------------------------------------

    def rate(
        self, decision: str, value: float, source: Source, *, tier: str = "", backend: str = ""
    ) -> None:
        """Take in how a decision of this pod is rated, by other than a caller."""
        rating = Rating(
            decision=decision,
            value=value,
            source=source,
            at=self.today(),
            tier=tier,
            backend=backend,
        )
        remembered = self.recent.find(decision, self.clock())
        if remembered is not None:
            self._learn(remembered, rating)

    def take_feedback(self, rating: Rating) -> None:
        """Take in what a caller says of a decision, which another pod may have made."""
        remembered = self.recent.find(rating.decision, self.clock())
        if remembered is not None:
            self._learn(remembered, rating)
            return
        if self._foreign.count(rating.decision) > RATINGS_MAX:
            self._surplus += 1
            return
        self.early.keep(rating, self.clock())
        self._ratings.add(rating)
        # Its pod may be gone. Whether its policy keeps what callers write is not known here.
        self.log.put(msgspec.structs.replace(rating, comment=""))

    def _take_early(self, decision: str) -> None:
        """Take in what was said of a decision before it was known here."""
        for rating in self.early.take(decision):
            self._hear_rating(rating)

    def _hear_rating(self, rating: Rating) -> bool:
        """Take in a rating that is logged already; say whether its decision is this pod's."""
        remembered = self.recent.find(rating.decision, self.clock())
        if remembered is not None and not remembered.knows(rating):
            self._learn(remembered, rating, logged=True)
        return remembered is not None

    def _learn(self, remembered: Remembered, rating: Rating, *, logged: bool = False) -> None:
        """Remember a rating, log it unless another pod has, and tell those who learn."""
        if remembered.number_by(rating.source) >= RATINGS_MAX:
            self._surplus += 1
            return
        decision = remembered.decision
        if rating.comment and not remembered.texts:
            rating = msgspec.structs.replace(rating, comment="")
        first = remembered.is_first(rating)
        remembered.add(rating)
        if not logged or rating.comment:
            self.log.put(rating)
        # Who changes its mind is logged; what was learned of the first word stays.
        if first:
            self._count(decision, rating)
            for learn in self.learners:
                try:
                    learn(decision, rating, remembered.readings)
                except Exception:
                    log.exception("a learner failed on a rating")

    def _count(self, decision: Decided, rating: Rating) -> None:
        self.choices.rated(
            Whose(decision.policy, decision.rule, decision.arm),
            tier=rating.tier or decision.tier,
            backend=rating.backend or ("" if rating.tier else decision.backend),
            source=rating.source,
            value=rating.value,
        )

    # --- peers ------------------------------------------------------------------------------

    def _tell_ratings(self, ratings: list[Rating]) -> None:
        self.sharing.tell(RATINGS, msgspec.json.encode(ratings))

    def _hear_ratings(self, pod: str, body: bytes, at: float) -> None:
        """Take in what callers said to any pod of decisions of this one.

        This pod's own words say nothing new to it: it has kept what it could not take in yet.
        """
        del at
        if pod == self.sharing.pod:
            return
        try:
            ratings = _ratings_decoder.decode(body)
        except (ValueError, RecursionError) as error:
            log.info("the ratings of pod %s cannot be read: %s", pod, error)
            return
        now = self.clock()
        for rating in ratings:
            if not self._hear_rating(rating):
                self.early.keep(rating, now)

    def _telling(self, topic: str) -> Gathering[tuple[int, float]]:
        return Gathering(
            send=partial(self._tell_turns, topic),
            call_later=self.call_later,
            gather_s=TURNS_GATHER_S,
            most=TURNS_TOLD_MAX,
        )

    def _tell_turns(self, topic: str, turns: list[tuple[int, float]]) -> None:
        now = self.clock()
        ages_ms = (min(_AGE_MAX_MS, round(max(0.0, now - at) * 1000)) for _, at in turns)
        packed = (
            _TURN.pack(turn, age_ms) for (turn, _), age_ms in zip(turns, ages_ms, strict=True)
        )
        self.sharing.tell(topic, b"".join(packed))

    def _hear_turns(
        self, take: Callable[[int, float], None], pod: str, body: bytes, at: float
    ) -> None:
        """Take in what callers asked another pod, perhaps on account of this one's answers."""
        if pod == self.sharing.pod or len(body) % _TURN.size:
            return
        for turn, age_ms in _TURN.iter_unpack(body):
            take(turn, at - age_ms / 1000)
