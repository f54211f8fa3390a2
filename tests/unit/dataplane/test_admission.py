"""Who waits for an endpoint, in which order they are served, and what ends a wait."""

import asyncio
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from fakes.policies import policy, rule, snapshot, tier, view
from fakes.virtual_time import VirtualTimeLoop
from fakes.waiting_room import Bench, pool
from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Candidate, Decision, Rejection, Tried
from switchboard_dataplane.signals.marks import Mark
from switchboard_policy import ir

WAKES = {"wake_hold_ms": 30_000}


def one_tier(*names: str, **fields: Any) -> ir.Policy:
    return policy("chat", rule("default", tier("only", *names)), **fields)


def two_tiers(spill: ir.Spill | None, *, first: str = "a", second: str = "b") -> ir.Policy:
    tiers = tier("near", first, spill=spill), tier("far", second)
    return policy("chat", rule("default", *tiers))


@pytest.fixture
def loop() -> Iterator[VirtualTimeLoop]:
    made = VirtualTimeLoop()
    yield made
    made.close()


def run(loop: VirtualTimeLoop, main: Coroutine[Any, Any, None], bench: Bench) -> None:
    loop.run_until_complete(main)
    bench.assert_idle()
    assert not asyncio.all_tasks(loop)


async def begun(*tasks: "asyncio.Task[str]") -> None:
    """Let these get as far as they get at once."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert tasks


def test_requests_wait_and_are_served_by_priority_then_in_the_order_of_arrival(
    loop: VirtualTimeLoop,
) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a", queue=ir.Queue(10, 60_000))))

    async def main() -> None:
        priorities = {"first": 0, "low": -5, "second": 0, "high": 7, "third": 0}
        tasks = [bench.start("holds")]
        await begun(*tasks)
        tasks += [bench.start(name, priority=value) for name, value in priorities.items()]
        await begun(*tasks)
        assert bench.waiting == 5
        assert bench.signals.queues.counts() == {"ai/a": 5}
        assert set(await asyncio.gather(*tasks)) == {"a"}

    run(loop, main(), bench)
    assert [name for name, _ in bench.log] == ["holds", "high", "first", "second", "third", "low"]


def test_a_slot_goes_to_who_waits_and_never_to_who_just_came(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a", queue=ir.Queue(100, 60_000))))

    async def main() -> None:
        tasks = [bench.start("holds")]
        await begun(*tasks)
        tasks.append(bench.start("waits"))
        await begun(*tasks)
        (signal,) = bench.signals.values()
        # Free, and in the same turn of the loop somebody comes.
        signal.released(bench.now(), since=bench.now() - 1.0)
        tasks.append(bench.start("comes"))
        await begun(*tasks)
        assert [name for name, _ in bench.log] == ["holds", "waits"]
        signal.reserve()  # What was released too early is released again by its owner.
        await asyncio.gather(*tasks)

    run(loop, main(), bench)
    assert [name for name, _ in bench.log] == ["holds", "waits", "comes"]


def test_a_full_queue_refuses_with_the_time_that_its_waiters_are_foreseen_to_take(
    loop: VirtualTimeLoop,
) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a")))

    async def main() -> None:
        tasks = [bench.start(str(number), takes_s=4.0) for number in range(2)]
        await asyncio.gather(*tasks)
        tasks = [bench.start(str(number), takes_s=4.0) for number in range(4)]
        await begun(*tasks)
        assert bench.snapshot is not None
        said = decide(bench.snapshot, view(), bench.signals, now=bench.now(), rng=Random(1))
        assert isinstance(said, Rejection)
        # Three wait before it and one is served: four times four seconds.
        assert said.reason == "overloaded"
        assert said.retry_after_s == pytest.approx(16.0, abs=0.01)
        await asyncio.gather(*tasks)

    run(loop, main(), bench)


def test_who_waits_with_a_negative_priority_makes_room_and_nobody_else_does(
    loop: VirtualTimeLoop,
) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a")))

    async def main() -> None:
        tasks = {"holds": bench.start("holds")}
        await begun(*tasks.values())
        for name, priority in (("low", -2), ("lowest", -9), ("plain", 0)):
            tasks[name] = bench.start(name, priority=priority)
            await begun(*tasks.values())
        # A negative one finds no room behind its like; a plain one takes that of the lowest.
        for name, priority in (("late-low", -9), ("late", 0), ("later", 0), ("high", 100)):
            tasks[name] = bench.start(name, priority=priority)
            await begun(*tasks.values())
        became = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
        refused = {name for name, said in became.items() if said == "overloaded"}
        assert refused == {"late-low", "lowest", "low", "high"}

    run(loop, main(), bench)
    assert [name for name, _ in bench.log] == ["holds", "plain", "late", "later"]


def test_who_cannot_make_its_deadline_is_refused_at_once(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a", queue=ir.Queue(10, 60_000))))

    async def main() -> None:
        await bench.ask("learn", takes_s=5.0)
        # Nothing is measured before anybody has waited: the second one did.
        tasks = [bench.start("one", takes_s=5.0), bench.start("two", takes_s=5.0)]
        await asyncio.gather(*tasks)
        tasks = [bench.start(str(number), takes_s=5.0) for number in range(3)]
        await begun(*tasks)
        began_at = bench.now()
        assert await bench.ask("hasty", deadline_ms=14_000) == "overloaded"
        assert bench.now() == began_at
        tasks.append(bench.start("patient", deadline_ms=16_000))
        assert set(await asyncio.gather(*tasks)) == {"a"}

    run(loop, main(), bench)


def test_a_wait_ends_with_max_wait_or_with_the_deadline(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a")))

    async def main() -> None:
        holds = bench.start("holds", takes_s=100.0)
        await begun(holds)
        began_at = bench.now()
        hasty = bench.start("hasty", deadline_ms=2_000)
        waits = bench.start("waits")
        assert await hasty == "deadline"
        assert bench.now() - began_at == pytest.approx(2.0)
        assert await waits == "overloaded"
        assert bench.now() - began_at == pytest.approx(10.0)
        await holds

    run(loop, main(), bench)


@pytest.mark.parametrize("handed", [False, True])
def test_a_caller_that_leaves_leaves_nothing_behind(loop: VirtualTimeLoop, *, handed: bool) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a")))

    async def main() -> None:
        holds = bench.start("holds")
        await begun(holds)
        leaves, stays = bench.start("leaves"), bench.start("stays")
        await begun(leaves, stays)
        (signal,) = bench.signals.values()
        if handed:
            signal.released(bench.now(), since=bench.now())
            signal.reserve()
            signal.unreserve()
        leaves.cancel()
        await begun(leaves)
        assert leaves.cancelled()
        if handed:
            # The slot that was kept for it has gone to the next.
            assert [name for name, _ in bench.log] == ["holds", "stays"]
            signal.reserve()
        assert await stays == "a"
        await holds

    run(loop, main(), bench)


def test_a_request_that_two_backends_may_serve_waits_for_both(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a", "b"), *pool("a"), *pool("b")))

    async def main() -> None:
        tasks = [bench.start("long", takes_s=9.0), bench.start("short", takes_s=1.0)]
        await begun(*tasks)
        tasks.append(bench.start("waits"))
        await begun(*tasks)
        assert bench.signals.queues.counts() == {"ai/a": 1, "ai/b": 1}
        began_at = bench.now()
        await tasks[-1]
        assert bench.now() - began_at == pytest.approx(2.0)
        await asyncio.gather(*tasks)

    run(loop, main(), bench)


def test_a_request_that_waits_is_decided_anew_on_the_snapshot_in_force(
    loop: VirtualTimeLoop,
) -> None:
    plain = one_tier("a")
    bench = Bench(snapshot(plain, *pool("a")))

    async def main() -> None:
        holds = bench.start("holds", takes_s=20.0)
        await begun(holds)
        waits, other = bench.start("waits"), bench.start("other")
        await begun(waits)
        # A second endpoint came: one of them goes there at once.
        bench.swap(plain, *pool("a", 2), changed={"ai/a"})
        await begun(waits)
        assert [name for name, _ in bench.log] == ["holds", "waits"]
        # What another backend gains is nothing to who does not wait for it.
        bench.swap(plain, *pool("a", 2), changed={"ai/b"})
        assert bench.waiting == 1
        # The backend is gone: nothing may serve it any more, and nothing is sent there.
        bench.swap(plain)
        assert await other == "no_candidate"
        await asyncio.gather(holds, waits)

    run(loop, main(), bench)


def test_an_endpoint_that_is_let_in_again_takes_who_waits(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a", 2)))

    async def main() -> None:
        out = "ai/a@10.0.97.1:80"
        breaker = bench.signals[out].breaker
        for _ in range(3):
            breaker.probed(bench.now(), well=False)
        bench.signals.ejected.put_out(breaker, bench.now())
        holds = bench.start("holds", takes_s=20.0)
        await begun(holds)
        waits = bench.start("waits")
        await begun(waits)
        assert bench.waiting == 1
        bench.signals.ejected.let_in(breaker, bench.now())
        await begun(waits)
        assert [name for name, _ in bench.log] == ["holds", "waits"]
        await asyncio.gather(holds, waits)

    run(loop, main(), bench)


def test_what_rests_is_not_waited_for_in_a_queue(loop: VirtualTimeLoop) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a")))

    async def main() -> None:
        mark = Mark("ai/a", "overloaded", 5.0, endpoint="ai/a@10.0.97.0:80")
        bench.signals.marks.put(mark, bench.now())
        assert await bench.ask("one") == "resting"

    run(loop, main(), bench)


def test_what_failed_waits_at_the_place_of_when_it_came_and_never_for_what_failed_it(
    loop: VirtualTimeLoop,
) -> None:
    bench = Bench(snapshot(one_tier("a"), *pool("a", 2)))

    async def main() -> None:
        call, asked = Call("chat", bench.now()), view()
        assert bench.snapshot is not None
        decided = decide(bench.snapshot, asked, bench.signals, now=bench.now(), rng=Random(1))
        assert isinstance(decided, Decision)
        call.tried.append(Tried(decided.candidate, failure="overloaded"))
        call.until = bench.now() + 60.0
        failed_it = decided.candidate.endpoint.id
        tasks = [bench.start(str(number), takes_s=2.0 + number) for number in range(3)]
        await begun(*tasks)
        assert bench.waiting == 1

        def following() -> Candidate | None:
            return next_candidate(
                decided.plan, call.tried, bench.signals, now=bench.now(), rng=Random(1)
            )

        began_at = bench.now()
        found = await bench.admission.wait_again(call, decided.plan, following)
        assert isinstance(found, Candidate)
        assert found.endpoint.id != failed_it
        # The slot of the endpoint that failed it went to the one behind it.
        assert bench.now() - began_at == pytest.approx(2.0, abs=1.01)
        await asyncio.gather(*tasks)
        # And where nothing else is there, it does not wait at all.
        bench.swap(one_tier("a"), *pool("a", 1))
        call.tried[:] = [
            Tried(decided.candidate, failure="overloaded", whole_backend=True),
        ]
        assert await bench.admission.wait_again(call, decided.plan, following) is None

    run(loop, main(), bench)


# === A later tier ===


def test_without_a_spill_a_full_tier_hands_on_and_the_last_one_is_waited_for(
    loop: VirtualTimeLoop,
) -> None:
    bench = Bench(snapshot(two_tiers(None), *pool("a"), *pool("b")))

    async def main() -> None:
        tasks = [bench.start(name) for name in ("one", "two", "three")]
        await begun(*tasks)
        assert bench.log == [("one", "a"), ("two", "b")]
        assert bench.waiting == 2, "it waits for either"
        await asyncio.gather(*tasks)

    run(loop, main(), bench)
    assert [bench.calls[name].reason() for name in ("one", "two")] == [
        "primary",
        "tier_unavailable",
    ]


def test_a_request_waits_for_its_tier_as_long_as_the_spill_says_though_the_next_is_free(
    loop: VirtualTimeLoop,
) -> None:
    spill = ir.Spill(queue_wait_ms=2_000)
    bench = Bench(snapshot(two_tiers(spill), *pool("a"), *pool("b", max_in_flight=100)))

    async def main() -> None:
        tasks = [bench.start("holds", takes_s=1.5)]
        await begun(*tasks)
        tasks += [bench.start("waits", takes_s=1.5), bench.start("spills", takes_s=1.5)]
        began_at = bench.now()
        await begun(*tasks)
        assert bench.log == [("holds", "a")]
        assert await asyncio.gather(*tasks) == ["a", "a", "b"]
        assert bench.now() - began_at == pytest.approx(3.5), "it had waited for two seconds"
        # From now on it is known how long a request is there: four of them are too many.
        assert bench.calls["spills"].reason() == "spill:queueWait"
        tasks = [bench.start(f"again-{number}", takes_s=1.5) for number in range(4)]
        await begun(*tasks)
        assert [where for _, where in bench.log[3:]] == ["a", "b"]
        assert bench.calls["again-3"].reason() == "spill:queueWait"
        await asyncio.gather(*tasks)

    run(loop, main(), bench)


def test_a_full_queue_spills_and_does_not_refuse(loop: VirtualTimeLoop) -> None:
    spill = ir.Spill(queue_wait_ms=60_000)
    near = pool("a", queue=ir.Queue(1, 60_000))
    bench = Bench(snapshot(two_tiers(spill), *near, *pool("b", max_in_flight=100)))

    async def main() -> None:
        tasks = [bench.start(name) for name in ("holds", "waits", "spills")]
        await begun(*tasks)
        assert bench.log == [("holds", "a"), ("spills", "b")]
        assert bench.calls["spills"].reason() == "spill:queueWait"
        await asyncio.gather(*tasks)

    run(loop, main(), bench)


# === Backends that are scaled to zero ===


def test_requests_wait_for_the_first_endpoint_though_the_next_tier_is_free(
    loop: VirtualTimeLoop,
) -> None:
    rules = two_tiers(None)
    near, ready = pool("a", queue=ir.Queue(10, 60_000), **WAKES)
    bench = Bench(snapshot(rules, near, *pool("b", max_in_flight=100)))

    async def main() -> None:
        tasks = [bench.start("low", priority=-1), bench.start("high", priority=1)]
        await begun(*tasks)
        assert (bench.signals.waking.counts(), bench.log) == ({"ai/a": 2}, [])
        await asyncio.sleep(20.0)
        bench.swap(rules, near, ready, *pool("b", max_in_flight=100), changed={"ai/a"})
        # One slot: the higher goes first. Nothing says that the other waits, so the next tier.
        assert await asyncio.gather(*tasks) == ["b", "a"]
        assert bench.log[0] == ("high", "a")

    run(loop, main(), bench)


def test_after_the_hold_the_next_tier_serves_or_nobody(loop: VirtualTimeLoop) -> None:
    near, _ = pool("a", **WAKES)
    bench = Bench(snapshot(two_tiers(None), near, *pool("b")))

    async def main() -> None:
        began_at = bench.now()
        task = bench.start("held", takes_s=0.0)
        assert await task == "b"
        assert bench.now() - began_at == pytest.approx(30.0)
        bench.swap(one_tier("a"), near)
        began_at = bench.now()
        assert await bench.ask("alone") == "no_candidate"
        assert bench.now() - began_at == pytest.approx(30.0)
        began_at = bench.now()
        assert await bench.ask("hasty", deadline_ms=1_000) == "deadline"
        assert bench.now() - began_at == pytest.approx(1.0)

    run(loop, main(), bench)


def test_who_woke_with_others_waits_in_the_queue_from_then_on(loop: VirtualTimeLoop) -> None:
    near, ready = pool("a", queue=ir.Queue(10, 5_000), **WAKES)
    bench = Bench(snapshot(one_tier("a"), near))

    async def main() -> None:
        tasks = [bench.start(name, takes_s=4.0) for name in ("one", "two", "three")]
        await asyncio.sleep(25.0)
        began_at = bench.now()
        bench.swap(one_tier("a"), near, ready, changed={"ai/a"})
        await begun(*tasks)
        assert (bench.signals.waking.counts(), bench.signals.queues.counts()) == (
            {"ai/a": 0},
            {"ai/a": 2},
        )
        assert await tasks[2] == "overloaded"
        assert bench.now() - began_at == pytest.approx(5.0), "counted from when it was full"
        assert await asyncio.gather(*tasks[:2]) == ["a", "a"]

    run(loop, main(), bench)


def test_a_tier_with_an_endpoint_is_awake_whatever_its_other_backends_are(
    loop: VirtualTimeLoop,
) -> None:
    asleep, _ = pool("a", **WAKES)
    bench = Bench(snapshot(one_tier("a", "b"), asleep, *pool("b")))

    async def main() -> None:
        assert await bench.ask("one") == "b"

    run(loop, main(), bench)
