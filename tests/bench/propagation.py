"""From `apply` to effect: how long until every one of three data planes acts on an edit.

Real parts: kube-apiserver, etcd, Redis, the operator, three data planes, all processes of this
machine. Edits of policies, backends and endpoints in turn, closed loop: the clock starts when the
API server has answered the edit and stops when the last data plane answers a request by it. Prints
a table and says of each target whether it is met: p50 ≤ 30 ms, p99 ≤ 150 ms, of 500 edits or more.
Writes ``.bench/propagation-[AFTER-][traffic-]SIZES.json``: a list of {policies, backends, p50_ms,
p95_ms, p99_ms, targets, operator_rss_mb, start_to_programmed_s, …}, one for each size.

``--edits N`` (default 510 for each size), ``--sizes 0x0,2000x500``. ``--after sentinel``: the store
is behind Sentinels, and edits are measured once its primary was killed; ``--after hand-over``: once
the leader was killed and a standby had taken over. ``recovered_s`` is the time from the kill until
an edit made after it is acted on. ``--traffic``, with any of these or alone: each data plane serves
requests all the time, and ``failed`` says how many of them failed. ``--smoke``: only as much as
shows that the benchmark still runs.
"""

import argparse
import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import aiohttp
from figures import REPO, machine, write_figures

from cluster.api_calls import Api, until
from cluster.control_plane import ControlPlane
from cluster.meters import rss_mb
from cluster.network import ADDRESSES, enter_own_network
from cluster.processes import ChildProcess, free_port
from cluster.redis_sentinel import SentinelRedis
from cluster.redis_server import RedisServer
from cluster.traffic import traffic
from switchboard_dataplane.app import form

NAMESPACE = "bench"
DATA_PLANES = 3
POLL_S = 0.001
APPLIES_AT_ONCE, SAMPLE_EVERY = 16, 100
WAIT_S = 60
CALLERS, EVERY_S = 2, 0.08
"""To each data plane: 25 requests a second."""
P50_MAX_MS, P99_MAX_MS, EDITS_MIN = 30, 150, 500
SETTLED_S = 3.0
STARTED_S = 10.0
"""A standby's watches show it everything once more after it has listed it."""
GROUP = "/apis/switchboard.dev/v1alpha1/namespaces/bench"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices"


