"""From `apply` to effect: how long until every one of three data planes acts on an edit.

Real parts: kube-apiserver, etcd, Redis, the operator, three data planes, all processes of this
machine. Edits of policies, backends and endpoints in turn, closed loop: the clock starts when the
API server has answered the edit and stops when the last data plane answers a request by it. Prints
a table and writes ``.bench/propagation.json``: a list of {policies, backends, p50_ms, p95_ms,
p99_ms, operator_rss_mb, start_to_programmed_s, …}, one for each size.

``--edits N`` (default 510 for each size), ``--sizes 0x0,2000x500``. ``--smoke``: only as much as
shows that the benchmark still runs.
"""

import argparse
import asyncio
import base64
import json
import re
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import aiohttp
from figures import REPO, machine, write_figures

from cluster.control_plane import ControlPlane
from cluster.network import ADDRESSES, enter_own_network
from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer
from switchboard_dataplane.app import form

NAMESPACE = "bench"
DATA_PLANES = 3
POLL_S = 0.001
APPLIES_AT_ONCE = 16
SAMPLE_EVERY = 100
WAIT_S = 60
GROUP = "/apis/switchboard.dev/v1alpha1/namespaces/bench"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices"


def main() -> None:
    """Measure each size on a fresh cluster, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=510)
    parser.add_argument("--sizes", default="0x0,2000x500")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.edits, args.sizes = 6, "3x3"
    enter_own_network()
    rows: list[Mapping[str, Any]] = []
    for size in args.sizes.split(","):
        policies, backends = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(prefix="propagation-") as folder:
            rows.append(asyncio.run(measure(Path(folder), policies, backends, args.edits)))
    write_figures("propagation", rows)


class Api:
    """The API server, by HTTP: kubectl would add its own start to every edit."""

    def __init__(self, plane: ControlPlane) -> None:
        config = json.loads(plane.kubeconfig().read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = cluster.get("certificate-authority")
        self._url = cluster["server"]
        self._tls = ssl.create_default_context(cafile=authority)
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, *, accept: str = "application/json") -> Any:
        headers = {**self._headers, "Accept": accept}
        async with self._session.get(self._url + path, headers=headers, ssl=self._tls) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def create(self, path: str, body: Mapping[str, Any]) -> None:
        async with self._session.post(
            self._url + path, json=body, headers=self._headers, ssl=self._tls
        ) as answer:
            assert answer.status == 201, await answer.text()

    async def patch(self, path: str, body: Mapping[str, Any]) -> None:
        async with self._session.patch(
            self._url + path,
            data=json.dumps(body),
            headers={**self._headers, "Content-Type": "application/merge-patch+json"},
            ssl=self._tls,
        ) as answer:
            assert answer.status == 200, await answer.text()


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
    stack: ExitStack, folder: Path, plane: ControlPlane, redis: RedisServer
) -> tuple[Callable[[], ChildProcess], Callable[[], list[str]]]:
    """Return what starts the operator and what starts the data planes (their public URLs)."""
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
                    *(*command, "operator", "--config", config, "--redis-url", redis.url),
                    *("--namespace", NAMESPACE, "--kubeconfig", plane.kubeconfig()),
                    *("--admin-host", "127.0.0.1", "--admin-port", str(admin)),
                ],
                log=folder / "operator.log",
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
                        *(*command, "dataplane", "--redis-url", redis.url),
                        *("--scope", "gw/default", "--scope-key-file", key),
                        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
                        *("--pod-name", f"pod-{number}"),
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


async def until(ask: Callable[[], Awaitable[Any]], every_s: float = 0.05) -> Any:
    """Ask until the answer is true, and return it."""
    async with asyncio.timeout(WAIT_S):
        while not (answer := await ask()):  # noqa: ASYNC110 - a poll of another process
            await asyncio.sleep(every_s)
        return answer


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


def rss_mb(pid: int) -> float:
    """Return the peak resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found.group(1)) / 1024


async def measure(folder: Path, policies: int, backends: int, edits: int) -> Mapping[str, Any]:
    """Measure one size."""
    with ExitStack() as stack:
        plane = stack.enter_context(ControlPlane.start(folder / "cluster"))
        redis = RedisServer(folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        plane.kubectl("apply", "--server-side", "-f", str(REPO / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "-f", str(REPO / "crds"))
        plane.kubectl("create", "namespace", NAMESPACE)
        fakes = start_fakes(stack, folder)
        async with AsyncExitStack() as closing:
            api = Api(plane)
            closing.push_async_callback(api.close)
            start_operator, start_data_planes = start_planes(stack, folder, plane, redis)
            return await _measure(
                api, start_operator, start_data_planes, folder, fakes, (policies, backends, edits)
            )


async def _measure(
    api: Api,
    start_operator: Callable[[], ChildProcess],
    start_data_planes: Callable[[], list[str]],
    folder: Path,
    fakes: Mapping[str, int],
    sizes: tuple[int, int, int],
) -> Mapping[str, Any]:
    policies, backends, edits = sizes
    # The key comes from a first, short run, so that the data planes are there when it counts.
    first = start_operator()
    (folder / "scope-key.json").write_bytes(await scope_key(api))
    first.stop()
    await fill(api, policies, backends, fakes["a"])
    probes = await make_probes(api, fakes)
    urls = start_data_planes()
    print(f"{policies} policies, {backends} backends: starting the operator", flush=True)
    async with aiohttp.ClientSession() as session:
        for url in urls:
            await until(partial(_listens, session, url))
        start = perf_counter()
        operator = start_operator()
        for url in urls:
            await until(partial(_serves, session, url, probes[0].model))
        start_to_served_s = perf_counter() - start
        await all_programmed(api, policies, len(probes))
        start_to_programmed_s = perf_counter() - start
        took: dict[str, list[float]] = {probe.model: [] for probe in probes}
        for number in range(edits):
            probe = probes[number % len(probes)]
            took[probe.model].append(await probe.measure_ms(session, urls))
    every = sorted(one for each in took.values() for one in each)
    cuts = quantiles(every, n=100)
    return {
        "policies": policies,
        "backends": backends,
        "edits": edits,
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(every[-1], 1),
        **{
            f"{model.replace('-', '_')}_p50_ms": round(sorted(each)[len(each) // 2], 1)
            for model, each in took.items()
        },
        "operator_rss_mb": round(rss_mb(operator.pid), 1),
        "start_to_served_s": round(start_to_served_s, 2),
        "start_to_programmed_s": round(start_to_programmed_s, 2),
        "compiled": form() == "compiled",
        "machine": machine(),
    }


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
