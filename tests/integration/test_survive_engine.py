"""What engines say of their load: read by one gateway pod, known to all, while pods and Redis fail.

An operator, three data planes and a Redis run as processes, and are stopped one by one. What one
data plane makes of what it reads is in ``virtual/test_survive_reading.py``.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, Line, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external as external_manifest
from fakes.manifests import policy
from fakes.models import Engines, busy, engines
from switchboard_cli.fake_model.settings import Settings

ENGINES = ("e0", "e1", "e2", "e3", "e4", "e5")
PODS = ("pod-1", "pod-2", "pod-3")
INTERVAL_S = 1.0


SLOW = Settings(name="e0", any_model=True, max_running=1, ttft_ms=60_000)
MODELS = {"e0": SLOW} | {name: Settings(name=name, any_model=True) for name in ENGINES[1:]}
#: Within this time each engine is read once at least, and by a pod that has gone no more.
ROUNDS_S = 2.2 * INTERVAL_S
TRIES = 5


class Shared:
    """A line with three data planes and six engines; the first one's load can be raised."""

    def __init__(self, line: Line, engines: Engines) -> None:
        self.line = line
        self.engines = engines
        line.apply(
            *(
                external_manifest(name, engines.port(name), telemetry={"engine": "vllm"})
                for name in ENGINES
            ),
            policy("chat", *ENGINES[1:]),
            policy("slow", "e0"),
        )
        line.start_operator()
        line.scope_key_file()
        with ThreadPoolExecutor() as beside:
            self.planes = dict(zip(PODS, beside.map(line.start_data_plane, PODS), strict=True))

    def known(self, plane: Running) -> dict[str, Any]:
        """Return what a data plane believes of each engine now."""
        backends = httpx2.get(f"{plane.admin}/backends", verify=NOBODY).json()["backends"]
        said = {name: backends[f"{self.line.namespace}/{name}"]["endpoints"] for name in ENGINES}
        engines = {name: one[0]["engine"] for name, one in said.items() if one}
        return {name: one for name, one in engines.items() if one and one["believed"]}

    def await_known(self, *planes: str, since: float = 0.0) -> None:
        """Wait until these data planes believe something of all engines that is newer than that."""

        def all_do() -> bool:
            oldest_s = time.monotonic() - since
            known = [self.known(self.planes[name]) for name in planes]
            return all(
                len(one) == len(ENGINES) and all(e["age_s"] < oldest_s for e in one.values())
                for one in known
            )

        eventually(all_do, what=f"{planes} know all engines")

    def await_load(self, **load: int) -> None:
        """Wait until all data planes know of this load of the engine e0."""

        def all_do() -> bool:
            said = [self.known(self.planes[name]).get("e0") for name in PODS]
            return all(one and load.items() <= one.items() for one in said)

        eventually(all_do, what=f"a load of {load} is known")

    def await_one_reader_each(self, *among: str) -> dict[str, str]:
        """Wait until each engine has been read by one pod for a while, of these; return which."""

        def each() -> dict[str, str] | None:
            found = self.engines.readers(ROUNDS_S)
            if found is None or not all(len(who) == 1 for who in found.values()):
                return None
            readers = {name: next(iter(who)) for name, who in found.items()}
            return readers if set(readers.values()) <= set(among) else None

        return eventually(each, what=f"one reader each among {among}")

    def await_readers(self, readers: Mapping[str, str]) -> None:
        """Wait until each engine has been read by this pod again, and by no other."""
        wanted = {name: {who} for name, who in readers.items()}

        def again() -> bool:
            found = self.engines.readers(ROUNDS_S) or {}
            return {name: set(who) for name, who in found.items()} == wanted

        eventually(again, what=f"each engine is read by {readers}")


