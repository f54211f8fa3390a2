"""Through real sockets: who fails is left out, who is well again is back, and nobody waits for it.

Times are those of production: an endpoint is left out for ten seconds, an outage takes a minute.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fakes.gateway import Gateway, Reply, chat, external, failover, fakes, gateway, until
from fakes.policies import endpoints, keyring
from fakes.upstreams import Conversation, peer
from switchboard_cli.fake_model.server import Serving, serve
from switchboard_cli.fake_model.settings import Settings, patch_settings
from switchboard_policy import ir
from switchboard_policy.names import origin

pytestmark = pytest.mark.usefixtures("each_front")

OPEN_S = ir.Breaker().open_for_ms / 1000
FIRST_TOKEN_S = 10.0
OVERLOADED = {"kind": "status", "status": 503}
FAILING = {"kind": "status", "status": 500}
SILENT = {"kind": "stall"}
CUT = {"kind": "cut"}


def pods(name: str, *serving: Serving, **fields: Any) -> tuple[ir.Entry, ...]:
    """A backend of a Service whose endpoints are these fake models."""
    fields = {"timeouts": {"first_token_ms": int(FIRST_TOKEN_S * 1000)}} | fields
    made = external(name, "http://pods.ai.svc:8000", external=False, **fields)
    return made, endpoints(name, *(f"127.0.0.1:{one.port}" for one in serving))


def alter(serving: Serving, **settings: object) -> None:
    """Change how a fake model behaves from now on."""
    engine = serving.engine
    engine.apply(patch_settings(engine.settings, settings), faults_anew=True)


def attempts(gw: Gateway, serving: Serving) -> Counter[str]:
    """What became of the attempts at a fake model."""
    return Counter(
        one.failure or "answered"
        for outcome in gw.outcomes
        for one in outcome.attempts
        if one.endpoint.endswith(f":{serving.port}")
    )


async def all_of(gw: Gateway, number: int, **fields: Any) -> list[Reply]:
    """Send so many requests, a few at a time."""
    replies: list[Reply] = []
    for _ in range(number // 5):
        replies += await asyncio.gather(*(gw.send(chat(**fields)) for _ in range(5)))
    await until(lambda: len(gw.outcomes) >= number)
    return replies


async def every(seconds: float, *, lasting_s: float) -> AsyncGenerator[int]:
    """Count, once every so many seconds, for so long."""
    started_at = clock()
    number = 0
    while (at := number * seconds) < lasting_s:
        await asyncio.sleep(started_at + at - clock())
        yield number
        number += 1


def clock() -> float:
    """The loop's time: its jumps are the only passing of time."""
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def settled(gw: Gateway) -> AsyncGenerator[None]:
    """Check at the end of a scenario that nothing of it is left."""
    yield
    signals = gw.plane.in_force.signals
    await until(lambda: not any(signal.in_flight for signal in signals.values()))
    assert not len(gw.plane.live)


async def ejected(gw: Gateway, name: str) -> list[Any]:
    """What /backends says of the ejections of a backend's endpoints."""
    told = (await gw.admin("/backends")).json["backends"][f"ai/{name}"]
    return [one["ejected"] for one in told["endpoints"]]


def most_probes(began_at: float) -> float:
    """How often an open breaker can have been due since then."""
    return (clock() - began_at) / (0.8 * OPEN_S) + 1


async def test_503_for_ever_costs_five_requests_an_attempt_each_and_a_probe_now_and_then() -> None:
    began_at = clock()
    async with (
        fakes({"faults": [OVERLOADED]}, {}) as (bad, good),
        gateway(failover("bad", "good"), *pods("bad", bad), external("good", good.url)) as gw,
        settled(gw),
    ):
        replies = await all_of(gw, 100)
        assert {reply.status for reply in replies} == {200}
        # Five at a time: those under way while the fifth failure was on its way came too.
        assert 5 <= attempts(gw, bad)["overloaded"] <= 9 + most_probes(began_at)
        (told,) = await ejected(gw, "bad")
        assert (told["breaker"]["state"], told["breaker"]["why"]) == ("open", "overloaded")
        assert 0 <= told["breaker"]["due_in_s"] <= OPEN_S
        page = (await gw.admin("/metrics")).body.decode()
        assert 'switchboard_breaker_ejected{backend="ai/bad"} 1' in page
        assert 'switchboard_breaker_ejected{backend="ai/good"} 0' in page
        assert replies[-1].headers["x-switchboard-reason"] == "tier_unavailable"


