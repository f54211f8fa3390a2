"""What a rule has done with its requests beside sending them to a backend: the proxy's side of it.

Nothing here is reached by a request whose rule asks for none of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.call import Call
from switchboard_dataplane.composed import mirror, review
from switchboard_dataplane.composed.aside import Asides, composition_of
from switchboard_dataplane.composed.background import Backgrounds, Place
from switchboard_dataplane.composed.cascade import NOT_CHECKED, UNJUDGED, Cascades
from switchboard_dataplane.composed.ended import Ended
from switchboard_dataplane.composed.ensemble import NOT_ASKED, Ensembles
from switchboard_dataplane.composed.mirror import Mirrored, Mirrors
from switchboard_dataplane.composed.questions import Questions
from switchboard_dataplane.composed.review import Post, Reviews
from switchboard_dataplane.composed.sample import Samples, Told
from switchboard_dataplane.decision.patience import deadline_of
from switchboard_dataplane.decision.verdict import Candidate, Plan
from switchboard_dataplane.learning.noting import Listening
from switchboard_dataplane.race import Answer
from switchboard_dataplane.wire.asks import Ask
from switchboard_policy import ir

if TYPE_CHECKING:
    from switchboard_dataplane.proxy import Caller

#: The reading that a classifier's word becomes: the number of a tier, None where it said nothing.
CLASSIFIED: Final = "classified"

_ANY_OK: Final = range(200, 300)


class Sequel:
    """What is to be done when the answer has gone out.

    ``texts`` says that a review is told them. ``place`` is the room for it, until it is used.
    """

    def __init__(
        self, mirror: ir.Mirror | None, review: ir.Review | None, *, texts: bool = False
    ) -> None:
        self.mirror: Final = mirror
        self.review: Final = review
        self.texts: Final = texts
        self.place: Place | None = None
        self.listening: Listening | None = None

    def listen(self, caller: "Caller") -> "Caller":
        """Return the caller, overheard if what it gets is to be known."""
        if self.mirror is None and not self.texts:
            return caller
        self.listening = Listening(caller)
        return self.listening

    def leave(self) -> None:
        """Give back the room for what was not begun."""
        if self.place is not None:
            self.place.leave()


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Composes answers, and sees to what follows them. ``clock`` is the event loop's."""

    attempts: Attempts
    questions: Questions
    cascades: Cascades
    ensembles: Ensembles
    mirrors: Mirrors
    reviews: Reviews
    background: Backgrounds
    clock: Callable[[], float]

    async def classify(self, call: Call, ask: Ask, plan: Plan) -> None:
        """Ask which of a rule's tiers a request needs; the answer is a reading of the request.

        What that takes is on the request's account, and of its time.
        """
        spec = plan.rule.spec
        if spec is None or spec.select is None or spec.select.classifier is None:
            return
        call.until = deadline_of(plan, None, self.clock())
        names = [tier.name for tier in spec.tiers]
        number: int | None = None
        if ask.view.api != "embeddings":
            heard = await self.questions.classify(
                call, plan, spec.select.classifier, ask.view, names
            )
            number = heard.value
        ask.view.readings = {**ask.view.readings, CLASSIFIED: number}

    def begin(self, call: Call, plan: Plan) -> Sequel:
        """Take up a request; return what is to be done after it."""
        spec = plan.rule.spec
        if spec is None:
            return Sequel(None, None)
        drawn = spec.mirror is not None and self.mirrors.draw(spec.mirror)
        texts = spec.review is not None and spec.review.texts and not plan.guardrails
        return Sequel(spec.mirror if drawn else None, spec.review, texts=texts)

    def mark(self, sequel: Sequel, call: Call, status: int) -> None:
        """Take the room for a review before an answer goes out: its caller is told of it."""
        if sequel.review is None or status not in _ANY_OK:
            return
        sequel.place = self.background.reviews.reserve()
        composition_of(call).review = review.DROPPED if sequel.place is None else review.PENDING

    async def answer(
        self,
        call: Call,
        ask: Ask,
        plan: Plan,
        headers: Mapping[str, str],
        first: Candidate | None,
    ) -> Answer:
        """Return the answer that goes out; raises what went wrong where there is none.

        Embeddings, and requests for several answers in one, are answered as by any rule.
        """
        spec = plan.rule.spec
        several = ask.choices > 1 and ask.view.api != "embeddings"
        if several:
            _pass_over(call, spec)
        elif spec is not None and ask.view.api != "embeddings":
            if not call.until:
                call.until = deadline_of(plan, None, self.clock())
            if spec.cascade is not None:
                return await self.cascades.answer(call, ask, plan, spec.cascade, headers, first)
            if spec.ensemble is not None:
                return await self.ensembles.answer(call, ask, plan, spec.ensemble, headers, first)
        answer = await self.attempts.first_answer(call, ask, plan, headers, first)
        if several and spec is not None and spec.cascade is not None and call.candidate is not None:
            composition_of(call).judged.append((call.candidate.tier.name, UNJUDGED))
        return self.questions.asides.edit(call, answer)

    def end(
        self, sequel: Sequel, call: Call, ask: Ask, plan: Plan, headers: Mapping[str, str]
    ) -> None:
        """Begin what is to be done after an answer that has gone out whole; never waits."""
        if call.status not in _ANY_OK or call.error or not (sequel.mirror or sequel.review):
            return
        ended = Ended(
            ask=ask,
            plan=plan,
            headers=dict(headers),
            outcome=call.outcome(self.clock()),
            reason=call.reason(),
            text="" if sequel.listening is None else sequel.listening.answer(),
            decision="" if call.noted is None else call.noted.id,
            usage=call.usage_so_far(),
            cost_microdollars=call.cost_microdollars(so_far=True),
        )
        if sequel.review is not None:
            self._review(ended, sequel.review, sequel.place)
        if sequel.mirror is not None and ask.view.api != "embeddings":
            self._mirror(ended, sequel.mirror)

    def samples(self, told: Told) -> Samples:
        """Return who has a sample of the answers rated; ``told`` hears what came of it."""
        return Samples(
            questions=self.questions,
            background=self.background.samples,
            clock=self.clock,
            told=told,
        )

    def _review(self, ended: Ended, said: ir.Review, place: Place | None) -> None:
        if place is None or not place.begin(partial(self.reviews.review, ended, said)):
            self.reviews.tell(ended, review.DROPPED)

    def _mirror(self, ended: Ended, said: ir.Mirror) -> None:
        if ended.ask.choices > 1:
            self.mirrors.tell(Mirrored(ended, said.backend, mirror.SEVERAL))
            return
        foreseen = self.mirrors.afford(ended, said)
        if foreseen is None:
            self.mirrors.tell(Mirrored(ended, said.backend, mirror.OVER_BUDGET))
        elif not self.background.mirrors.begin(partial(self.mirrors.mirror, ended, said, foreseen)):
            self.mirrors.give_back(ended, foreseen)
            self.mirrors.tell(Mirrored(ended, said.backend, mirror.DROPPED))