@pytest.fixture(scope="module")
def shared(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("engines")
    with RedisServer(folder / "redis") as redis, engines(MODELS) as running:
        line = Line(folder, api, redis)
        try:
            yield Shared(line, running)
        finally:
            line.close()


def requests_seen(port: int) -> int:
    """Return how many requests a fake model has had."""
    said = httpx2.get(f"http://127.0.0.1:{port}/control", verify=NOBODY).json()
    seen: int = said["counters"]["seen"]
    return seen


def serves(plane: Running, model: str) -> bool:
    """Say whether a data plane has a policy for this model."""
    models = httpx2.get(f"{plane.url}/v1/models", verify=NOBODY).json()["data"]
    return model in {one["id"] for one in models}


async def test_each_engine_is_read_by_one_pod_once_an_interval(shared: Shared) -> None:
    shared.await_known(*PODS)
    seen: list[object] = []
    # A machine that stands still makes a pod late, but not each time.
    while len(seen) < TRIES:
        readers = shared.await_one_reader_each(*PODS)
        assert len(set(readers.values())) > 1, "the work is shared"
        await asyncio.sleep(6 * INTERVAL_S - ROUNDS_S)
        read = shared.engines.readers(6 * INTERVAL_S)
        assert read is not None
        seen.append((readers, read))
        if all([*who] == [readers[name]] and 4 <= who.total() <= 8 for name, who in read.items()):
            return
    pytest.fail(f"read by others, or too often or seldom, each time: {seen}")


async def test_the_load_of_an_engine_is_known_to_all_pods_soon(
    shared: Shared, record_property: Callable[[str, object], None]
) -> None:
    took_s: list[float] = []
    # Two intervals, and what a busy machine adds.
    while (not took_s or took_s[-1] > 2 * INTERVAL_S + 1.0) and len(took_s) < TRIES:
        await asyncio.to_thread(shared.await_load, waiting=0, running=0)
        async with busy(f"http://127.0.0.1:{shared.engines.port('e0')}", 4):
            began = time.monotonic()
            await asyncio.to_thread(shared.await_load, waiting=3, running=1)
            took_s.append(time.monotonic() - began)
    record_property("measured", f"load of an engine known to all three pods after {took_s} s")
    assert took_s[-1] <= 2 * INTERVAL_S + 1.0


def test_what_one_pod_is_told_to_let_rest_the_others_let_rest_too(shared: Shared) -> None:
    line = shared.line
    port = line.start_fake("limited", "--fault", "status:status=429,retry_after_s=30,count=1")
    line.apply(external_manifest("limited", port), policy("limited", "limited"))
    first, *others = shared.planes.values()
    eventually(
        lambda: all(serves(plane, "limited") for plane in shared.planes.values()),
        what="the policy is in force",
    )
    assert first.answerer("limited") == "429"
    eventually(
        lambda: {plane.answerer("limited") for plane in others} == {"429"}, what="it rests there"
    )
    before = requests_seen(port)
    for plane in others * 5:
        assert int(plane.chat("limited").headers["retry-after"]) in range(20, 41)
    assert requests_seen(port) == before


def test_another_pod_reads_on_when_the_reader_is_killed(
    shared: Shared, record_property: Callable[[str, object], None]
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    killed = readers["e0"]
    left = [name for name in PODS if name != killed]
    began = time.monotonic()
    shared.planes[killed].process.kill()
    eventually(
        lambda: (shared.engines.readers(0.5) or {})["e0"].keys() & set(left),
        what="e0 is read by another",
    )
    took_s = time.monotonic() - began
    record_property("measured", f"another pod reads an engine {took_s:.1f} s after a kill")
    assert took_s < 30
    shared.await_known(*left)
    shared.await_one_reader_each(*left)
    assert shared.planes[left[0]].chat("chat").status_code == 200
    shared.planes[killed] = shared.line.start_data_plane(killed)
    shared.await_known(*PODS)
    shared.await_readers(readers)


def test_a_stopped_pods_readings_go_stale_and_are_not_taken_for_new_when_it_goes_on(
    shared: Shared,
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    stopped = readers["e0"]
    left = [name for name in PODS if name != stopped]
    shared.planes[stopped].process.pause()
    try:
        shared.await_one_reader_each(*left)
        shared.await_known(*left)
    finally:
        shared.planes[stopped].process.resume()
    # What it knew before is older than it was stopped.
    for said in shared.known(shared.planes[stopped]).values():
        assert said["age_s"] < 5
    shared.await_known(*PODS)
    shared.await_readers(readers)


def test_while_redis_hangs_traffic_goes_on_and_each_pod_has_its_own_readings(
    shared: Shared,
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    own = {name: {one for one, who in readers.items() if who == name} for name in PODS}
    shared.line.redis.pause()
    paused_at = time.monotonic()
    try:
        eventually(
            lambda: all(set(shared.known(shared.planes[name])) == own[name] for name in PODS),
            what="each pod believes its own readings, and no others",
        )
        for name in PODS:
            assert shared.planes[name].chat("chat").status_code == 200
        read = shared.engines.readers(time.monotonic() - paused_at)
        assert read is not None
        assert {name: [*who] for name, who in read.items()} == {
            name: [who] for name, who in readers.items()
        }, "nobody asks more than before"
    finally:
        shared.line.redis.resume()
    shared.await_known(*PODS)
    shared.await_readers(readers)


def test_a_redis_that_comes_back_empty_is_spoken_through_again(shared: Shared) -> None:
    shared.line.redis.restart(keep_data=False)
    shared.await_known(*PODS, since=time.monotonic())
    shared.await_one_reader_each(*PODS)
