"""Through real sockets: how requests spread over endpoints that differ, come, go and come back."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from fakes.gateway import CHAT, Gateway, chat, external, fakes, gateway, until
from fakes.policies import endpoints, policy, rule, service, tier
from switchboard_cli.fake_model.server import Serving
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

PATIENT = ir.Timeouts(connect_ms=20_000, total_ms=60_000, first_token_ms=60_000)
QUICK: dict[str, object] = {"ttft_ms": 5}
#: Long, so that the share is a tenth as long as a test runs, however slow the machine.
SLOW_START = ir.Health(slow_start_ms=900_000)
#: Of what was measured on a busy machine nothing here depends.
BY_LOAD = ir.Balance("Load")


def pool(models: Sequence[Serving], **fields: Any) -> tuple[ir.Backend, ir.Endpoints]:
    """A service with these models for endpoints."""
    said = {"model": "fake-model", "timeouts": PATIENT, "health": SLOW_START} | fields
    addresses = (model.url.removeprefix("http://") for model in models)
    return service("pool", **said), endpoints("pool", *addresses)


def balanced(balance: ir.Balance | None = None) -> ir.Policy:
    return policy("chat", rule("default", tier("only", "pool", balance=balance or ir.Balance())))


def seen(models: Sequence[Serving]) -> list[int]:
    return [model.engine.records.seen for model in models]


@asynccontextmanager
async def crowd(gw: Gateway) -> AsyncGenerator[aiohttp.ClientSession]:
    """A caller with as many connections as it likes; afterwards nothing is in flight."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
    await until(lambda: not sum(gw.plane.in_force.in_flight().values()))
    await until(lambda: not len(gw.plane.live))
    assert not any(one.waiting for one in gw.plane.in_force.signals.values())


async def ask(gw: Gateway, session: aiohttp.ClientSession, **fields: Any) -> None:
    async with session.post(gw.url + CHAT, json=chat(**fields)) as response:
        await response.read()
        assert response.status == 200


async def test_of_1600_requests_at_once_no_endpoint_of_8_gets_1_5_times_its_share() -> None:
    quiet: dict[str, object] = {"ttft_ms": 4_000, "recorded_requests": 1}
    async with (
        fakes(*[quiet] * 8) as models,
        gateway(balanced(), *pool(models)) as gw,
        crowd(gw) as session,
    ):
        await asyncio.gather(*(ask(gw, session) for _ in range(1_600)))
    counts = seen(models)
    assert sum(counts) == 1_600
    assert max(counts) <= 1.5 * 200


async def send(gw: Gateway, session: aiohttp.ClientSession, count: int, **fields: Any) -> None:
    """Send so many requests, eight at a time."""
    turns = asyncio.Semaphore(8)

    async def one() -> None:
        async with turns:
            await ask(gw, session, **fields)

    await asyncio.gather(*(one() for _ in range(count)))


async def test_an_endpoint_that_comes_or_comes_back_gets_little_at_first() -> None:
    async with (
        fakes(*[QUICK] * 4) as models,
        gateway(balanced(BY_LOAD), *pool(models[:3])) as gw,
        crowd(gw) as session,
    ):
        await send(gw, session, 30)
        assert min(seen(models[:3])) > 0
        await gw.publish(balanced(BY_LOAD), *pool(models))
        await send(gw, session, 400)
        first = seen(models)[3]
        # A quarter would be 100.
        assert 0 < first <= 50
        await gw.publish(balanced(BY_LOAD), *pool(models[:3]))
        await send(gw, session, 30)
        assert seen(models)[3] == first
        # The next look at who is there, a second later at most, forgets the one that left.
        await until(lambda: len(gw.plane.in_force.signals) == 3)
        await gw.publish(balanced(BY_LOAD), *pool(models))
        await send(gw, session, 400)
        assert 0 < seen(models)[3] - first <= 50


