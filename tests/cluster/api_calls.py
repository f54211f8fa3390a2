"""Calls of the API server by HTTP, in one event loop: kubectl would add its own start to each."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp

from cluster.control_plane import ControlPlane

WAIT_S: Final = 120


class Api:
    """One client, as the cluster's administrator; made in a running event loop."""

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


async def until(ask: Callable[[], Awaitable[Any]], every_s: float = 0.05) -> Any:
    """Ask until the answer is true, and return it."""
    async with asyncio.timeout(WAIT_S):
        while not (answer := await ask()):  # noqa: ASYNC110 - a poll of another process
            await asyncio.sleep(every_s)
        return answer