async def test_a_fast_failing_pod_among_good_ones_attracts_nothing() -> None:
    began_at = clock()
    async with (
        fakes({"faults": [FAILING]}, {"ttft_ms": 5}, {"ttft_ms": 5}) as (bad, *good),
        gateway(failover("pods"), *pods("pods", bad, *good)) as gw,
        settled(gw),
    ):
        replies = await all_of(gw, 200)
        assert {reply.status for reply in replies} == {200}
        assert sum(attempts(gw, bad).values()) <= 9 + most_probes(began_at)
        assert all(attempts(gw, one)["answered"] >= 50 for one in good)


async def test_a_pod_that_hangs_among_fast_ones_is_left_out() -> None:
    async with (
        fakes({"faults": [{"kind": "stall"}]}, {}, {}) as (hung, *good),
        gateway(failover("pods"), *pods("pods", hung, *good)) as gw,
        settled(gw),
    ):
        replies = await all_of(gw, 100, stream=True)
        assert {reply.status for reply in replies} == {200}
        assert all(reply.text for reply in replies)
        assert set(attempts(gw, hung)) == {"timeout"}
        assert sum(attempts(gw, hung).values()) <= 12
        waited_s = sorted(outcome.ttft_s or 0.0 for outcome in gw.outcomes)
        assert waited_s[80] < FIRST_TOKEN_S, "most never met it"


async def test_a_slow_pod_among_fast_ones_serves_less_and_is_not_left_out() -> None:
    async with (
        fakes({"ttft_ms": 150}, {"ttft_ms": 5}, {"ttft_ms": 5}) as (slow, *fast),
        gateway(failover("pods"), *pods("pods", slow, *fast)) as gw,
        settled(gw),
    ):
        replies = await all_of(gw, 200)
        assert {reply.status for reply in replies} == {200}
        assert attempts(gw, slow)["answered"] < min(attempts(gw, one)["answered"] for one in fast)
        assert await ejected(gw, "pods") == [None] * 3


async def outage_of_a_minute(
    gw: Gateway, away: Callable[..., Awaitable[None]], *, back_within_s: float, **fields: Any
) -> Counter[str]:
    """Twenty requests in a minute of outage, all served; return what the dead one got of them."""
    assert {reply.status for reply in await all_of(gw, 10, **fields)} == {200}
    await away(now=True)
    asked = [asyncio.create_task(gw.send(chat(**fields))) async for _ in every(3.0, lasting_s=60.0)]
    await asyncio.sleep(3.0)
    await away(now=False)
    recovered_at = clock()
    assert len(asked) == 20
    async for _ in every(0.1, lasting_s=60.0):
        reply = await gw.send(chat(**fields))
        assert reply.status == 200
        if reply.headers["x-switchboard-backend"] == "ai/pods":
            break
    assert clock() - recovered_at <= back_within_s
    assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
    await until(lambda: len(gw.outcomes) > 30)
    assert await ejected(gw, "pods") == [None]
    return Counter(
        attempt.failure
        for outcome in gw.outcomes
        for attempt in outcome.attempts
        if attempt.endpoint.startswith("ai/pods@") and attempt.failure
    )


#: Of twenty requests in a minute: five to open, and one each time that the breaker is due.
A_HANDFUL = 5 + int(60.0 / (0.8 * OPEN_S))


@pytest.mark.parametrize(
    ("fault", "failure"),
    [(OVERLOADED, "overloaded"), (FAILING, "server_error"), (CUT, "reset")],
    ids=["503", "500", "cut"],
)
async def test_an_outage_of_a_minute_is_served_through_and_over_ten_seconds_after_it(
    fault: dict[str, object], failure: str
) -> None:
    async with (
        fakes({}, {}) as (model, spare),
        gateway(
            failover("pods", "spare"), *pods("pods", model), external("spare", spare.url)
        ) as gw,
        settled(gw),
    ):

        async def away(*, now: bool) -> None:
            alter(model, faults=[fault] if now else [])

        paid = await outage_of_a_minute(gw, away, back_within_s=OPEN_S)
        assert paid.keys() == {failure}
        assert paid.total() <= A_HANDFUL


