"""The fake model's HTTP server: its endpoints, and a socket that can reset what it accepts."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiohttp import web

from switchboard_cli.fake_model import errors
from switchboard_cli.fake_model.asks import Api
from switchboard_cli.fake_model.control import control_routes
from switchboard_cli.fake_model.engine import Engine
from switchboard_cli.fake_model.exchange import JSON_HEADERS, Exchange, authorize
from switchboard_cli.fake_model.settings import Settings
from switchboard_cli.fake_model.striking import CutError

ENGINE: web.AppKey[Engine] = web.AppKey("engine", Engine)

_BODY_BYTES_MAX = 64 << 20  # a prompt of a million tokens and a few images
_BACKLOG = 1024  # connections of a benchmark that come at once
_SHUTDOWN_S = 0.25  # live streams end at once: whoever runs this waits for it
_LINGER_RESET = struct.pack("ii", 1, 0)  # on, 0 s: closing sends a reset
_METRICS_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,  # noqa: TID251 - the edge where time comes in
) -> web.Application:
    """Return the application; its `ENGINE` is the state behind it, its clock tells s since 1970.

    Run it with `handler_cancellation=True`, or a caller that leaves goes unnoticed, or use
    `serve`, which does. Faults of kind reset strike under `serve` only: they are the socket's.
    """
    engine = Engine(settings, clock)
    app = web.Application(client_max_size=_BODY_BYTES_MAX)
    app[ENGINE] = engine
    app.add_routes(
        [
            *(web.post(api.path, _answer_with(engine, api)) for api in Api),
            web.get("/v1/models", _list_models(engine)),
            web.get("/health", _tell_health(engine)),
            web.get("/metrics", _show_metrics(engine)),
            *control_routes(engine),
            web.route("*", "/{rest:.*}", _refuse_url(engine)),
        ]
    )
    return app


@dataclass(frozen=True, slots=True)
class Serving:
    """A fake model that listens."""

    url: str  # without a path: http://127.0.0.1:8000
    port: int
    engine: Engine


@asynccontextmanager
async def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[Serving]:
    """Listen until the block ends; port 0 takes a free one. Raises OSError.

    Live streams are ended with the block, within a second.
    """
    app = build_app(settings)
    engine = app[ENGINE]
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
    )
    await runner.setup()
    try:
        make_handler = runner.server
        if make_handler is None:
            raise RuntimeError("an application that is set up has its server")

        def accept() -> asyncio.BaseProtocol:
            return _Resetting() if engine.dice.roll_reset() else make_handler()

        loop = asyncio.get_running_loop()
        listener = await loop.create_server(accept, host, port, backlog=_BACKLOG)
        try:
            bound: int = listener.sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            yield Serving(url=f"http://{shown}:{bound}", port=bound, engine=engine)
        finally:
            listener.close()
    finally:
        await runner.cleanup()


class _Resetting(asyncio.Protocol):
    """A connection that is reset as soon as it is accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def _answer_with(engine: Engine, api: Api) -> _Handler:
    """Return the handler of one API."""

    async def answer(request: web.Request) -> web.StreamResponse:
        records = engine.records
        record = records.open(
            method="POST", path=api.path, headers=request.headers, received_s=engine.now_s()
        )
        exchange = Exchange(engine=engine, request=request, api=api, record=record)
        engine.in_flight += 1
        outcome = "cancelled"
        try:
            response = await exchange.answer()
            outcome = "answered"
        except errors.RefusedError as refused:
            outcome = "error"
            response = _refuse(refused)
        except CutError:
            outcome = "cut"
            response = _cut(request)
        except ConnectionError:
            # The caller left between two writes. There is nobody to send this response to.
            response = web.Response()
        finally:
            engine.in_flight -= 1
            records.close(record, outcome)
        return response

    return answer


def _cut(request: web.Request) -> web.Response:
    """Close the connection under the answer; what is returned can no longer be sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refuse(refused: errors.RefusedError) -> web.Response:
    answer = refused.answer
    return web.Response(
        status=answer.status, body=answer.to_bytes(), headers={**JSON_HEADERS, **refused.headers}
    )


def _list_models(engine: Engine) -> _Handler:
    created = int(engine.now_s())

    async def list_models(request: web.Request) -> web.StreamResponse:
        settings = engine.settings
        record = engine.records.open(
            method="GET", path="/v1/models", headers=request.headers, received_s=engine.now_s()
        )
        try:
            authorize(settings, request.headers)
        except errors.RefusedError as refused:
            engine.records.close(record, "error")
            return _refuse(refused)
        engine.records.close(record, "answered")
        window = settings.context_window or None
        models = [
            {
                "id": model,
                "object": "model",
                "created": created,
                "owned_by": settings.name,
                "max_model_len": window,
            }
            for model in settings.models
        ]
        body = orjson.dumps({"object": "list", "data": models})
        return web.Response(body=body, headers=JSON_HEADERS)

    return list_models


def _tell_health(engine: Engine) -> _Handler:
    async def tell_health(_: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if engine.settings.healthy else 503)

    return tell_health


def _show_metrics(engine: Engine) -> _Handler:
    async def show_metrics(request: web.Request) -> web.StreamResponse:
        engine.metrics_readers[request.headers.get("user-agent", "")] += 1
        text = engine.metrics.render(
            model=engine.settings.models[0],
            running=engine.gate.running,
            waiting=engine.gate.waiting,
            kv_cache_tokens=engine.settings.kv_cache_tokens,
        )
        return web.Response(body=text.encode(), headers=_METRICS_HEADERS)

    return show_metrics


def _refuse_url(engine: Engine) -> _Handler:
    async def refuse_url(request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        records = engine.records
        record = records.open(
            method=method,
            path=path,
            headers=request.headers,
            received_s=engine.now_s(),
            known=False,
        )
        records.close(record, "error")
        return _refuse(errors.RefusedError(errors.unknown_url(method, path)))

    return refuse_url
