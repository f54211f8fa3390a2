"""Through real sockets: who waits for an endpoint, spills to the next tier, or wakes one up."""

import asyncio
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fakes.crowds import (
    SOON_S,
    ask,
    crowd,
    idle,
    page,
    pool,
    tiers,
    waiting,
    waits_for,
)
from fakes.gateway import Gateway, chat, external, fakes, gateway, until
from fakes.policies import endpoints, policy, rule, service, tier
from fakes.virtual_time import now_s
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


REPO = Path(__file__).parents[3]


#: The sum that the page gives autoscalers to read: the metrics, and whose they are.
QUERY = re.compile(r'sum\(\{__name__=~"([^"]+)",\s+backend="([^"]+)"\}\)')


#: A sample of a gauge with no label but the backend.
SAMPLE = re.compile(r'^(\w+)\{backend="([^"]+)"\} (\S+)$', re.MULTILINE)


async def test_requests_beyond_the_limit_wait_and_are_all_served() -> None:
    async with (
        fakes({"ttft_ms": 100}) as models,
        gateway(tiers("pool"), *pool(models, queue=ir.Queue(10, 10_000))) as gw,
        crowd(gw) as session,
    ):
        asked = [asyncio.create_task(ask(gw, session, stream=one % 2 > 0)) for one in range(6)]
        await until(lambda: waiting(gw) == 5)
        assert 'switchboard_queue_waiting{backend="ai/pool"} 5.0' in await page(gw)
        told = (await gw.admin("/backends")).json["backends"]["ai/pool"]
        assert (told["queued"], told["waking"]) == (5, 0)
        for status, backend, reason in await asyncio.gather(*asked):
            assert (status, backend, reason) == (200, "ai/pool", "primary")
        assert models[0].engine.records.seen == 6


async def watch_limit(gw: Gateway, limit: int) -> None:
    """End when an endpoint of the pool has more in flight than it takes."""
    signals = gw.plane.in_force.signals

    def is_over() -> bool:
        return any(one.in_flight > limit for at, one in signals.items() if "pool" in at)

    while not is_over():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.002)


async def test_a_full_queue_answers_503_with_the_time_to_come_back() -> None:
    async with (
        fakes({"ttft_ms": 300}) as models,
        gateway(tiers("pool"), *pool(models, queue=ir.Queue(1, 10_000))) as gw,
        crowd(gw) as session,
    ):
        asked = [asyncio.create_task(ask(gw, session)) for _ in range(2)]
        await until(lambda: waiting(gw) == 1)
        reply = await gw.send(chat())
        assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert [status for status, _, _ in await asyncio.gather(*asked)] == [200, 200]


async def test_who_gives_way_hears_it_at_once_and_the_higher_is_served_first() -> None:
    async with (
        fakes({"ttft_ms": 500}) as models,
        gateway(tiers("pool"), *pool(models, queue=ir.Queue(2, 10_000))) as gw,
        crowd(gw) as session,
    ):
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        order: list[str] = []

        async def prioritised(priority: str) -> int:
            named = {"x-switchboard-priority": priority}
            status, _, _ = await ask(gw, session, headers=named)
            order.append(priority)
            return status

        waits = []
        for priority, arrived in (("-1", 1), ("0", 2)):
            waits.append(asyncio.create_task(prioritised(priority)))
            await until(partial(waits_for, gw, arrived))
        waits.append(asyncio.create_task(prioritised("50")))
        assert await waits[0] == 503
        assert not holds.done(), "it was told before anything was free"
        assert await asyncio.gather(*waits[1:]) == [200, 200]
        assert order == ["-1", "50", "0"]
        await holds


@pytest.mark.parametrize("priority", ["101", "-101", "1.5", "high", "", "1e2", "+-1", "9999"])
async def test_a_priority_that_is_none_is_told_so(priority: str) -> None:
    async with (
        fakes({}) as models,
        gateway(tiers("pool"), *pool(models)) as gw,
    ):
        reply = await gw.send(chat(), x_switchboard_priority=priority)
        assert (reply.status, reply.error["param"]) == (400, "x-switchboard-priority")
        assert reply.error["code"] == "invalid_value"


