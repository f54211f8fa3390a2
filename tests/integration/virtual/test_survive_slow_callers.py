"""Callers of streams that leave, read slowly, or do not read."""

import asyncio

import pytest

from fakes.broken_streams import (
    DONE,
    END,
    PRICES,
    ROLE,
    SOON,
    Script,
    ask,
    errors_of,
    in_flight,
    metric,
)
from fakes.gateway import (
    STREAM_HEAD,
    external,
    failover,
    gateway,
    http,
    said,
    scripted,
    until,
)
from switchboard_dataplane.front.routes import Patience

pytestmark = pytest.mark.usefixtures("each_front")


@pytest.mark.parametrize(
    ("script", "stream", "tokens"),
    [
        ((30.0,), False, 0),
        ((b"HTTP/1.1 200 OK\r\nconte", 30.0), False, 0),
        ((http(200, b'{"choices":[]}')[:-3], 30.0), False, 0),
        ((30.0,), True, 0),
        ((STREAM_HEAD, ROLE, 30.0), True, 0),
        ((STREAM_HEAD, said("a"), said("b"), 30.0), True, 2),
    ],
    ids=["whole", "half-head", "half-body", "before-head", "before-content", "mid-stream"],
)
async def test_a_caller_that_leaves_is_accounted_with_what_was_used(
    script: Script, stream: bool, tokens: int
) -> None:
    patient = {"first_token_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000}
    async with (
        scripted(*script) as model,
        gateway(
            failover("one"), external("one", model.url, pricing=PRICES, timeouts=patient)
        ) as gw,
    ):
        reader, writer = await ask(gw, stream=stream)
        if tokens:
            await reader.readuntil(said("b").strip())
        else:
            await until(lambda: bool(model.seen))
            await asyncio.sleep(SOON)
        loop = asyncio.get_running_loop()
        left_at = loop.time()
        writer.transport.abort()
        await until(lambda: model.closed == 1)
        assert loop.time() - left_at < 0.1
        outcome = await gw.outcome()
        assert (outcome.caller_left, outcome.error, outcome.breaks) == (True, "", ())
        assert (outcome.input_tokens, outcome.output_tokens) == (10, tokens)
        assert (outcome.estimated, outcome.cost_microdollars) == (True, 10.0 + 2.0 * tokens)
        assert (in_flight(gw), len(gw.plane.live)) == (0, 0)
        assert errors_of(gw, "one") == 0.0
        costs = await metric(gw, "switchboard_cost_microdollars_total")
        assert [*costs.values()] == [outcome.cost_microdollars]


async def test_a_caller_that_reads_nothing_pins_little_and_is_given_up() -> None:
    hasty = Patience(stall_s=0.5, sweep_s=0.05)
    big = said("x" * 500_000)
    taken = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM_HEAD)
        try:
            for _ in range(400):
                writer.write(big)
                await writer.drain()
                taken += len(big)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        patient = {"idle_ms": 20_000, "total_ms": 60_000}
        model = external("one", address, timeouts=patient)
        async with gateway(failover("one"), model, patience=hasty) as gw:
            reader, writer = await ask(gw)
            await reader.readexactly(10)
            outcome = await gw.outcome()
            assert (outcome.caller_left, outcome.error, outcome.breaks) == (True, "", ())
            assert (in_flight(gw), len(gw.plane.live)) == (0, 0)
            assert errors_of(gw, "one") == 0.0
            # What the sockets of three parties hold; the stream has 200 MB.
            assert taken < 40_000_000
            writer.transport.abort()


async def test_a_caller_that_is_too_slow_for_the_whole_answer_is_given_up() -> None:
    """Its slowness is not held against the endpoint."""
    big = said("x" * 100_000)
    limits = {"total_ms": 800}
    async with (
        scripted(STREAM_HEAD, *([big] * 400), END, DONE) as model,
        gateway(failover("one"), external("one", model.url, timeouts=limits)) as gw,
    ):
        reader, writer = await ask(gw)
        await reader.readexactly(10)
        outcome = await gw.outcome()
        assert (outcome.caller_left, outcome.breaks, outcome.duration_s < 3) == (True, (), True)
        assert errors_of(gw, "one") == 0.0
        writer.transport.abort()
        await until(lambda: in_flight(gw) == 0 and len(gw.plane.live) == 0)
