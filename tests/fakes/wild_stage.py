"""Plays a world that was drawn by lot: the real proxy, in a time of its own, and wild upstreams."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from random import Random
from typing import Any, Final, NoReturn

import orjson

from fakes.composers import Told
from fakes.policies import keyed, keyring
from fakes.timed import TimedCaller, TimedStage
from fakes.wild_states import draw_states, draw_times
from fakes.wild_upstream import WildUpstream, number_in
from fakes.wild_worlds import HARD, SPENT, Wish, World, draw_world
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.learning.noting import Notes
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.breaker import Ejections
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.learned import Offer, Place, Tries
from switchboard_dataplane.signals.sessions import NO_PAST, Past
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.state import Update
from switchboard_dataplane.telemetry.outcome import Aside, Attempt, Outcome
from switchboard_policy import ir
from switchboard_policy.store import Channel, Revision

FIRST: Final = Revision(1, 1)
SECOND: Final = Revision(1, 2)
KEYS: Final = keyring()
#: What follows answers has so long to end, in seconds.
AFTER_S: Final = 600.0


@dataclass
class Played:
    """A world that was played, and what was told of its requests, by their numbers.

    ``later`` are the asides that came after an answer had gone out.
    """

    number: int
    world: World
    upstream: WildUpstream
    began_at: float
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    later: list[tuple[int, Aside]] = field(default_factory=list)

    def asides(self, number: int) -> Iterator[Aside]:
        """Yield all that was asked on a request's account."""
        yield from self.outcomes[number].asides
        yield from (aside for whose, aside in self.later if whose == number)

    def attempts(self, number: int) -> Iterator[Attempt]:
        """Yield all attempts that were told of, of the request and on its account."""
        yield from self.outcomes[number].attempts
        for aside in self.asides(number):
            yield from aside.attempts


class Caller(TimedCaller):
    """A caller with a body of its own."""

    async def read_body(self) -> bytes:
        return orjson.dumps(self.fields)


@dataclass
class Stage(TimedStage):
    """One proxy for all requests of a world."""

    async def play(self, played: Played, in_force: InForce, rng: Random) -> None:
        loop, world = asyncio.get_running_loop(), played.world
        async with self.settled():
            lasts_s = draw_states(rng, self.snapshot, self.signals, loop.time())
            draw_times(rng, world.policy, self.hedges, loop.time())
            proxy = replace(
                self.proxy(),
                notes=Notes(keyring=lambda: KEYS, entropy=rng.randbytes, chance=rng.random),
            )
            async with asyncio.TaskGroup() as group:
                for wish in world.wishes:
                    group.create_task(self._serve(played, proxy, wish))
                group.create_task(self._change(world, in_force))
                group.create_task(asyncio.sleep(lasts_s + 0.1))
            await proxy.composer.background.close(AFTER_S)
        for one in self.told.mirrored:
            number = number_in(one.ended.ask.body)
            played.later += [(number, aside) for aside in one.asides]
        queues = {**self.signals.queues, **self.signals.waking}
        assert not any(queue.waiting for queue in queues.values())

    async def _serve(self, played: Played, proxy: Proxy, wish: Wish) -> None:
        await asyncio.sleep(wish.at_s)
        caller = Caller(wish.body, wish.api, dict(wish.headers))
        own = replace(proxy, observe=partial(_observe, played, proxy, wish.number))
        serving = asyncio.create_task(own.serve(caller))
        await asyncio.wait({serving}, timeout=wish.leaves_after_s)
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        played.reasons[wish.number] = caller.told.get("x-switchboard-reason", "")

    async def _change(self, world: World, in_force: InForce) -> None:
        change = world.change
        if change is None:
            return
        await asyncio.sleep(change.at_s)
        removed = frozenset(change.removed)
        await in_force.apply(Update(keyed(change.entries), removed, _both(SECOND), full=False))
        assert in_force.snapshot is not None
        self.snapshot = in_force.snapshot


