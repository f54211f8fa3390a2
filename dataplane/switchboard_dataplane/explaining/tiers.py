"""Every candidate of a plan: the filter that drops it, or its score and what that is made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite, isnan
from typing import Final, NamedTuple

from switchboard_dataplane.decision.candidates import NOBODY, bits, pool_of, scene_for
from switchboard_dataplane.decision.decide import Opened
from switchboard_dataplane.decision.ejection import any_standing, find_due, too_many_out
from switchboard_dataplane.decision.explain import (
    AT_LIMIT,
    CAPABILITY,
    EJECTED,
    NO_ENDPOINT,
    NOTHING,
    RESTING,
    Why,
    ejected_for,
    why_fallen,
    why_forbidden,
)
from switchboard_dataplane.decision.hashing import hash_key, in_order, load_bound, place_of
from switchboard_dataplane.decision.pick import FILTERS, SCORER_OF, standing_of
from switchboard_dataplane.decision.resting import leave_resting
from switchboard_dataplane.decision.running import Backend, Endpoint
from switchboard_dataplane.decision.running import Tier as RunningTier
from switchboard_dataplane.decision.scene import FULL, OUT, Rng, Scene
from switchboard_dataplane.decision.score import (
    engine_loads,
    expected_picodollars,
    latency_terms,
    loads_of,
    merits_of,
    score_latency,
)
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.explaining import form
from switchboard_dataplane.signals.average import Average
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable, prompt_class

#: So many endpoints of a tier are told of; the others are counted.
ENDPOINTS_SHOWN: Final = 20
#: So many of a group are scored: a tier of thousands must not hold up requests.
SCORED_MAX: Final = 200

#: A tier and the id of an endpoint.
Picked = tuple[str, str]

_DRAWN: Final = "two that may serve are drawn by chance, the lower score wins"
_HOW: Final[Mapping[str, str]] = {
    "Latency": f"{_DRAWN}: who waits, who is written to, how slow it is",
    "Load": f"{_DRAWN}: how loaded it is",
    "Cost": f"the cheapest first; of equals {_DRAWN}",
    "Locality": f"the nearest first; of equals {_DRAWN}",
    "Scorers": "eight that may serve are drawn by chance, the lower score wins",
    "Hash": "the first in the key's own order that is below its bound",
}
_DUE: Final = "its time out is over: the next request tries it"
_NO_KEY: Final = f"the request has no key to hash; {_DRAWN}"
_BY_WEIGHT: Final = "the backend is drawn by weight; then "


@dataclass(frozen=True, slots=True)
class _Scored:
    """A score, what it is made of, and the group of which the endpoint is."""

    score: float | None
    terms: Mapping[str, float]
    group: int


class _Seen(NamedTuple):
    """A candidate, or a backend that falls as a whole; ``why`` has the filter that drops it."""

    name: str
    backend: Backend | None
    endpoint: Endpoint | None
    weight: int | None
    why: Why | None
    scored: _Scored | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A plan as of now. ``shares`` say how often each endpoint was picked.

    ``first`` is the number of the tier that serves, None where none does; ``panic`` says that it
    does so with ejections ignored.
    """

    opened: Opened
    signals: SignalTable
    now: float
    rng: Rng
    shares: Mapping[Picked, float] = field(default_factory=dict["Picked", float])
    first: int | None = None
    spilled: Mapping[str, str] = field(default_factory=dict[str, str])
    unknown: frozenset[str] = frozenset()
    panic: bool = False

    @cached_property
    def awake(self) -> Plan:
        """The plan without what rests, as a decision has it."""
        return leave_resting(self.opened.plan, (), self.signals, now=self.now, rng=self.rng)

    @cached_property
    def out(self) -> Mapping[str, float]:
        """Who is ejected; nobody where nothing else is left, or all that is left rests."""
        plan, out = self.awake, self.signals.ejected
        standing = not out or any_standing(plan, plan.eligible & plan.rule.mask, self.signals)
        if self.panic and self.first is not None:
            # Where it is not too much of the tier that is out, it is all that is left.
            standing = too_many_out(plan, self.first, plan.eligible, self.signals)
        return out if standing else NOBODY

    def tiers(self) -> Iterator[form.Tier]:
        """Yield the tiers in the order in which they are tried."""
        for index, tier in enumerate(self.opened.plan.rule.tiers):
            yield self._tier(index, tier)

    def _tier(self, index: int, tier: RunningTier) -> form.Tier:
        plan, out = self.awake, self.out
        panic = bool(self.signals.ejected) and not out
        if out and too_many_out(plan, index, plan.eligible, self.signals):
            out, panic = NOBODY, True
        mask = tier.mask & plan.eligible
        scene = scene_for(plan, tier, (), self.signals, out, now=self.now, rng=self.rng)
        due = find_due(plan, mask, (), self.signals, now=self.now) if out else None
        scored = _scores(plan, tier, mask, scene)
        later = index != self.first
        seen: list[_Seen] = []
        for number in bits(tier.mask):
            seen += self._backend(number, tier, scene, scored, due=due)
        seen.sort(key=_order)
        shown = [self._candidate(one, scene, later=later) for one in seen[:ENDPOINTS_SHOWN]]
        by = tier.balance.by
        no_key = by == "Hash" and not hash_key(plan.view, tier.balance)
        return form.Tier(
            name=tier.name,
            balance=by,
            how=(_BY_WEIGHT if tier.weights else "") + (_NO_KEY if no_key else _HOW[by]),
            candidates=tuple(shown),
            spilled=self.spilled.get(tier.name, ""),
            panic=panic,
            hidden=max(0, len(seen) - ENDPOINTS_SHOWN),
        )

    def _backend(
        self,
        number: int,
        tier: RunningTier,
        scene: Scene,
        scored: Mapping[str, _Scored],
        *,
        due: Endpoint | None,
    ) -> Iterator[_Seen]:
        plan, name = self.awake, self.opened.plan.policy.backends[number]
        weight = dict(tier.weights).get(number, 0) if tier.weights else None
        backend = plan.snapshot.backends.get(name)
        why = self._why_not(number, backend)
        if why is not None or backend is None:
            yield _Seen(name, backend, None, weight, why)
            return
        for endpoint in backend.endpoints:
            gone = None if endpoint is due else self._bar(endpoint, scene)
            # What stands in for endpoints that nobody knows has no score.
            found = None if name in self.unknown else scored.get(endpoint.id)
            share = self.shares.get((tier.name, endpoint.id), 0.0)
            told = Why(NOTHING, _DUE) if endpoint is due else gone
            yield _Seen(name, backend, endpoint, weight, told, found, share)

    def _candidate(self, seen: _Seen, scene: Scene, *, later: bool) -> form.Candidate:
        why = seen.why or Why(NOTHING, "")
        endpoint, found = seen.endpoint, None if why.filter else seen.scored
        known = endpoint is not None and seen.name not in self.unknown
        whole = seen.backend if endpoint is None else None
        return form.Candidate(
            backend=seen.name,
            address=endpoint.address if known and endpoint is not None else "",
            state="dropped" if why.filter else "later" if later else "candidate",
            endpoints=0 if whole is None else len(whole.endpoints),
            filter=why.filter,
            why=why.words,
            weight=seen.weight,
            group=1 if found is None else found.group,
            score=None if found is None else found.score,
            terms={} if found is None else found.terms,
            signals=tuple(_signals(endpoint, scene)) if known and endpoint is not None else (),
            share=seen.share,
        )

    def _why_not(self, number: int, backend: Backend | None) -> Why | None:
        """Return what drops a backend as a whole; None where it has endpoints to look at."""
        plan, opened = self.awake, self.opened
        hard = why_forbidden(opened.plan, number, opened.guardrails)
        if hard is not None or backend is None:
            return hard
        if not opened.plan.eligible >> number & 1:
            return Why(CAPABILITY, "cannot do what the request asks for")
        if not plan.eligible >> number & 1:
            why = why_fallen(plan, number, opened.guardrails, self.signals, now=self.now)
            return Why(why.filter, why.words + self._rest_of(backend))
        if not backend.endpoints:
            wakes = opened.abilities.wakes >> number & 1
            woken = ": requests wait while it is scaled up" if wakes else ""
            return Why(NO_ENDPOINT, f"has no endpoint that is ready{woken}")
        return None

    def _rest_of(self, backend: Backend) -> str:
        rests = self.signals.marks.of(backend.name).values()
        left = [(rest.until - self.now, rest.failure) for rest in rests if rest.until > self.now]
        if not left:
            return ""
        for_s, failure = min(left)
        return f": {failure}, for {for_s:.0f} s more"

    def _bar(self, endpoint: Endpoint, scene: Scene) -> Why | None:
        """Return what keeps an endpoint out; None where it may serve."""
        bar = scene.barred(endpoint)
        if bar is None:
            return None
        if bar == OUT:
            return Why(EJECTED, ejected_for(endpoint.id, self.signals, self.now))
        if bar == FULL:
            in_flight = self.signals[endpoint.id].in_flight
            limit = endpoint.backend.spec.max_in_flight
            pods = self.awake.snapshot.live_pods
            shared = f", shared by {pods} pods" if pods > 1 else ""
            return Why(AT_LIMIT, f"{in_flight} in flight of maxInFlight {limit}{shared}")
        return Why(RESTING, f"is left alone for a while{self._rest_of_endpoint(endpoint)}")

    def _rest_of_endpoint(self, endpoint: Endpoint) -> str:
        rest = self.signals.marks.of(endpoint.backend.name).get(endpoint.id)
        return "" if rest is None else f": {rest.failure}, for {rest.until - self.now:.0f} s more"