async def test_without_a_slow_start_a_new_endpoint_gets_its_share_at_once() -> None:
    at_once = ir.Health(slow_start_ms=0)
    async with (
        fakes(*[QUICK] * 4) as models,
        gateway(balanced(BY_LOAD), *pool(models[:3], health=at_once)) as gw,
        crowd(gw) as session,
    ):
        await send(gw, session, 30)
        await gw.publish(balanced(BY_LOAD), *pool(models, health=at_once))
        await send(gw, session, 400)
        assert 50 < seen(models)[3] <= 200


async def test_what_is_known_of_streams_and_of_whole_answers_is_kept_apart() -> None:
    async with (
        fakes({"ttft_ms": 30, "tokens_per_second": 200}) as models,
        gateway(balanced(), *pool(models)) as gw,
        crowd(gw) as session,
    ):
        await ask(gw, session)
        (told,) = (await gw.admin("/backends")).json["backends"]["ai/pool"]["endpoints"]
        assert told["ttft_s"] == {}
        # How fast it writes shows in streams alone.
        assert told["tokens_per_s"] is None
        assert list(told["latency_s"]) == ["<=256"]
        assert told["latency_s"]["<=256"]["value"] >= 0.03
        await ask(gw, session, stream=True, text="word " * 400)
        (told,) = (await gw.admin("/backends")).json["backends"]["ai/pool"]["endpoints"]
        assert list(told["ttft_s"]) == ["<=2048"]
        assert list(told["latency_s"]) == ["<=256"]
        assert told["ttft_s"]["<=2048"]["age_s"] < 5
        assert 20 < told["tokens_per_s"]["value"] < 1_000


async def test_every_signal_is_shown_with_its_age() -> None:
    broken: dict[str, object] = {"faults": ["status:status=500,count=1"]}
    engine = ir.Telemetry(engine="vllm", interval_ms=100)
    async with (
        fakes(broken | {"tokens_per_second": 200}) as models,
        gateway(balanced(), *pool(models, telemetry=engine)) as gw,
        crowd(gw) as session,
    ):
        await ask(gw, session)
        await ask(gw, session, stream=True)
        signals = gw.plane.in_force.signals
        await until(lambda: all(one.engine is not None for one in signals.values()))
        (told,) = (await gw.admin("/backends")).json["backends"]["ai/pool"]["endpoints"]
        small = (told["ttft_s"]["<=256"], told["latency_s"]["<=256"])
        for one in (*small, told["tokens_per_s"], told["errors"], told["engine"]):
            assert 0 <= one["age_s"] < 5
        assert 0 < told["errors"]["value"] <= 1


async def test_conversations_that_begin_alike_meet_the_same_endpoint() -> None:
    balance = ir.Balance("Hash", ir.HashKey("prompt_prefix", prefix_bytes=64))
    async with (
        fakes(*[{}] * 4) as models,
        gateway(balanced(balance), *pool(models)) as gw,
        crowd(gw) as session,
    ):
        system = "You are a patient teacher who never gives an answer away. " * 2
        for number in range(12):
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": f"question {number}"},
            ]
            await ask(gw, session, messages=messages)
        assert sorted(seen(models)) == [0, 0, 0, 12]
        for number in range(24):
            await ask(gw, session, text=f"{number} is the number that I think of; guess mine")
        assert min(seen(models)) > 0


async def test_scorers_weigh_price_and_speed() -> None:
    scorers = (ir.Scorer("Cost"), ir.Scorer("Latency", 2))
    one = tier("only", "dear", "cheap", balance=ir.Balance("Scorers", scorers=scorers))
    dear, cheap = (
        ir.Pricing(input_picodollars=price, output_picodollars=price) for price in (9_000, 1_000)
    )
    async with (
        fakes({}, {"ttft_ms": 50}) as (quick, slow),
        gateway(
            policy("chat", rule("default", one)),
            external("dear", quick.url, pricing=dear),
            external("cheap", slow.url, pricing=cheap),
        ) as gw,
        crowd(gw) as session,
    ):
        for _ in range(20):
            await ask(gw, session)
        assert seen((quick, slow)) == [0, 20]
        # Where many wait for the cheap one its price does not make up for the wait.
        await asyncio.gather(*(ask(gw, session) for _ in range(20)))
        assert seen((quick, slow))[1] < 40
