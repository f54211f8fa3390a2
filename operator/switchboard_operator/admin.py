"""The admin port: /livez, /readyz and /metrics, for probes and scrapes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

_TEXT: Final = "text/plain"
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Check = Callable[[], str]
"""Returns what is wrong, "" if nothing is."""


class Admin:
    """An HTTP server for people and machines that look after the operator."""

    def __init__(
        self,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        metrics: Callable[[], bytes],
    ) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", _answer(live)),
                web.get("/readyz", _answer({**live, **ready})),
                web.get("/metrics", _expose(metrics)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (0 asks for a free one). Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()


def _answer(checks: Mapping[str, Check]) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        outcomes = {name: check() for name, check in checks.items()}
        lines = [
            f"[-] {name}: {wrong}" if wrong else f"[+] {name}" for name, wrong in outcomes.items()
        ]
        status = 503 if any(outcomes.values()) else 200
        return web.Response(text="\n".join(lines) + "\n", status=status, content_type=_TEXT)

    return handle


def _expose(metrics: Callable[[], bytes]) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics(), headers={"Content-Type": _EXPOSITION})

    return handle
