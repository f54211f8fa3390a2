"""The objects of a large installation, and the edits that it gets."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final

from cluster.api_calls import Api, until

NAMESPACE: Final = "scale"
GROUP: Final = f"/apis/switchboard.dev/v1alpha1/namespaces/{NAMESPACE}"
SERVICES: Final = f"/api/v1/namespaces/{NAMESPACE}/services"
SLICES: Final = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
APPLIES_AT_ONCE: Final = 16
#: Every policy names three backends, and its neighbour the next three but two.
NAMED_BACKENDS: Final = 3
#: A table of all policies costs the API server some 0.1 s, so it is asked when few are left.
SAMPLE_EVERY: Final = 25
PORT: Final = 8000


class World:
    """``backends`` of ``endpoints`` addresses each, all there from the start; policies later."""

    def __init__(self, api: Api, *, backends: int, endpoints: int) -> None:
        self._api = api
        self._backends = backends
        self._endpoints = endpoints
        self._policies = 0
        self._edits = 0

    async def fill(self) -> None:
        """Create the backends, their Services and EndpointSlices."""
        numbers = range(self._backends)
        await _all(self._api.create(SERVICES, _service(number)) for number in numbers)
        await _all(self._api.create(SLICES, self._slice(number, 0)) for number in numbers)
        path = f"{GROUP}/modelbackends"
        await _all(self._api.create(path, _backend(number)) for number in numbers)

    async def grow(self, policies: int) -> None:
        """Create policies until there are so many."""
        new = range(self._policies, policies)
        path = f"{GROUP}/routingpolicies"
        await _all(self._api.create(path, self._policy(number, 0)) for number in new)
        self._policies = policies

    async def edit_policy(self) -> None:
        """Edit a policy, another one each time."""
        self._edits += 1
        number = self._edits % self._policies
        spec = self._policy(number, self._edits)["spec"]
        await self._api.patch(f"{GROUP}/routingpolicies/p{number}", {"spec": spec})

    async def change_endpoints(self) -> None:
        """Put one endpoint in the place of another, of another backend each time."""
        self._edits += 1
        # Of those that policies use, however few policies there are.
        number = self._edits % min(self._policies, self._backends)
        said = self._slice(number, self._edits)["endpoints"]
        await self._api.patch(f"{SLICES}/s{number}-1", {"endpoints": said})

    async def programmed(self, pods: int) -> None:
        """Wait until the status of every policy tells that all pods have it."""
        said = f"{pods}/{pods}"
        for number in range(0, self._policies, SAMPLE_EVERY):
            await until(partial(self._is_programmed, number, said), every_s=0.1)
        await until(partial(self._all_programmed, said), every_s=0.25)

    async def _is_programmed(self, number: int, said: str) -> bool:
        found = await self._api.get(f"{GROUP}/routingpolicies/p{number}")
        return bool(found.get("status", {}).get("pods") == said)

    async def _all_programmed(self, said: str) -> bool:
        table = await self._api.get(
            f"{GROUP}/routingpolicies?includeObject=None",
            accept="application/json;as=Table;v=v1;g=meta.k8s.io",
        )
        names = [one["name"] for one in table["columnDefinitions"]]
        column = names.index("Pods")
        return [row["cells"][column] for row in table["rows"]].count(said) == self._policies

    def _slice(self, number: int, edit: int) -> dict[str, Any]:
        addresses = [
            f"10.{number // 250}.{number % 250}.{place + 1}" for place in range(self._endpoints)
        ]
        if edit:
            addresses[edit % self._endpoints] = (
                f"10.{100 + edit // 62_500}.{edit // 250 % 250}.{edit % 250}"
            )
        return {
            "metadata": {
                "name": f"s{number}-1",
                "labels": {"kubernetes.io/service-name": f"s{number}"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
            "ports": [{"name": "http", "port": PORT}],
        }

    def _policy(self, number: int, edit: int) -> dict[str, Any]:
        names = [f"b{(number + step) % self._backends}" for step in range(NAMED_BACKENDS)]
        tier = {"name": "only", "backends": [{"name": name} for name in names]}
        route = {"tiers": [tier]}
        rules = [
            {"name": "tagged", "match": {"tags": [f"team-{number}"]}, "route": route},
            {"name": "long", "when": f"request.tokens > {1000 + number + edit}", "route": route},
            {"name": "default", "route": route},
        ]
        return _ours("RoutingPolicy", f"p{number}", {"models": [f"model-{number}"], "rules": rules})


async def _all(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    gate = asyncio.Semaphore(APPLIES_AT_ONCE)

    async def behind_the_gate(call: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await call

    await asyncio.gather(*(behind_the_gate(call) for call in calls))


def _service(number: int) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return {"metadata": {"name": f"s{number}"}, "spec": {"ports": ports}}


def _backend(number: int) -> dict[str, Any]:
    service = {"name": f"s{number}", "port": "http"}
    return _ours("ModelBackend", f"b{number}", {"model": "model", "service": service})


def _ours(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
