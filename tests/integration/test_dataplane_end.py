"""The end of a data plane's process, told or sudden, while it streams."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import Line, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy

TOKENS_PER_S = 20
SHORT_TOKENS = 40
"""A stream of two seconds."""
LONG_TOKENS = 2_000
"""A stream that outlasts every deadline here."""
GRACE_S = 5.0
"""Longer than a machine stands still, and so is as much again."""
TWICE_THE_GRACE_TOKENS = round(2 * GRACE_S * TOKENS_PER_S)


@dataclass
class Stream:
    """A stream that has begun."""

    _pieces: Iterator[bytes]
    received: bytes = field(default=b"")

    def read_on(self) -> None:
        """Take in what comes next; raises httpx2.RemoteProtocolError where it breaks off."""
        self.received += next(self._pieces)

    def read_to_end(self) -> None:
        """Take in the rest; raises httpx2.RemoteProtocolError where it breaks off."""
        self.received += b"".join(self._pieces)

    @property
    def events(self) -> list[str]:
        """What the events carry."""
        assert self.received.endswith(b"\n\n"), "a stream ends with a whole event"
        events = self.received.decode().removesuffix("\n\n").split("\n\n")
        return [event.removeprefix("data: ") for event in events]


@contextmanager
def streaming(plane: Running, *, tokens: int) -> Iterator[Stream]:
    """A chat stream of that many tokens, of which the first piece is here."""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": tokens,
    }
    url = f"{plane.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=30) as response:
        assert response.status_code == httpx2.codes.OK
        stream = Stream(response.iter_bytes())
        stream.read_on()
        yield stream


@pytest.fixture(scope="module")
def line(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("end")
    with RedisServer(folder / "redis") as redis:
        running = Line(folder, api, redis)
        try:
            slow = ("--tokens-per-second", str(TOKENS_PER_S), "--answer-tokens", str(LONG_TOKENS))
            running.apply(external("slow", running.start_fake("a", *slow)), policy("chat", "slow"))
            running.start_operator()
            yield running
        finally:
            running.close()


def start(line: Line, name: str, *, grace_s: float = 0.0, drain_s: float = 30.0) -> Running:
    """Start a data plane, and wait until it serves the model."""
    times = ("--grace-s", str(grace_s), "--drain-s", str(drain_s))
    plane = line.start_data_plane(name, *times)
    eventually(lambda: "chat" in httpx2.get(f"{plane.url}/v1/models").text, what="the model")
    return plane


def ask(plane: Running, *, tokens: int = 1) -> httpx2.Response:
    """Ask for a whole answer on a connection of its own."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
    return httpx2.post(f"{plane.url}/v1/chat/completions", json=body, timeout=30)


def test_a_stream_runs_to_its_end_while_the_endpoints_move(line: Line) -> None:
    plane = start(line, "ends-well", grace_s=GRACE_S)
    with streaming(plane, tokens=TWICE_THE_GRACE_TOKENS) as stream:
        plane.process.interrupt()
        plane.process.wait_for_http(f"{plane.admin}/readyz", status=503, timeout_s=GRACE_S)
        assert plane.ready()["reason"] == "shutting down"
        assert plane.ready()["live_requests"] == 1
        late = ask(plane)
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        eventually(lambda: refuses(plane), what="no new connections after the grace")
        assert httpx2.get(f"{plane.admin}/readyz").json()["draining"]
        stream.read_to_end()
        assert stream.events[-1] == "[DONE]"
        assert len(stream.events) > TWICE_THE_GRACE_TOKENS
    assert plane.process.wait(timeout_s=60) == 0
    assert "cut off" not in plane.process.log_text()


def refuses(plane: Running) -> bool:
    """Say whether the public port takes no connection any more."""
    try:
        ask(plane)
    except httpx2.ConnectError:
        return True
    except httpx2.RemoteProtocolError:
        # It came as the port closed.
        return False
    return False


def test_what_outlives_the_drain_deadline_is_told_so_in_its_own_form(line: Line) -> None:
    plane = start(line, "cut-off", drain_s=1.0)
    with streaming(plane, tokens=LONG_TOKENS) as stream, ThreadPoolExecutor() as beside:
        whole = beside.submit(ask, plane, tokens=LONG_TOKENS)
        eventually(lambda: plane.ready()["live_requests"] == 2, what="both requests served")
        told_at = time.monotonic()
        plane.process.interrupt()
        # The connection ends as HTTP says, or this raises.
        stream.read_to_end()
        # Long before the stream would end by itself.
        assert 0.9 < time.monotonic() - told_at < LONG_TOKENS / TOKENS_PER_S / 2
        *before, last = stream.events
        assert json.loads(last)["error"]["code"] == "shutting_down"
        assert all("error" not in json.loads(event) for event in before)
        refused = whole.result()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
    assert plane.process.wait(timeout_s=60) == 0
    assert "2 requests were cut off at the drain deadline" in plane.process.log_text()


def test_an_idle_connection_keeps_no_process_alive_and_the_store_hears_a_goodbye(
    line: Line,
) -> None:
    plane = start(line, "idle")
    stays = start(line, "stays")
    eventually(lambda: pods(line) >= {"idle", "stays"}, what="both pods in the store")
    with httpx2.Client() as client:
        assert client.get(f"{plane.url}/v1/models").status_code == httpx2.codes.OK
        told_at = time.monotonic()
        plane.process.interrupt()
        plane.process.interrupt()
        assert plane.process.wait(timeout_s=60) == 0
        # Long before anybody's patience with an idle connection ends.
        assert time.monotonic() - told_at < 30
    assert "idle" not in pods(line)
    assert "stays" in pods(line)
    stays.process.stop()


def pods(line: Line) -> set[str]:
    """Return the data planes that the store knows, which is those that are waited for."""
    with redis.Redis.from_url(line.redis.url) as client:
        found: Any = client.hkeys("sb:{gw/default}:pods")
        return {name.decode() for name in found}


def test_a_crash_breaks_its_own_streams_and_no_others(line: Line) -> None:
    crashes, stays = start(line, "crashes"), start(line, "unaffected")
    with (
        streaming(crashes, tokens=LONG_TOKENS) as lost,
        streaming(stays, tokens=SHORT_TOKENS) as kept,
    ):
        crashes.process.kill()
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            lost.read_to_end()
        assert ask(stays).status_code == httpx2.codes.OK
        kept.read_to_end()
        assert kept.events[-1] == "[DONE]"
    again = start(line, "crashes")
    assert ask(again).status_code == httpx2.codes.OK
    for plane in (again, stays):
        plane.process.stop()