def _pass_over(call: Call, spec: ir.Rule | None) -> None:
    """Say why several answers in one are answered as by any rule: nobody compares them."""
    if spec is not None and spec.cascade is not None:
        composition_of(call).reason = NOT_CHECKED
    elif spec is not None and spec.ensemble is not None:
        composition = composition_of(call)
        composition.ensemble, composition.reason = NOT_ASKED, f"ensemble:{NOT_ASKED}"


def build_composer(
    attempts: Attempts,
    *,
    post: Post,
    mirrored: Callable[[Mirrored], None],
    reviewed: Callable[[Ended, str], None],
) -> Composer:
    """Build it around the attempts of all requests.

    ``post`` is for webhooks; ``mirrored`` and ``reviewed`` hear what came of what followed answers.
    """
    clock, rng = attempts.clock, attempts.failover.rng
    asides = Asides(attempts=attempts, admission=attempts.failover.admission, clock=clock)
    questions = Questions(asides=asides, clock=clock, rng=rng)
    return Composer(
        attempts=attempts,
        questions=questions,
        cascades=Cascades(asides=asides, questions=questions, clock=clock),
        ensembles=Ensembles(asides=asides, questions=questions, attempts=attempts, clock=clock),
        mirrors=Mirrors(asides=asides, questions=questions, clock=clock, rng=rng, tell=mirrored),
        reviews=Reviews(post=post, today=attempts.today, tell=reviewed),
        background=Backgrounds(),
        clock=clock,
    )