async def test_a_minute_without_anybody_at_the_address_is_served_through_too() -> None:
    async with fakes({}) as (spare,), AsyncExitStack() as running:
        model = await running.enter_async_context(serve(Settings()))
        async with (
            gateway(
                failover("pods", "spare"), *pods("pods", model), external("spare", spare.url)
            ) as gw,
            settled(gw),
        ):

            async def away(*, now: bool) -> None:
                if now:
                    await running.aclose()
                else:
                    await running.enter_async_context(serve(Settings(), port=model.port))

            paid = await outage_of_a_minute(gw, away, back_within_s=OPEN_S)
            assert paid.keys() <= {"connect", "reset"}
            assert paid.total() <= A_HANDFUL


async def test_a_minute_of_silence_is_served_through_and_over_when_the_last_try_is() -> None:
    async with (
        fakes({}, {}) as (model, spare),
        gateway(
            failover("pods", "spare"), *pods("pods", model), external("spare", spare.url)
        ) as gw,
        settled(gw),
    ):

        async def away(*, now: bool) -> None:
            alter(model, faults=[SILENT] if now else [])

        # What was tried just before the end hangs for its time, and then the breaker is open.
        within_s = FIRST_TOKEN_S + OPEN_S
        paid = await outage_of_a_minute(gw, away, back_within_s=within_s, stream=True)
        assert paid.keys() == {"timeout"}
        assert paid.total() <= A_HANDFUL


async def test_with_a_probe_the_end_of_an_outage_is_seen_before_any_request_pays() -> None:
    health = ir.Health(probe=ir.Probe("/health"))
    async with (
        fakes({}, {}) as (model, spare),
        gateway(
            failover("pods", "spare"),
            *pods("pods", model, health=health),
            external("spare", spare.url),
        ) as gw,
        settled(gw),
    ):

        async def away(*, now: bool) -> None:
            alter(model, faults=[OVERLOADED] if now else [], healthy=not now)

        paid = await outage_of_a_minute(gw, away, back_within_s=1.1 * 5.0 + 0.2)
        # Three probes in a row, five seconds apart: until then every request pays.
        assert paid["overloaded"] in {4, 5}


async def test_endpoints_that_flap_cost_no_answer() -> None:
    async with (
        fakes({}, {}, {}) as (one, other, steady),
        gateway(failover("pods"), *pods("pods", one, other, steady)) as gw,
        settled(gw),
    ):
        statuses: Counter[int] = Counter()
        async for number in every(0.4, lasting_s=60.0):
            if number % 10 == 0:
                down = (number // 10) % 3
                alter(one, faults=[FAILING] if down == 1 else [])
                alter(other, faults=[OVERLOADED] if down == 2 else [])
            replies = await asyncio.gather(*(gw.send(chat()) for _ in range(3)))
            statuses.update(reply.status for reply in replies)
        assert statuses.keys() == {200}
        alter(one, faults=[])
        alter(other, faults=[])
        async for _ in every(0.4, lasting_s=2 * OPEN_S):
            await gw.send(chat())
            if not gw.plane.in_force.signals.ejected:
                break
        assert await ejected(gw, "pods") == [None] * 3


async def test_where_all_are_out_they_are_asked_all_the_same_and_the_first_answer_ends_it() -> None:
    async with (
        fakes({"faults": [FAILING]}, {"faults": [FAILING]}) as (one, other),
        gateway(failover("pods"), *pods("pods", one, other)) as gw,
        settled(gw),
    ):
        assert {reply.status for reply in await all_of(gw, 20)} == {502}
        assert all(await ejected(gw, "pods"))
        alter(one, faults=[])
        alter(other, faults=[])
        reply = await gw.send(chat())
        assert reply.status == 200, "nobody waits for a breaker where nothing else is there"
        await until(lambda: len(gw.outcomes) == 21)
        assert any(outcome.panic for outcome in gw.outcomes)
        page = (await gw.admin("/metrics")).body.decode()
        assert 'switchboard_panics_total{policy="ai/chat",rule="default",tier="tier-0"}' in page


async def test_a_pod_that_dies_is_left_out_after_its_connections_are_refused() -> None:
    async with fakes({}, {}) as (good, spare):
        async with fakes({}) as (mortal,):
            dead_port = mortal.port
        dead = endpoints("pods", f"127.0.0.1:{dead_port}", f"127.0.0.1:{good.port}")
        (made, _) = pods("pods", good)
        async with (
            gateway(failover("pods", "spare"), made, dead, external("spare", spare.url)) as gw,
            settled(gw),
        ):
            assert {reply.status for reply in await all_of(gw, 50)} == {200}
            assert attempts(gw, good)["answered"] >= 45
            refused = [one for outcome in gw.outcomes for one in outcome.attempts if one.failure]
            assert {one.failure for one in refused} == {"connect"}


PROBED = ir.Health(probe=ir.Probe("/health", interval_ms=50, timeout_ms=200, unhealthy_after=2))


async def test_a_probe_that_fails_ejects_before_any_request_and_one_that_succeeds_lets_in() -> None:
    async with (
        fakes({"healthy": False}, {}) as (sick, well),
        gateway(failover("pods"), *pods("pods", sick, well, health=PROBED)) as gw,
        settled(gw),
    ):
        await until(lambda: bool(gw.plane.in_force.signals.ejected))
        replies = await all_of(gw, 30)
        assert {reply.status for reply in replies} == {200}
        assert not attempts(gw, sick)
        told = sorted(await ejected(gw, "pods"), key=lambda one: one is None)
        assert (list(told[0]), told[1]) == (["probe"], None)
        alter(sick, healthy=True)
        await until(lambda: not gw.plane.in_force.signals.ejected)
        assert await ejected(gw, "pods") == [None, None]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 503 Unwell\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["nothing", "half", "no-http", "no-end", "503", "404"],
)
async def test_whatever_else_a_probe_hears_is_no_sign_of_health(said: bytes) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(said)
        await one.gone()

    async with (
        peer(talk) as strange,
        fakes({}) as (well,),
        gateway(
            failover("pods"),
            external("pods", "http://pods.ai.svc:8000", external=False, health=PROBED),
            endpoints("pods", f"127.0.0.1:{strange.port}", f"127.0.0.1:{well.port}"),
        ) as gw,
    ):
        out = gw.plane.in_force.signals.ejected
        await until(lambda: out.keys() == {f"ai/pods@127.0.0.1:{strange.port}"})
        assert {reply.status for reply in await all_of(gw, 10)} == {200}