async def play(number: int) -> Played:
    """Draw a world by its number and play it."""
    rng = Random(number)
    world = draw_world(rng)
    in_force = await _in_force(world, rng)
    assert in_force.snapshot is not None
    # What is forbidden is well, and the rest is not: nothing keeps a request from it but the rule.
    if rng.random() < 0.5:
        well = frozenset(name for one in world.policy.guardrails for name in one.forbids)
    else:
        names = sorted(in_force.snapshot.backends)
        well = frozenset(name for name in names if rng.random() < 0.2)
    upstream = WildUpstream({}, rng=rng, well=well)
    played = Played(number, world, upstream, asyncio.get_running_loop().time())
    stage = Stage(
        upstream,
        in_force.snapshot,
        in_force.signals,
        in_force.hedges,
        reader=_reader(rng),
        told=Told(statuses=[200]),
    )
    await stage.play(played, in_force, rng)
    return played


@dataclass(frozen=True, slots=True)
class _Judged:
    """Hears what the judge of a sample was asked about a request."""

    played: Played
    number: int

    def scored(self, decision: str, score: float) -> None:
        assert 0.0 <= score <= 1.0
        assert decision

    def sampled(self, outcome: Outcome, asides: Sequence[Aside]) -> None:
        assert self.played.outcomes[self.number] is outcome
        self.played.later += [(self.number, aside) for aside in asides]

    def unsampled(self, outcome: Outcome, backend: str, reason: str) -> None:
        assert self.played.outcomes[self.number] is outcome


def _observe(played: Played, proxy: Proxy, number: int, outcome: Outcome) -> None:
    """Take in an outcome; an answer that was drawn for it is judged, as a data plane does."""
    assert number not in played.outcomes, "a request ends once"
    played.outcomes[number] = outcome
    if outcome.noted is not None:
        proxy.composer.samples(_Judged(played, number)).begin(outcome.noted, outcome)


@cache
def _builder() -> SnapshotBuilder:
    """One for all worlds: it remembers the conditions that it compiled."""
    return SnapshotBuilder(KEYS, zone="here", has_router=lambda _: True)


async def _in_force(world: World, rng: Random) -> InForce:
    """Put a world in force, in the place of the one before."""
    signals = SignalTable(Ejections(chance=rng.random))
    live_pods = rng.choice((1, 1, 3))
    loop = asyncio.get_running_loop()
    in_force = InForce(_builder(), lambda: KEYS, lambda: live_pods, signals, clock=loop.time)
    signals.learner = _Whimsical(rng)
    signals.ejected.rule_of = in_force.breaker_rule
    signals.ejected.is_there = in_force.is_there
    changed = keyed((world.policy, *world.entries))
    before = _builder().snapshot.backends
    gone = {f"{kind}/{name}" for name in before for kind in ("backend", "endpoints")}
    removed = frozenset(gone - changed.keys())
    assert not await in_force.apply(Update(changed, removed, _both(FIRST), full=False))
    return in_force


def _both(revision: Revision) -> Mapping[Channel, Revision]:
    return {"policy": revision, "endpoints": revision}


class _Whimsical:
    """Has learned anything: what it says must not matter to what may be called."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        return self._rng.randrange(len(offers))

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        return [self._rng.random() for _ in offers]


def _reader(rng: Random) -> Reader:
    """A reader whose learned parts say what they like, but for complexity."""

    def predict(text: str, digest: str) -> Mapping[str, float]:
        return {f"tier-{number}": rng.uniform(-0.2, 1.2) for number in range(rng.randrange(4))}

    def past(policy: str, session: str) -> Past:
        return Past(1.0, "ai/a") if session == SPENT else NO_PAST

    return Reader(
        complexity=lambda text: 0.9 if HARD in text else 0.1,
        embed_intents=_no_intents,
        predict=predict,
        embed=lambda text: [0.0],
        past=past,
    )


def _no_intents(declared: tuple[ir.Intent, ...]) -> NoReturn:
    raise AssertionError(f"nobody embeds {declared}")