@pytest.mark.parametrize("priority", ["100", "-100", "+5", "0"])
async def test_a_priority_goes_no_further(priority: str) -> None:
    async with (
        fakes({}) as models,
        gateway(tiers("pool"), *pool(models)) as gw,
    ):
        assert (await gw.send(chat(), x_switchboard_priority=priority)).status == 200
        (seen,) = models[0].engine.records.last(1)
        assert not [name for name in seen.headers if name.lower().startswith("x-switchboard")]


async def test_a_caller_that_leaves_while_it_waits_is_gone_within_a_tenth_of_a_second() -> None:
    async with (
        fakes({"ttft_ms": 1_500}) as models,
        gateway(tiers("pool"), *pool(models, queue=ir.Queue(10, 10_000))) as gw,
        crowd(gw) as session,
    ):
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        leaves = asyncio.create_task(ask(gw, session))
        stays = asyncio.create_task(ask(gw, session))
        await until(lambda: waiting(gw) == 2)
        left_at = now_s()
        leaves.cancel()
        await until(lambda: waiting(gw) == 1)
        assert now_s() - left_at < SOON_S
        assert (await holds)[0] == (await stays)[0] == 200
        assert models[0].engine.records.seen == 2
        outcome = next(one for one in gw.outcomes if one.caller_left)
        assert (outcome.attempts, outcome.policy) == ((), "ai/chat")


async def test_1600_requests_at_8_endpoints_leave_nothing_behind() -> None:
    limit, room = 20, 1_000
    quiet: dict[str, object] = {"ttft_ms": 50, "recorded_requests": 1}
    async with (
        fakes(*[quiet] * 8) as models,
        gateway(
            tiers("pool"),
            *pool(models, max_in_flight=limit, queue=ir.Queue(room, 60_000)),
        ) as gw,
        crowd(gw) as session,
    ):
        watch = asyncio.create_task(watch_limit(gw, limit))
        said = await asyncio.gather(*(ask(gw, session) for _ in range(1_600)))
        assert not watch.done(), "no endpoint ever had more than its limit"
        watch.cancel()
        await asyncio.wait([watch])
        counts = {status: sum(one[0] == status for one in said) for status in (200, 503)}
        assert sum(counts.values()) == 1_600
        assert counts[200] >= 8 * limit + room, "what had room was served"
        await idle(gw)
        # And it is as it was before: a request is served at once.
        assert (await ask(gw, session))[:2] == (200, "ai/pool")


async def test_saturation_and_return() -> None:
    limit = 4
    quiet: dict[str, object] = {"ttft_ms": 150, "recorded_requests": 1}
    async with (
        fakes(quiet, quiet, quiet) as (one, two, far),
        gateway(
            tiers("pool", "far", spill=ir.Spill(queue_wait_ms=200)),
            *pool([one, two], max_in_flight=limit, queue=ir.Queue(50, 10_000)),
            external("far", far.url, timeouts={"connect_ms": 20_000, "total_ms": 60_000}),
        ) as gw,
        crowd(gw) as session,
    ):
        watch = asyncio.create_task(watch_limit(gw, limit))
        assert {await ask(gw, session) for _ in range(4)} == {(200, "ai/pool", "primary")}
        # The tier serves some 50 a second.
        crowded = Counter(await asyncio.gather(*(ask(gw, session) for _ in range(400))))
        at_home = crowded[200, "ai/pool", "primary"]
        elsewhere = crowded[200, "ai/far", "spill:queueWait"]
        assert at_home + elsewhere == 400, crowded
        assert at_home >= 2 * limit
        assert elsewhere > 0
        await idle(gw)
        # What comes now is served by its own tier again.
        assert {await ask(gw, session) for _ in range(4)} == {(200, "ai/pool", "primary")}
        assert not watch.done(), "no endpoint of the pool ever had more than its limit"
        watch.cancel()
        await asyncio.wait([watch])


