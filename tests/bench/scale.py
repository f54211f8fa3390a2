"""How much a large installation costs: 2,000 policies, 500 backends, 5,000 endpoints, 20 pods.

Real parts: kube-apiserver, etcd, Redis, the operator, three data planes, all processes of this
machine. The other data planes are followers in a few processes (``scale_line/followers.py``): real
connections, snapshots and acks, and no ports. Each size is measured from an empty store on: the
start, single edits, 50 changes of endpoints a second beside an edit of a policy, and what follows
a store that lost everything.

Prints a table and writes ``.bench/scale.json``: a list with a row for each number of policies, and
``ratios``, the traffic of an edit among the most policies over that among the fewest. Traffic is
the median over edits, less that of as long a time without one. ``hold`` is the longest time for
which the event loop of a real data plane looked at no socket: by the CPU time of its thread, and by
the clock, in which a busy machine has a part.

``--policies 200,2000``, ``--seconds 20`` and ``--follower-processes 2`` are the defaults; CPU time
of the followers is that of all their processes together. ``--smoke``: only as much as shows that
the benchmark still runs.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final

import aiohttp
import msgspec
import redis
from figures import REPO, machine, write_figures
from scale_line.holds import longest
from scale_line.world import NAMESPACE, World

from cluster.api_calls import Api, until
from cluster.control_plane import ControlPlane
from cluster.meters import Cores, StoreTraffic, cpu_s, rss_mb
from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer
from switchboard_dataplane.app import form
from switchboard_policy.store import Pod, Revision

SCOPE: Final = "gw/default"
PODS: Final = f"sb:{{{SCOPE}}}:pods"
HEAD: Final = f"sb:{{{SCOPE}}}:policy:head"
#: The echoes of the status patches come after the last of them.
SETTLE_S: Final = 5.0
#: From one edit to the next, while the traffic of each is counted.
WINDOW_S: Final = 0.5
#: The upkeep looks at the store every 5 s.
RESYNC_S: Final = 12.0
AT_ONCE: Final = 16
COUNTED: Final = ("commands", "bytes_in", "bytes_out")


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is and how long it is looked at."""

    policies: tuple[int, ...] = (200, 2_000)
    backends: int = 500
    endpoints: int = 10
    planes: int = 3
    followers: int = 17
    follower_processes: int = 2
    changes_a_second: int = 50
    seconds: float = 20.0
    edits: int = 20

    @property
    def pods(self) -> int:
        return self.planes + self.followers

    def shares(self) -> list[tuple[int, int]]:
        """Return the first follower of each process, and how many it has."""
        cuts = [
            self.followers * number // self.follower_processes
            for number in range(self.follower_processes + 1)
        ]
        return [(first, end - first) for first, end in pairwise(cuts)]


