"""Whatever comes and leaves: limits hold, slots do not lie idle, and nothing stays behind."""

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.policies import policy, rule, snapshot, tier
from fakes.virtual_time import VirtualTimeLoop
from fakes.waiting_room import Bench, pool
from switchboard_policy import ir

#: When a request comes, how long it holds an endpoint, its priority, when its caller leaves.
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.integers(1, 4),
        st.integers(-2, 2),
        st.none() | st.integers(0, 6),
    ),
    min_size=1,
    max_size=30,
)
SPILLS = st.none() | st.builds(
    ir.Spill,
    queue_wait_ms=st.none() | st.just(2_000),
    in_flight_permille=st.none() | st.just(500),
)
SERVED = {"a", "b"}


@settings(max_examples=150, deadline=None)
@given(
    requests=REQUESTS,
    room=st.integers(1, 20),
    near=st.integers(1, 3),
    far=st.integers(0, 2),
    spill=SPILLS,
    awake_at=st.none() | st.integers(0, 6),
)
def test_nothing_stays_behind_and_no_slot_lies_idle(
    requests: list[tuple[int, int, int, int | None]],
    room: int,
    near: int,
    far: int,
    spill: ir.Spill | None,
    awake_at: int | None,
) -> None:
    tiers = [tier("near", "a", spill=spill), *([tier("far", "b")] if far else [])]
    if not far:
        tiers = [tier("near", "a")]
    rules = policy("chat", rule("default", *tiers))
    said = {"queue": ir.Queue(room, 5_000), "wake_hold_ms": 4_000}
    backend, ready = pool("a", near, **said)
    others = pool("b", far, queue=None) if far else ()
    asleep = awake_at is not None
    bench = Bench(snapshot(rules, backend, *(() if asleep else (ready,)), *others))

    async def one(name: str, at: int, takes: int, priority: int, leaves: int | None) -> str:
        await asyncio.sleep(at)
        task = bench.start(name, takes_s=float(takes), priority=priority)
        if leaves is not None:
            await asyncio.wait([task], timeout=leaves + 0.5)
            task.cancel()
            await asyncio.wait([task])
        return "left" if task.cancelled() else await task

    async def wakes() -> None:
        if awake_at is not None:
            await asyncio.sleep(awake_at + 0.25)
            bench.swap(rules, backend, ready, *others, changed={"ai/a"})

    async def watch() -> None:
        while True:
            # Between two events nobody waits in a queue while a slot is free.
            await asyncio.sleep(0.1)
            waits = bench.signals.queues.counts().get("ai/a", 0)
            busy = bench.signals.backend("ai/a").in_flight
            assert not waits or busy == near, (waits, busy)

    async def main() -> None:
        watcher = asyncio.create_task(watch())
        waker = asyncio.create_task(wakes())
        became = await asyncio.gather(
            *(one(str(number), *said) for number, said in enumerate(requests))
        )
        assert set(became) <= {*SERVED, "left", "overloaded", "no_candidate", "deadline"}
        await waker
        assert not watcher.done(), watcher.exception()
        watcher.cancel()
        await asyncio.wait([watcher])

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(main())
        bench.assert_idle()
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=20), st.integers(0, 10**6))
def test_the_order_is_by_priority_and_then_by_arrival(priorities: list[int], seed: int) -> None:
    room = ir.Queue(len(priorities), 60_000)
    bench = Bench(
        snapshot(policy("chat", rule("default", tier("near", "a"))), *pool("a", queue=room))
    )
    chance = Random(seed)

    async def main() -> None:
        tasks = [bench.start("holds")]
        await asyncio.sleep(0.1)
        for number, priority in enumerate(priorities):
            tasks.append(bench.start(str(number), priority=priority, takes_s=chance.random()))
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    served = [int(name) for name, _ in bench.log[1:]]
    assert served == sorted(range(len(priorities)), key=lambda one: -priorities[one])