async def test_saturation_without_another_tier_sheds_at_once_and_returns() -> None:
    async with (
        fakes({"ttft_ms": 50, "recorded_requests": 1}) as models,
        gateway(tiers("pool"), *pool(models, max_in_flight=4, queue=ir.Queue(8, 10_000))) as gw,
        crowd(gw) as session,
    ):
        shed_s: list[float] = []

        async def timed() -> int:
            began_at = now_s()
            status, _, _ = await ask(gw, session)
            if status == 503:
                shed_s.append(now_s() - began_at)
            return status

        for _ in range(3):
            said = Counter(await asyncio.gather(*(timed() for _ in range(60))))
            assert said[200] >= 12
            assert said[200] + said[503] == 60
            await idle(gw)
            assert await timed() == 200
        # Who is shed is told so: none of them has waited for the queue's ten seconds.
        assert max(shed_s) < 2.0


async def test_requests_wait_for_a_backend_that_is_scaled_to_zero_and_wake_with_it() -> None:
    async with (
        fakes({}) as models,
        gateway() as gw,
        crowd(gw) as session,
    ):
        rules, (backend, ready) = tiers("pool"), pool(models, max_in_flight=64, wake_hold_ms=20_000)
        await gw.publish(rules, backend, endpoints("pool"))
        asked = [asyncio.create_task(ask(gw, session)) for _ in range(5)]
        await until(lambda: waiting(gw) == 5)
        assert 'switchboard_wake_waiting{backend="ai/pool"} 5.0' in await page(gw)
        await gw.publish(rules, backend, ready)
        began_at = now_s()
        assert {one[:2] for one in await asyncio.gather(*asked)} == {(200, "ai/pool")}
        assert now_s() - began_at < 1.0
        assert 'switchboard_wake_waiting{backend="ai/pool"} 0.0' in await page(gw)


async def test_the_query_of_the_page_sums_who_waits_and_what_is_in_flight() -> None:
    (query, *others) = set(QUERY.findall((REPO / "docs" / "load.md").read_text()))
    assert not others, "one query for every autoscaler"
    names, backend = re.compile(query[0]), query[1]
    async with (
        fakes({"ttft_ms": 400}) as models,
        gateway() as gw,
        crowd(gw) as session,
    ):

        async def demand() -> float:
            found = [one for one in SAMPLE.findall(await page(gw)) if names.fullmatch(one[0])]
            assert {one[1] for one in found} == {"ai/pool"}
            return sum(float(one[2]) for one in found)

        assert backend == "ai/llama-8b"
        fields: dict[str, Any] = {"queue": ir.Queue(9, 9_000), "wake_hold_ms": 20_000}
        backend_entry, ready = pool(models, **fields)
        await gw.publish(tiers("pool"), backend_entry, endpoints("pool"))
        assert await demand() == 0.0
        asked = [asyncio.create_task(ask(gw, session)) for _ in range(3)]
        await until(lambda: waiting(gw) == 3)
        assert await demand() == 3.0
        await gw.publish(tiers("pool"), backend_entry, ready)
        await until(lambda: waiting(gw) == 2)
        assert await demand() == 3.0
        assert {one[:2] for one in await asyncio.gather(*asked)} == {(200, "ai/pool")}
        await until(lambda: not len(gw.plane.live))
        assert await demand() == 0.0