def _order(seen: _Seen) -> tuple[bool, int, float, float, str, str]:
    found = seen.scored
    score = None if found is None else found.score
    return (
        seen.why is not None and seen.why.filter != NOTHING,
        1 if found is None else found.group,
        -seen.share,
        inf if score is None else score,
        seen.name,
        "" if seen.endpoint is None else seen.endpoint.address,
    )


def _scores(plan: Plan, tier: RunningTier, mask: int, scene: Scene) -> Mapping[str, _Scored]:
    """Return the scores of those that may serve, as a pick that compares all of them has them."""
    if not mask:
        return {}
    if not tier.weights:
        return dict(_scores_in(plan, tier, mask, scene))
    found: dict[str, _Scored] = {}
    for number in bits(mask):
        found.update(_scores_in(plan, tier, 1 << number, scene))
    return found


def _scores_in(
    plan: Plan, tier: RunningTier, mask: int, scene: Scene
) -> Iterator[tuple[str, _Scored]]:
    pool, by = pool_of(plan, tier, mask), tier.balance.by
    standing = standing_of(pool, scene) if scene.out else pool
    key = hash_key(plan.view, tier.balance) if by == "Hash" else b""
    if key:
        bound = load_bound(pool, scene)
        for place, (_, endpoint) in enumerate(in_order(pool, place_of(key), standing), 1):
            if place > SCORED_MAX:
                return
            in_flight = scene.signals[endpoint.id].in_flight
            terms = {"place": float(place), "in_flight": float(in_flight), "bound": float(bound)}
            yield endpoint.id, _Scored(float(place), terms, 1)
        return
    narrow = FILTERS.get(by)
    groups = [standing.endpoints] if narrow is None else [*narrow(standing, scene)]
    place = 0
    for group in groups:
        free = [one for one in group if scene.may_serve(one)][:SCORED_MAX]
        if free:
            place += 1
            yield from _scores_of(free, group, scene, place)