async def test_a_probe_carries_no_credential_and_goes_to_the_root_of_the_endpoint() -> None:
    seen: list[bytes] = []

    async def talk(one: Conversation) -> None:
        while True:
            seen.append(await one.request())
            await one.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    locked = external(
        "pods",
        "http://pods.ai.svc:8000",
        external=False,
        health=PROBED,
        credential="credential/ai/pods",
    )
    sealed = keyring().seal(b"sk-secret", locked.uid, origin(locked.url))
    async with (
        peer(talk) as server,
        gateway(
            failover("pods"),
            locked,
            ir.Credential(backend=locked.name, key_id="k1", sealed=sealed),
            endpoints("pods", f"127.0.0.1:{server.port}"),
        ) as gw,
    ):
        await until(lambda: len(seen) >= 3)
        assert (await gw.send(chat())).status == 200
    asked = [one.lower() for one in seen if one.startswith(b"GET ")]
    (request,) = (one for one in seen if one.startswith(b"POST "))
    assert b"sk-secret" in request
    assert len(asked) >= 3
    for head in asked:
        assert head.startswith(b"get /health http/1.1\r\n")
        assert b"\r\nhost: pods.ai.svc:8000\r\n" in head
        assert b"authorization" not in head
        assert b"sk-secret" not in head


async def test_probes_follow_the_endpoints_and_end_with_the_gateway() -> None:
    async with fakes({"healthy": False}, {"healthy": False}, {}) as (first, second, good):
        before = len(asyncio.all_tasks())
        policy = failover("pods", "good")
        spare = external("good", good.url)
        async with gateway(policy, *pods("pods", first, health=PROBED), spare) as gw:
            out = gw.plane.in_force.signals.ejected
            await until(lambda: out.keys() == {f"ai/pods@127.0.0.1:{first.port}"})
            await gw.publish(policy, *pods("pods", second, health=PROBED), spare)
            await until(lambda: out.keys() == {f"ai/pods@127.0.0.1:{second.port}"})
            await gw.publish(policy, *pods("pods", second), spare)
            await until(lambda: not out)
        await until(lambda: len(asyncio.all_tasks()) <= before)
