"""A tier hands requests on when it is busy, before anything fails, and takes them again later."""

from random import Random
from typing import Any

import pytest

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.marks import Mark
from switchboard_dataplane.signals.tier_loads import REFRESH_S
from switchboard_policy import ir

NOW = 1_000.0
COUNT = 10


def near_and_far(spill: ir.Spill, *, count: int = COUNT, live_pods: int = 1) -> Snapshot:
    tiers = tier("near", "a", spill=spill), tier("far", "b")
    return snapshot(
        policy("chat", rule("default", *tiers)),
        service("a", max_in_flight=10, queue=ir.Queue()),
        endpoints("a", *(f"10.0.{number // 250}.{number % 250}:80" for number in range(count))),
        service("b", max_in_flight=10),
        endpoints("b", "10.1.0.1:80"),
        live_pods=live_pods,
    )


class Scene:
    """A snapshot with its signals; ``busy`` puts so many requests in flight at the near tier."""

    def __init__(self, running: Snapshot) -> None:
        self.running, self.signals, self.now = running, SignalTable(), NOW

    def of(self, backend: str) -> list[EndpointSignal]:
        there = self.running.backends[f"ai/{backend}"].endpoints
        return [self.signals[endpoint.id] for endpoint in there]

    def busy(self, requests: int, backend: str = "a") -> None:
        signals = self.of(backend)
        for number, signal in enumerate(signals):
            signal.in_flight = requests // len(signals) + (number < requests % len(signals))
        self.signals.backend(f"ai/{backend}").in_flight = requests

    def decide(self, *, later_s: float = REFRESH_S, **fields: Any) -> tuple[str, str]:
        """Where a request goes after a while, and what the tier has passed."""
        self.now += later_s
        said = decide(self.running, view(**fields), self.signals, now=self.now, rng=Random(1))
        assert isinstance(said, Decision), said
        spills = {one.cause for one in said.plan.spills}
        assert {one.tier for one in said.plan.spills} <= {"near"}
        return said.candidate.tier.name, ",".join(spills)


def test_a_tier_spills_when_that_share_is_in_flight_and_is_back_below_four_fifths_of_it() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=500)))
    for requests, where in ((49, "near"), (50, "far"), (40, "far"), (39, "near"), (49, "near")):
        scene.busy(requests)
        assert scene.decide()[0] == where, requests


def test_requests_that_are_sent_between_two_looks_count_at_once() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=500)))
    assert scene.decide() == ("near", "")
    for _ in range(5):
        for signal in scene.of("a"):
            signal.dispatched(scene.now)
    assert scene.decide(later_s=0.0) == ("far", "inFlight")


def test_the_share_is_of_what_this_data_plane_may_send() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=900), live_pods=5))
    scene.busy(18)
    assert scene.decide() == ("far", "inFlight")


def test_the_engines_own_numbers_count_while_they_are_fresh() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=900), live_pods=5))
    for signal in scene.of("a"):
        signal.engine = EngineLoad(waiting=1, running=8, kv_use=None, at=NOW)
    assert scene.decide() == ("far", "inFlight"), "others have filled them"
    assert scene.decide(later_s=10.0) == ("near", ""), "long ago"


def test_endpoints_that_are_out_have_no_room_to_offer() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=500)))
    scene.busy(30)
    assert scene.decide()[0] == "near"
    for signal in scene.of("a")[:5]:
        signal.in_flight = 0
        scene.signals.ejected.put_out(signal.breaker, scene.now)
    for signal in scene.of("a")[5:]:
        signal.in_flight = 6
    assert scene.decide() == ("far", "inFlight")


def test_a_tier_spills_when_half_of_its_endpoints_are_slow_to_begin() -> None:
    scene = Scene(near_and_far(ir.Spill(ttft_ms=2_000)))
    for slow, where in ((4, "near"), (10, "far")):
        for signal in scene.of("a")[:slow]:
            signal.waited(3.0, scene.now, tokens=100, stream=True)
        for signal in scene.of("a")[slow:]:
            signal.waited(0.1, scene.now, tokens=100, stream=True)
        assert scene.decide(tokens=100)[0] == where
    assert scene.decide(tokens=100) == ("far", "ttft")
    assert scene.decide(tokens=10_000)[0] == "near", "nothing is known of such prompts"


def test_a_tier_that_nobody_asks_is_asked_again_when_its_slowness_is_old_news() -> None:
    scene = Scene(near_and_far(ir.Spill(ttft_ms=2_000)))
    for signal in scene.of("a"):
        signal.waited(4.0, scene.now, tokens=10, stream=True)
    assert scene.decide(tokens=10)[0] == "far"
    assert scene.decide(tokens=10, later_s=10.0)[0] == "far"
    assert scene.decide(tokens=10, later_s=10.0)[0] == "near"


def test_what_waits_in_the_engines_counts_as_a_queue() -> None:
    scene = Scene(near_and_far(ir.Spill(queue_wait_ms=2_000)))
    scene.signals.queue("ai/a").took_s.take(3.0, NOW)
    for waiting, where in ((5, "near"), (7, "far"), (6, "far"), (5, "near")):
        for signal in scene.of("a"):
            signal.engine = EngineLoad(waiting=waiting, running=10, kv_use=None, at=scene.now)
        assert scene.decide()[0] == where, waiting


@pytest.mark.parametrize("why", ["full", "ejected", "resting", "forbidden"])
def test_a_tier_does_not_spill_to_one_that_cannot_serve(why: str) -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=500)))
    scene.busy(60)
    (far,) = scene.of("b")
    match why:
        case "full":
            scene.busy(10, "b")
        case "ejected":
            scene.signals.ejected.put_out(far.breaker, NOW)
        case "resting":
            endpoint = scene.running.backends["ai/b"].endpoints[0].id
            scene.signals.marks.put(Mark("ai/b", "overloaded", 60.0, endpoint=endpoint), NOW)
        case _:
            tiers = tier("near", "a", spill=ir.Spill(in_flight_permille=500)), tier("far", "b")
            rail = ir.Guardrail(name="here", policy="ai/chat", forbids=("ai/b",))
            backends = [one.spec for one in scene.running.backends.values()]
            scene.running = snapshot(
                policy("chat", rule("default", *tiers), guardrails=(rail,)),
                *backends,
                endpoints("a", *(f"10.0.0.{number}:80" for number in range(COUNT))),
                endpoints("b", "10.1.0.1:80"),
            )
    assert scene.decide() == ("near", "")


def test_a_look_at_five_thousand_endpoints_is_a_look_at_some_and_not_for_every_request() -> None:
    scene = Scene(near_and_far(ir.Spill(in_flight_permille=500, ttft_ms=1_000), count=5_000))
    scene.busy(25_000)
    assert scene.decide()[0] == "far"
    reads = 0

    class Counting(SignalTable):
        def __getitem__(self, key: str) -> EndpointSignal:
            nonlocal reads
            reads += 1
            return super().__getitem__(key)

    counting = Counting()
    counting.update(scene.signals)
    counting.backend("ai/a").in_flight = 25_000
    scene.signals = counting
    assert scene.decide()[0] == "far"
    assert reads < 300
    reads = 0
    for _ in range(100):
        scene.decide(later_s=0.0)
    assert reads <= 1_000, "the far tier's own draw"