def main() -> None:
    """Measure each size on a fresh cluster, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=510)
    parser.add_argument("--sizes", default="0x0,2000x500")
    parser.add_argument("--after", choices=("sentinel", "hand-over"), default="")
    parser.add_argument("--traffic", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.edits, args.sizes = 6, "3x3"
    enter_own_network()
    rows: list[Mapping[str, Any]] = []
    for size in args.sizes.split(","):
        policies, backends = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(prefix="propagation-") as folder:
            run = Run(Path(folder), policies, backends, args.edits, args.after, args.traffic)
            rows.append(asyncio.run(measure(run)))
    write_figures(name_of(args.sizes, after=args.after, traffic=args.traffic), rows)
    for row in rows:
        for target, said in row["targets"].items():
            print(f"{row['policies']}x{row['backends']}: {target}: {said}")


def name_of(sizes: str, *, after: str, traffic: bool) -> str:
    """Return the name of a mode's figures: one mode leaves another's alone."""
    parts = ("propagation", after, "traffic" if traffic else "", *sizes.split(","))
    return "-".join(filter(None, parts))


@dataclass(frozen=True)
class Run:
    """One size, and what happens before its edits are measured."""

    folder: Path
    policies: int
    backends: int
    edits: int
    after: str
    traffic: bool


def backend(name: str, target: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": "ModelBackend",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": "fake-model", **target},
    }


def external(port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/v1"
    return {"external": {"provider": "openai-compatible", "url": url}}


def policy(name: str, rule: str, backends: list[str]) -> dict[str, Any]:
    tier = {"name": "only", "backends": [{"name": one} for one in backends]}
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": "RoutingPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"models": [name], "rules": [{"name": rule, "route": {"tiers": [tier]}}]},
    }


def endpoint_slice(name: str, service: str, address: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": port}],
    }


async def fill(api: Api, policies: int, backends: int, port: int) -> None:
    """Create what is only there: policies of three rules over three backends each."""
    gate = asyncio.Semaphore(APPLIES_AT_ONCE)

    async def create(path: str, body: Mapping[str, Any]) -> None:
        async with gate:
            await api.create(path, body)

    await asyncio.gather(
        *(
            create(f"{GROUP}/modelbackends", backend(f"b{number}", external(port)))
            for number in range(backends)
        )
    )
    await asyncio.gather(
        *(
            create(f"{GROUP}/routingpolicies", _wide_policy(number, backends))
            for number in range(policies)
        )
    )


def _wide_policy(number: int, backends: int) -> dict[str, Any]:
    names = [f"b{(number + step) % backends}" for step in range(3)]
    body = policy(f"p{number}", "default", names)
    (default,) = body["spec"]["rules"]
    rules = [
        {**default, "name": "tagged", "match": {"tags": [f"team-{number}"]}},
        {**default, "name": "long", "when": f"request.tokens > {1000 + number}"},
        default,
    ]
    body["spec"]["rules"] = rules
    return body


def start_planes(
    stack: ExitStack, folder: Path, plane: ControlPlane, redis_url: str
) -> tuple[Callable[[], ChildProcess], Callable[[], list[str]]]:
    """Return what starts an operator and what starts the data planes (their public URLs)."""
    config = folder / "operator.yaml"
    config.write_text(
        json.dumps({"gateways": [{"name": "default", "namespace": NAMESPACE, "admit": "All"}]})
    )
    command: list[str | Path] = [sys.executable, "-m", "switchboard_cli"]

    def operator() -> ChildProcess:
        admin = free_port()
        return stack.enter_context(
            ChildProcess(
                [
                    *(*command, "operator", "--config", config, "--redis-url", redis_url),
                    *("--namespace", NAMESPACE, "--kubeconfig", plane.kubeconfig()),
                    *("--admin-host", "127.0.0.1", "--admin-port", str(admin)),
                ],
                log=folder / f"operator-{admin}.log",
            )
        )

    def data_planes() -> list[str]:
        key = folder / "scope-key.json"
        urls = []
        for number in range(DATA_PLANES):
            port, admin = free_port(), free_port()
            stack.enter_context(
                ChildProcess(
                    [
                        *(*command, "dataplane", "--redis-url", redis_url),
                        *("--scope", "gw/default", "--scope-key-file", key),
                        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
                        *("--pod-name", f"pod-{number}", "--allow-addresses", "127.0.0.0/8"),
                    ],
                    log=folder / f"dataplane-{number}.log",
                )
            )
            urls.append(f"http://127.0.0.1:{port}")
        return urls

    return operator, data_planes


async def scope_key(api: Api) -> bytes:
    """Wait for the key that the operator makes: a data plane is given it as a file."""
    found = await until(lambda: _secret(api))
    return base64.b64decode(found["data"]["scope-key.json"])


async def _secret(api: Api) -> Any:
    try:
        return await api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/switchboard-scope-default")
    except aiohttp.ClientResponseError:
        return None


async def all_programmed(api: Api, policies: int, probes: int) -> None:
    """Wait until the status of every policy tells that all data planes have it.

    A table of 2,000 takes 30 ms of the CPU whose work is waited for: a few are asked for first.
    """
    for number in range(0, policies, SAMPLE_EVERY):
        path = f"{GROUP}/routingpolicies/p{number}"
        await until(partial(_is_programmed, api, path), every_s=0.1)
    await until(partial(_every_row_is_programmed, api, policies + probes), every_s=0.25)


async def _is_programmed(api: Api, path: str) -> bool:
    found = await api.get(path)
    return bool(found.get("status", {}).get("pods") == f"{DATA_PLANES}/{DATA_PLANES}")


async def _every_row_is_programmed(api: Api, count: int) -> bool:
    table = await api.get(
        f"{GROUP}/routingpolicies?includeObject=None",
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )
    (column,) = (
        number for number, one in enumerate(table["columnDefinitions"]) if one["name"] == "Pods"
    )
    pods = f"{DATA_PLANES}/{DATA_PLANES}"
    return [row["cells"][column] for row in table["rows"]].count(pods) == count


class Probe:
    """An edit that flips between two states, and how a request tells which one is in force."""

    def __init__(
        self,
        model: str,
        edit: Callable[[bool], Awaitable[None]],
        shown: Callable[[aiohttp.ClientResponse, Any], str],
        states: tuple[str, str],
    ) -> None:
        self.model = model
        self.edit = edit
        self.shown = shown
        self.states = states
        self.flipped = False

    async def measure_ms(self, session: aiohttp.ClientSession, urls: list[str]) -> float:
        """Flip and return the milliseconds until the last data plane acts on it."""
        self.flipped = not self.flipped
        await self.edit(self.flipped)
        start = perf_counter()
        wanted = self.states[self.flipped]
        await asyncio.gather(*(self._acts(session, url, wanted) for url in urls))
        return (perf_counter() - start) * 1_000

    async def _acts(self, session: aiohttp.ClientSession, url: str, wanted: str) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}]}
        async with asyncio.timeout(WAIT_S):
            while True:
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    if self.shown(answer, await answer.json()) == wanted:
                        return
                await asyncio.sleep(POLL_S)


def _by_rule(answer: aiohttp.ClientResponse, _: Any) -> str:
    return answer.headers.get("x-switchboard-rule", "")


def _by_answerer(_: aiohttp.ClientResponse, body: Any) -> str:
    return str(body.get("system_fingerprint", ""))


async def make_probes(api: Api, fakes: Mapping[str, int]) -> list[Probe]:
    """Create what the edits change: a policy, an external backend, the endpoints of a Service."""
    await api.create(f"{GROUP}/modelbackends", backend("steady", external(fakes["a"])))
    await api.create(f"{GROUP}/modelbackends", backend("moving", external(fakes["a"])))
    service = {"service": {"name": "engine", "port": "http"}}
    await api.create(f"{GROUP}/modelbackends", backend("served", service))
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    await api.create(
        f"/api/v1/namespaces/{NAMESPACE}/services",
        {"metadata": {"name": "engine"}, "spec": {"ports": ports}},
    )
    await api.create(SLICES, endpoint_slice("engine-1", "engine", ADDRESSES[0], fakes["shared"]))
    for name, one in (("by-policy", "steady"), ("by-backend", "moving"), ("by-slice", "served")):
        await api.create(f"{GROUP}/routingpolicies", policy(name, "old", [one]))

    async def edit_policy(new: bool) -> None:
        spec = policy("by-policy", "new" if new else "old", ["steady"])["spec"]
        await api.patch(f"{GROUP}/routingpolicies/by-policy", {"spec": spec})

    async def edit_backend(new: bool) -> None:
        spec = external(fakes["b" if new else "a"])
        await api.patch(f"{GROUP}/modelbackends/moving", {"spec": spec})

    async def edit_slice(new: bool) -> None:
        address = ADDRESSES[1] if new else ADDRESSES[0]
        said = endpoint_slice("engine-1", "engine", address, fakes["shared"])
        await api.patch(f"{SLICES}/engine-1", {"endpoints": said["endpoints"]})

    return [
        Probe("by-policy", edit_policy, _by_rule, ("old", "new")),
        Probe("by-backend", edit_backend, _by_answerer, ("a", "b")),
        Probe("by-slice", edit_slice, _by_answerer, ("two", "three")),
    ]


def start_fakes(stack: ExitStack, folder: Path) -> dict[str, int]:
    """Start the fake models: two for the external backend, two on one port for the Service."""
    ports = {"a": free_port(), "b": free_port(), "shared": free_port()}
    places = {
        "a": f"127.0.0.1:{ports['a']}",
        "b": f"127.0.0.1:{ports['b']}",
        "two": f"{ADDRESSES[0]}:{ports['shared']}",
        "three": f"{ADDRESSES[1]}:{ports['shared']}",
    }
    for name, listen in places.items():
        command = [sys.executable, "-m", "switchboard_cli", "fake-model", "--listen", listen]
        fake = ChildProcess(
            [*command, "--name", name, "--answer-tokens", "1", "--any-model"],
            log=folder / f"fake-{name}.log",
        )
        stack.enter_context(fake).wait_for_log("serves")
    return ports


def start_store(stack: ExitStack, run: Run) -> tuple[str, Callable[[], None]]:
    """Start the store; return its URL, and what kills the server that is written to."""
    if run.after == "sentinel":
        store = stack.enter_context(SentinelRedis(run.folder / "redis"))
        return store.url(), store.primary.kill
    redis = stack.enter_context(RedisServer(run.folder / "redis"))
    return redis.url, redis.kill


async def measure(run: Run) -> Mapping[str, Any]:
    """Measure one size."""
    with ExitStack() as stack:
        plane = stack.enter_context(ControlPlane.start(run.folder / "cluster"))
        redis_url, kill_store = start_store(stack, run)
        plane.install_kinds(REPO / "crds")
        plane.kubectl("create", "namespace", NAMESPACE)
        fakes = start_fakes(stack, run.folder)
        async with AsyncExitStack() as closing:
            api = Api(plane)
            closing.push_async_callback(api.close)
            session = await closing.enter_async_context(aiohttp.ClientSession())
            starts = start_planes(stack, run.folder, plane, redis_url)
            return await _measure(run, api, session, starts, fakes, kill_store)


async def _measure(
    run: Run,
    api: Api,
    session: aiohttp.ClientSession,
    starts: tuple[Callable[[], ChildProcess], Callable[[], list[str]]],
    fakes: Mapping[str, int],
    kill_store: Callable[[], None],
) -> Mapping[str, Any]:
    start_operator, start_data_planes = starts
    # The key comes from a first, short run, so that the data planes are there when it counts.
    first = start_operator()
    (run.folder / "scope-key.json").write_bytes(await scope_key(api))
    first.stop()
    await fill(api, run.policies, run.backends, fakes["a"])
    probes = await make_probes(api, fakes)
    urls = start_data_planes()
    print(f"{run.policies} policies, {run.backends} backends: starting the operator", flush=True)
    for url in urls:
        await until(partial(_listens, session, url))
    start = perf_counter()
    operator = start_operator()
    for url in urls:
        await until(partial(_serves, session, url, probes[0].model))
    start_to_served_s = perf_counter() - start
    await all_programmed(api, run.policies, len(probes))
    start_to_programmed_s = perf_counter() - start
    calling = traffic(*urls, model=probes[0].model, callers=CALLERS, every_s=EVERY_S)
    with calling if run.traffic else nullcontext() as called:
        recovered_s = None
        if run.after == "hand-over":
            # Settled, so that it is measured and not its start.
            start_operator().wait_for_log("listed")
            await asyncio.sleep(STARTED_S)
            operator.kill()
        elif run.after == "sentinel":
            kill_store()
        if run.after:
            recovered_s = await probes[0].measure_ms(session, urls) / 1000
            await asyncio.sleep(SETTLED_S)
        took = await measure_edits(probes, session, urls, run.edits)
    figures = figures_of(took)
    peak_mb = None if run.after == "hand-over" else round(rss_mb(operator.pid, peak=True), 1)
    return {
        "policies": run.policies,
        "backends": run.backends,
        "edits": run.edits,
        "after": run.after,
        "traffic": run.traffic,
        **figures,
        "targets": targets_of(figures, edits=run.edits),
        **({} if recovered_s is None else {"recovered_s": round(recovered_s, 2)}),
        **({"requests": called.served, "failed": len(called.failures)} if called else {}),
        **({} if peak_mb is None else {"operator_rss_mb": peak_mb}),
        "start_to_served_s": round(start_to_served_s, 2),
        "start_to_programmed_s": round(start_to_programmed_s, 2),
        "compiled": form() == "compiled",
        "machine": machine(),
    }


async def measure_edits(
    probes: list[Probe], session: aiohttp.ClientSession, urls: list[str], edits: int
) -> Mapping[str, list[float]]:
    """Make edits of each kind in turn; return how long each took, in milliseconds."""
    took: dict[str, list[float]] = {probe.model: [] for probe in probes}
    for number in range(edits):
        probe = probes[number % len(probes)]
        took[probe.model].append(await probe.measure_ms(session, urls))
    return took


def figures_of(took: Mapping[str, list[float]]) -> Mapping[str, float]:
    """Return the percentiles of all edits, and the median of each kind."""
    every = sorted(one for each in took.values() for one in each)
    cuts = quantiles(every, n=100)
    return {
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(every[-1], 1),
        **{
            f"{model.replace('-', '_')}_p50_ms": round(sorted(each)[len(each) // 2], 1)
            for model, each in took.items()
        },
    }


def targets_of(figures: Mapping[str, float], *, edits: int) -> Mapping[str, str]:
    """Say of each target whether it is met."""
    said = {
        f"p50 <= {P50_MAX_MS} ms": figures["p50_ms"] <= P50_MAX_MS,
        f"p99 <= {P99_MAX_MS} ms": figures["p99_ms"] <= P99_MAX_MS,
        f"edits >= {EDITS_MIN}": edits >= EDITS_MIN,
    }
    return {target: "met" if is_met else "MISSED" for target, is_met in said.items()}


async def _listens(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/v1/models"):
            return True
    except aiohttp.ClientError:
        return False


async def _serves(session: aiohttp.ClientSession, url: str, model: str) -> bool:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


if __name__ == "__main__":
    main()