async def test_after_the_hold_the_next_tier_answers() -> None:
    async with (
        fakes({}) as (far,),
        gateway(
            tiers("pool", "far"),
            service("pool", wake_hold_ms=300),
            endpoints("pool"),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        began_at = now_s()
        assert await ask(gw, session) == (200, "ai/far", "tier_unavailable")
        assert 0.25 < now_s() - began_at < 2.0


async def test_after_the_hold_without_a_next_tier_the_caller_hears_why() -> None:
    async with (
        gateway(tiers("pool"), service("pool", wake_hold_ms=200), endpoints("pool")) as gw,
        crowd(gw),
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.error["code"]) == (503, "no_candidate")
        assert "has no endpoint that is ready" in reply.error["message"]


async def test_a_backend_that_is_forbidden_while_a_request_waits_does_not_serve_it() -> None:
    async with (
        fakes({"ttft_ms": 600}) as models,
        gateway() as gw,
        crowd(gw) as session,
    ):
        backend = pool(models, queue=ir.Queue(10, 10_000))
        await gw.publish(tiers("pool"), *backend)
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        waits = asyncio.create_task(ask(gw, session))
        await until(lambda: waiting(gw) == 1)
        rail = ir.Guardrail(name="nobody", policy="ai/chat", forbids=("ai/pool",))
        forbids = policy("chat", rule("default", tier("near", "pool")), guardrails=(rail,))
        await gw.publish(forbids, *backend)
        assert (await waits)[::2] == (503, "no_candidate")
        assert (await holds)[0] == 200
        assert models[0].engine.records.seen == 1


async def test_who_still_waits_at_the_drain_deadline_is_told_so() -> None:
    async with (
        fakes({"ttft_ms": 5_000}) as models,
        gateway(tiers("pool"), *pool(models, queue=ir.Queue(10, 10_000))) as gw,
        crowd(gw) as session,
    ):
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        waits = asyncio.create_task(ask(gw, session))
        await until(lambda: waiting(gw) == 1)
        await gw.plane.live.drain(0.2)
        assert {one[::2] for one in await asyncio.gather(holds, waits)} == {(503, "shutting_down")}


async def test_what_failed_waits_for_another_endpoint_as_if_it_had_just_come() -> None:
    fault: dict[str, object] = {"ttft_ms": 100, "faults": [{"kind": "status", "status": 503}]}
    async with (
        fakes({"ttft_ms": 600}, fault) as (good, bad),
        gateway(
            tiers("pool"), *pool([good, bad], queue=ir.Queue(10, 10_000), health=ir.Health())
        ) as gw,
        crowd(gw) as session,
    ):
        first = [asyncio.create_task(ask(gw, session)) for _ in range(2)]
        said = await asyncio.gather(*first)
        assert sorted(one[2] for one in said) == ["primary", "retry:overloaded"]
        assert {one[0] for one in said} == {200}
        assert (good.engine.records.seen, bad.engine.records.seen) == (2, 1)


async def test_what_the_retry_budget_does_not_allow_is_not_waited_for() -> None:
    fault: dict[str, object] = {"faults": [{"kind": "status", "status": 503}]}
    async with (
        fakes(fault, fault) as models,
        gateway(
            policy("chat", rule("default", tier("near", "pool")), retry_budget_permille=0),
            *pool(models, queue=ir.Queue(10, 10_000)),
        ) as gw,
        crowd(gw) as session,
    ):
        began_at = now_s()
        assert (await ask(gw, session))[0] == 503
        assert now_s() - began_at < 2.0
        assert sum(model.engine.records.seen for model in models) == 1


async def test_endpoints_that_fail_under_a_full_queue_cost_no_request_and_no_slot() -> None:
    broken: dict[str, object] = {"faults": [{"kind": "status", "status": 503}], "ttft_ms": 20}
    good: dict[str, object] = {"ttft_ms": 50}
    breaker = ir.Health(breaker=ir.Breaker(consecutive_failures=3, open_for_ms=200))
    queue = ir.Queue(1_000, 30_000)
    async with (
        fakes(broken, {"faults": [{"kind": "reset"}]}, good, good) as models,
        gateway(
            policy(
                "chat",
                rule("default", tier("near", "pool")),
                retry_budget_permille=1_000,
                attempts=5,
            ),
            *pool(models, max_in_flight=4, queue=queue, health=breaker),
        ) as gw,
        crowd(gw) as session,
    ):
        said = await asyncio.gather(*(ask(gw, session, stream=n % 2 > 0) for n in range(300)))
        failed = [one for one in said if one[0] != 200]
        # One that meets both broken ones, and those again, has used up its attempts.
        assert len(failed) <= 5, failed
        await idle(gw)