SMOKE: Final = Size(
    policies=(6,),
    backends=6,
    endpoints=2,
    planes=1,
    followers=2,
    changes_a_second=5,
    seconds=1.0,
    edits=2,
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", default="200,2000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--follower-processes", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    size = SMOKE
    if not args.smoke:
        size = Size(
            policies=tuple(map(int, args.policies.split(","))),
            seconds=args.seconds,
            follower_processes=args.follower_processes,
        )
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        write_figures("scale", asyncio.run(measure(Path(folder), size)))


async def measure(folder: Path, size: Size) -> list[Mapping[str, Any]]:
    """Measure every number of policies, the smallest first, on one API server."""
    with ExitStack() as stack:
        plane = stack.enter_context(ControlPlane.start(folder / "cluster"))
        store = stack.enter_context(RedisServer(folder / "redis"))
        plane.install_kinds(REPO / "crds")
        plane.kubectl("create", "namespace", NAMESPACE)
        async with AsyncExitStack() as closing:
            api = Api(plane)
            closing.push_async_callback(api.close)
            world = World(api, backends=size.backends, endpoints=size.endpoints)
            await world.fill()
            rows: list[Mapping[str, Any]] = []
            for policies in size.policies:
                await world.grow(policies)
                with ExitStack() as running:
                    line = Line(folder, plane, store, size, running)
                    rows.append(await _measure(line, world, api, policies))
    return [*rows, {"ratios": _ratios(rows[0], rows[-1])}]


class Line:
    """The processes of one measurement, on an empty store."""

    def __init__(
        self, folder: Path, plane: ControlPlane, store: RedisServer, size: Size, stack: ExitStack
    ) -> None:
        self.size = size
        self.client = stack.enter_context(redis.Redis.from_url(store.url))
        self.holds: list[Path] = []
        self.planes: list[ChildProcess] = []
        self.followers: list[ChildProcess] = []
        self._folder, self._plane, self._store, self._stack = folder, plane, store, stack

    @property
    def store_pid(self) -> int:
        said: Any = self.client.info("server")
        return int(said["process_id"])

    def pids(self) -> dict[str, list[int]]:
        """Return the processes whose CPU time is told, beside the operator's."""
        return {
            "followers": [one.pid for one in self.followers],
            "dataplane": [self.planes[0].pid],
            "redis": [self.store_pid],
        }

    async def start_data_planes(self, api: Api) -> None:
        """Start all data planes, which find nothing yet."""
        self.client.flushall()
        key = self._folder / "scope-key.json"
        if not key.exists():
            first = self.start_operator()
            key.write_bytes(await until(lambda: _scope_key(api)))
            first.stop()
            self.client.flushall()
        for number in range(self.size.planes):
            holds = self._folder / f"holds-{number}"
            self.holds.append(holds)
            self.planes.append(
                self._start(
                    f"dataplane-{number}",
                    *("-m", "scale_line.watched", holds, "--redis-url", self._store.url),
                    *("--scope", SCOPE, "--scope-key-file", key, "--pod-name", f"pod-{number}"),
                    *("--state-dir", self._folder / f"state-{number}-{monotonic():.0f}"),
                    *("--listen", f"127.0.0.1:{free_port()}"),
                    *("--admin", f"127.0.0.1:{free_port()}", "--grace-s", "0"),
                )
            )
        for number, (lowest, count) in enumerate(self.size.shares()):
            self.followers.append(
                self._start(
                    f"followers-{number}",
                    *("-m", "scale_line.followers", str(lowest), str(count)),
                    *(self._store.url, SCOPE, key),
                )
            )
        await until(self._all_registered)

    def start_operator(self) -> ChildProcess:
        """Start the operator."""
        config = self._folder / "operator.yaml"
        gateway = {"name": "default", "namespace": NAMESPACE, "admit": "All"}
        config.write_text(json.dumps({"gateways": [gateway]}))
        return self._start(
            "operator",
            *("-m", "switchboard_operator", "--config", config, "--redis-url", self._store.url),
            *("--namespace", NAMESPACE, "--kubeconfig", self._plane.kubeconfig()),
            *("--admin-host", "127.0.0.1", "--admin-port", str(free_port())),
        )

    def longest_hold(self, since: float) -> dict[str, float]:
        """Return the longest hold of any data plane from then on."""
        return longest(self.holds, since, monotonic())

    async def all_acked(self) -> None:
        """Wait until every pod has said that it has the newest policy."""
        await until(self._have_newest)

    async def _all_registered(self) -> bool:
        return bool(self.client.hlen(PODS) == self.size.pods)

    async def _have_newest(self) -> bool:
        head: Any = self.client.hgetall(HEAD)
        pods: Any = self.client.hvals(PODS)
        if b"sequence" not in head or len(pods) < self.size.pods:
            return False
        newest = Revision(int(head[b"epoch"]), int(head[b"sequence"]))
        return all(msgspec.json.decode(one, type=Pod).revision == newest for one in pods)

    def _start(self, name: str, *arguments: str | Path) -> ChildProcess:
        log = self._folder / f"{name}.log"
        paths = [str(REPO / "tests" / "bench"), os.environ.get("PYTHONPATH", "")]
        child = ChildProcess(
            [sys.executable, *arguments], log=log, env={"PYTHONPATH": os.pathsep.join(paths)}
        )
        return self._stack.enter_context(child)


async def _scope_key(api: Api) -> bytes | None:
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/switchboard-scope-default"
    try:
        return base64.b64decode((await api.get(path))["data"]["scope-key.json"])
    except aiohttp.ClientResponseError:
        return None


async def _measure(line: Line, world: World, api: Api, policies: int) -> Mapping[str, Any]:
    await line.start_data_planes(api)
    print(f"{policies} policies: starting the operator", flush=True)
    began = monotonic()
    starting = Cores(line.pids())
    operator = line.start_operator()
    await line.all_acked()
    start_to_acked_s = monotonic() - began
    await world.programmed(line.size.pods)
    start_to_programmed_s = monotonic() - began
    start_hold = line.longest_hold(began)
    start_cpu_s = {"operator": round(cpu_s(operator.pid), 2), **starting.used_s()}
    await asyncio.sleep(min(SETTLE_S, line.size.seconds))
    traffic = await _traffic_of_edits(line, world)

    cores = Cores({"operator": [operator.pid], **line.pids()})
    steady = monotonic()
    changes = await _change_steadily(world, line.size)
    percent, took_s = cores.percent(), monotonic() - steady
    await line.all_acked()
    steady_hold = line.longest_hold(steady)

    lost = monotonic()
    line.client.flushall()
    await asyncio.sleep(min(RESYNC_S, 10 * line.size.seconds))
    await line.all_acked()
    return {
        "policies": policies,
        "backends": line.size.backends,
        "endpoints": line.size.backends * line.size.endpoints,
        "pods": line.size.pods,
        "real_data_planes": line.size.planes,
        "follower_processes": len(line.followers),
        "start_to_acked_s": round(start_to_acked_s, 2),
        "start_to_programmed_s": round(start_to_programmed_s, 2),
        "start_cpu_s": start_cpu_s,
        "operator_rss_mb": round(rss_mb(operator.pid), 1),
        "operator_peak_rss_mb": round(rss_mb(operator.pid, peak=True), 1),
        "dataplane_rss_mb": round(rss_mb(line.planes[0].pid), 1),
        "changes_a_second": round(changes / took_s, 1),
        "cpu_percent": percent,
        "hold_start": start_hold,
        "hold_edits": steady_hold,
        "hold_resync": line.longest_hold(lost),
        **traffic,
        "compiled": form() == "compiled",
        "machine": machine(),
    }


async def _traffic_of_edits(line: Line, world: World) -> dict[str, dict[str, float]]:
    async def nothing() -> None:
        pass

    idle = await _windows(line, nothing)
    found = {}
    for name, edit in (("policy", world.edit_policy), ("endpoints", world.change_endpoints)):
        began = monotonic()
        busy = await _windows(line, edit)
        found[f"traffic_{name}_edit"] = {
            what: max(0.0, round(more - less, 1))
            for what, more, less in zip(COUNTED, busy, idle, strict=True)
        }
        found[f"hold_{name}_edit"] = line.longest_hold(began)
    return found


async def _windows(line: Line, edit: Callable[[], Awaitable[None]]) -> list[float]:
    """Return the medians of commands, bytes in and bytes out, of windows with one edit each."""
    counts = list[tuple[int, int, int]]()
    for _ in range(line.size.edits):
        before = StoreTraffic.read(line.client)
        await edit()
        await asyncio.sleep(WINDOW_S)
        counts.append(StoreTraffic.read(line.client).since(before))
    return [float(median(each)) for each in zip(*counts, strict=True)]


async def _change_steadily(world: World, size: Size) -> int:
    """Change endpoints at the rate asked for, and a policy every second; return how many changes.

    Where the machine does not keep up, it is fewer.
    """
    began, done, gate = monotonic(), 0, asyncio.Semaphore(AT_ONCE)

    async def change(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        finally:
            gate.release()

    async with asyncio.TaskGroup() as group:
        while (passed_s := monotonic() - began) < size.seconds:
            if done > passed_s * size.changes_a_second:
                await asyncio.sleep(1 / size.changes_a_second / 4)
                continue
            await gate.acquire()
            done += 1
            edit = world.change_endpoints if done % size.changes_a_second else world.edit_policy
            group.create_task(change(edit))
    return done


def _ratios(few: Mapping[str, Any], many: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{name}_{what}": round(many[name][what] / few[name][what], 2) if few[name][what] else 0.0
        for name in ("traffic_policy_edit", "traffic_endpoints_edit")
        for what in few[name]
    }


if __name__ == "__main__":
    main()
