"""Callers that leave, and the end of the server itself."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time

import pytest

from switchboard_cli.fake_model.command import add_parser, run
from switchboard_cli.fake_model.server import serve
from switchboard_cli.fake_model.settings import Settings
from unit.fake_model.caller import StartFake, ask, raw_request

PROMPT_S = 30.0
"""At once, on a busy machine: no stream and no stall here would end by itself."""

_FOREVER = {"kind": "stall", "at": "before-first-token"}


@pytest.mark.parametrize(
    "settings",
    [
        {"faults": [{"kind": "stall"}]},
        {"faults": [{"kind": "stall", "at": "after-headers"}]},
        {"faults": [_FOREVER]},
        {"ttft_ms": 60_000},
        {"tokens_per_second": 50, "answer_tokens": 10_000},
    ],
    ids=["before-headers", "after-headers", "before-first-token", "ttft", "mid-stream"],
)
async def test_a_caller_that_leaves_is_noticed_at_once(
    start_fake: StartFake, settings: dict[str, object]
) -> None:
    fake = await start_fake(**settings)
    _, writer = await fake.open_stream()
    await fake.settle(in_flight=1)
    left_s = time.monotonic()
    writer.close()
    await fake.settle(in_flight=0, running=0, cancelled=1)
    assert time.monotonic() - left_s < PROMPT_S
    assert (await fake.control())["requests"][-1]["outcome"] == "cancelled"


async def test_a_caller_that_leaves_the_line_is_counted_out(start_fake: StartFake) -> None:
    fake = await start_fake(max_running=1, faults=[_FOREVER])
    _, first = await fake.open_stream()
    await fake.settle(running=1)
    _, second = await fake.open_stream()
    await fake.settle(waiting=1)
    second.close()
    await fake.settle(running=1, waiting=0, cancelled=1)
    first.close()
    await fake.settle(running=0, in_flight=0, cancelled=2)
    text = (await fake.send("GET", "/metrics")).body.decode()
    assert 'request_success_total{finished_reason="abort"' in text
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="fake-model"} 0.0' in text


async def test_live_streams_end_with_the_server() -> None:
    settings = Settings(tokens_per_second=20, answer_tokens=10_000)
    async with serve(settings) as serving:
        streams = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(5)]
        for reader, writer in streams:
            writer.write(raw_request(ask(stream=True)))
            await reader.readuntil(b"data: ")
        ended_s = time.monotonic()
    assert time.monotonic() - ended_s < PROMPT_S
    for _, writer in streams:
        writer.close()


_SCRIPT = """
import argparse, sys
from switchboard_cli.fake_model.command import add_parser
parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
print(sorted({"aiohttp", "pydantic"} & set(sys.modules)))
args = parser.parse_args()
sys.exit(args.run(args))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_says_where_it_listens_and_ends_on_a_signal(number: int) -> None:
    flags = ["--listen", "127.0.0.1:0", "--model", "a", "--model", "b", "--fault", "stall"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _SCRIPT,
        "fake-model",
        *flags,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "SWITCHBOARD_FAKE_MODEL_NAME": "north"},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"[]\n", "the parser is had without the server"
    ready = (await process.stdout.readline()).decode()
    assert ready.startswith("fake-model north serves a, b at http://127.0.0.1:")
    port = int(ready.rpartition(":")[2].removesuffix("/v1\n"))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw_request(ask()))
    signalled_s = time.monotonic()
    process.send_signal(number)
    assert await process.wait() == 0
    assert time.monotonic() - signalled_s < PROMPT_S
    writer.close()


def _parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["fake-model", *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--listen", "8000"], "listen: (--listen) must be HOST:PORT, not '8000'"),
        (["--listen", "localhost:99999"], "listen: (--listen) must be HOST:PORT"),
        (["--fault", "status:status=1"], "faults[0]: (--fault) status: must be in 400..599"),
        (["--jitter", "7"], "jitter: (--jitter) must be in 0..1, not 7"),
    ],
)
def test_a_wrong_flag_is_told_and_status_2(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert run(_parse(*flags)) == 2
    assert capsys.readouterr().err.startswith(f"switchboard fake-model: {said}")


def test_a_taken_port_is_told_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        assert run(_parse("--listen", f"127.0.0.1:{port}")) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