def _scores_of(
    free: Sequence[Endpoint], group: Sequence[Endpoint], scene: Scene, place: int
) -> Iterator[tuple[str, _Scored]]:
    signals = [scene.signals[one.id] for one in free]
    scorer = SCORER_OF.get(scene.balance.by, score_latency)
    scores = scorer(free, signals, group, scene)
    for endpoint, score, terms in zip(
        free, scores, _terms(free, signals, group, scene), strict=True
    ):
        finite = {name: value for name, value in terms.items() if isfinite(value)}
        yield endpoint.id, _Scored(score if isfinite(score) else None, finite, place)


def _terms(
    free: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[dict[str, float]]:
    """Return what each score is made of; what a filter goes by comes first."""
    match scene.balance.by:
        case "Load":
            by = "engine_load" if engine_loads(signals, scene.now) else "in_flight_load"
            loads = loads_of(free, signals, scene.now)
            return [
                {by: load, "errors": signal.penalty(scene.now)}
                for load, signal in zip(loads, signals, strict=True)
            ]
        case "Scorers":
            merits: list[dict[str, float]] = [{} for _ in free]
            for scorer in scene.balance.scorers:
                weighed = merits_of(scorer, free, signals, group, scene)
                for terms, merit in zip(merits, weighed, strict=True):
                    terms[scorer.by] = -merit
            return merits
        case by:
            said = latency_terms(signals, group, scene)
            if by == "Cost":
                prices = [expected_picodollars(one.backend, scene.view) for one in free]
                said = [
                    {"dollars": price / 1e12, **terms}
                    for price, terms in zip(prices, said, strict=True)
                ]
            return said


def _signals(endpoint: Endpoint, scene: Scene) -> Iterator[form.Signal]:
    """Yield what is known of an endpoint; nothing of one that was never asked."""
    known = scene.signals.get(endpoint.id)
    if known is None:
        return
    now = scene.now
    yield form.Signal(name="in_flight", value=known.in_flight)
    if known.waiting:
        yield form.Signal(name="waiting", value=known.waiting)
    stream, number = scene.view.stream, prompt_class(scene.view.tokens)
    took = (known.ttft_s if stream else known.latency_s)[number]
    yield from _average("ttft_s" if stream else "latency_s", took, now)
    yield from _average("tokens_per_s", known.tokens_per_s, now)
    errors = known.errors_now(now)
    if errors:
        yield form.Signal(
            name="errors", value=round(errors, 3), age_s=round(now - known.errors_at, 3)
        )
    if known.starts and scene.share_of(endpoint) < 1.0:
        yield form.Signal(name="starts_at_share", value=round(scene.share_of(endpoint), 3))
    if known.engine is not None:
        age_s = round(now - known.engine.at, 3)
        yield form.Signal(name="engine_waiting", value=known.engine.waiting, age_s=age_s)
        yield form.Signal(name="engine_running", value=known.engine.running, age_s=age_s)
        if known.engine.kv_use is not None:
            kv_use = round(known.engine.kv_use, 3)
            yield form.Signal(name="engine_kv_use", value=kv_use, age_s=age_s)


def _average(name: str, average: Average, now: float) -> Iterator[form.Signal]:
    if not isnan(average.value):
        age_s = round(now - average.at, 3)
        yield form.Signal(name=name, value=round(average.value, 6), age_s=age_s)
