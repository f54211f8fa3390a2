"""Under load: data planes restart one after another, one is killed, Redis is in trouble."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx2
import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import Line, Running, eventually
from cluster.redis_server import RedisServer
from cluster.traffic import Balancer, Traffic, Wire, traffic
from fakes.crowds import PATIENT
from fakes.gateway import CHAT, chat, fakes, gateway
from fakes.manifests import external, policy
from fakes.policies import backend, tier
from fakes.policies import policy as routing
from fakes.policies import rule as one_rule

#: Half a second: shorter than the drain.
STREAM = ("--tokens-per-second", "20", "--answer-tokens", "8")
GRACE = ("--grace-s", "1", "--drain-s", "10")
PODS = ("pod-1", "pod-2", "pod-3")
#: What breaks is told as it breaks, on a busy machine too, and not by somebody's patience.
AT_ONCE_S = 5.0


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Wire]]:
    """A Redis, and the wire that leads to it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        leads = Wire(server.port)
        yield server, leads
        leads.close()


@pytest.fixture(scope="module")
def line(
    api: ControlPlane,
    wire: tuple[RedisServer, Wire],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Line]:
    server, leads = wire
    folder = tmp_path_factory.mktemp("drain")
    made = Line(folder, api, server, redis_url=f"redis://127.0.0.1:{leads.port}/0")
    try:
        made.apply(external("a", made.start_fake("a", *STREAM)), policy("chat", "a"))
        made.start_operator()
        yield made
    finally:
        made.close()


@dataclass
class Pods:
    """Three data planes behind a balancer."""

    line: Line
    balancer: Balancer
    planes: dict[str, Running] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start one, anew if it was there, and balance over it once it is ready."""
        self.planes[name] = self.line.start_data_plane(name, *GRACE)
        self.balancer.put(name, self.planes[name])


@pytest.fixture(scope="module")
def pods(line: Line) -> Iterator[Pods]:
    with Balancer() as balancer:
        made = Pods(line, balancer)
        for name in PODS:
            made.start(name)
        yield made


@contextmanager
def under_load(pods: Pods) -> Iterator[Traffic]:
    """Callers that call on and on, all of whom were served at first; nothing of them is left."""
    with traffic(pods.balancer.url) as said:
        served(said, 10)
        yield said
    for name, plane in pods.planes.items():
        eventually(partial(is_at_rest, plane), what=f"nothing left at {name}")


def is_at_rest(plane: Running) -> bool:
    """Say whether a data plane serves nobody, has nothing in flight, and lets nobody wait."""
    backends = httpx2.get(f"{plane.admin}/backends").json()["backends"].values()
    counts: list[int] = [one[count] for one in backends for count in ("queued", "waking")]
    counts += [one["in_flight"] for backend in backends for one in backend["endpoints"]]
    return not any((plane.ready()["live_requests"], *counts))


def served(said: Traffic, more: int) -> None:
    """Wait until so many more were served."""
    enough = said.served + more
    eventually(lambda: said.served >= enough, what=f"{more} more answers")


def test_data_planes_that_restart_in_turn_fail_no_request(pods: Pods) -> None:
    with under_load(pods) as said:
        for name in PODS:
            leaves = pods.planes[name].process
            leaves.interrupt()
            served(said, 5)
            assert leaves.wait(timeout_s=20) == 0
            assert "cut off" not in leaves.log_text()
            pods.start(name)
        served(said, 10)
    said.check(at_least=50)


def test_a_data_plane_that_is_killed_fails_what_is_in_flight_there_and_nothing_else(
    pods: Pods,
) -> None:
    with under_load(pods) as said:
        there = pods.balancer.targets["pod-2"]
        eventually(lambda: there.open > 0, what="a connection at the pod")
        came, at_most, killed_at = there.came, there.open, time.monotonic()
        pods.planes["pod-2"].process.kill()
        try:
            served(said, 40)
            # What came to it in the moment of the kill was in flight there, too.
            assert len(said.failures) <= at_most + there.came - came
            assert all(at - killed_at < AT_ONCE_S for at, _ in said.failures), said.failures
        finally:
            pods.start("pod-2")
        before = len(said.failures)
        served(said, 20)
        assert len(said.failures) == before


def killed(server: RedisServer, wire: Wire) -> None:
    server.kill()
    time.sleep(1.5)
    server.start()


def paused(server: RedisServer, wire: Wire) -> None:
    server.pause()
    time.sleep(3.0)
    server.resume()


def slow(server: RedisServer, wire: Wire) -> None:
    wire.delay_s = 0.5
    time.sleep(4.0)
    wire.delay_s = 0.0


def flushed(server: RedisServer, wire: Wire) -> None:
    with redis.Redis.from_url(server.url) as client:
        for _ in range(3):
            client.flushall()
            time.sleep(0.7)


@pytest.mark.parametrize("trouble", [killed, paused, slow, flushed])
def test_a_redis_in_trouble_fails_no_request(
    pods: Pods, wire: tuple[RedisServer, Wire], trouble: Callable[[RedisServer, Wire], None]
) -> None:
    with under_load(pods) as said:
        trouble(*wire)
        served(said, 10)
        # And then the planes hear from it again.
        eventually(
            lambda: all(one.ready()["source"]["connected"] for one in pods.planes.values()),
            what="all connected again",
        )
        served(said, 10)
    said.check(at_least=30)


@pytest.mark.usefixtures("each_front")
async def test_a_backend_that_leaves_a_policy_ends_its_streams_and_begins_no_more() -> None:
    slowly: dict[str, object] = {"tokens_per_second": 40, "answer_tokens": 40}
    async with fakes(slowly, {}) as (leaves, stays), gateway() as gw:
        both = [
            backend("leaves", url=f"{leaves.url}/v1", model="fake-model", timeouts=PATIENT),
            backend("stays", url=f"{stays.url}/v1", model="fake-model", timeouts=PATIENT),
        ]
        await gw.publish(routing("chat", one_rule("default", tier("only", "leaves"))), *both)
        async with gw.session.post(gw.url + CHAT, json=chat(stream=True)) as answer:
            first = await answer.content.readany()
            await gw.publish(routing("chat", one_rule("default", tier("only", "stays"))), both[1])
            asked = await asyncio.gather(*(gw.send(chat()) for _ in range(10)))
            assert {one.headers["x-switchboard-backend"] for one in asked} == {"ai/stays"}
            rest = await answer.content.read()
        assert (first + rest).endswith(b"data: [DONE]\n\n")
        assert (first + rest).count(b"data: ") > 40
        assert leaves.engine.records.seen == 1
