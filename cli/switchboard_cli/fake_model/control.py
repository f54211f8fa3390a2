"""The control endpoints: look at a running fake model, and change how it behaves."""

from collections.abc import Awaitable, Callable
from typing import cast

import orjson
from aiohttp import web

from switchboard_cli.fake_model.engine import Engine
from switchboard_cli.fake_model.errors import bad_request
from switchboard_cli.fake_model.settings import SettingsError, patch_settings

_JSON_HEADERS = {"Content-Type": "application/json"}
_LAST_HEADS = 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_routes(engine: Engine) -> list[web.RouteDef]:
    """Return the routes under /control."""

    async def show(request: web.Request) -> web.StreamResponse:
        return _answer_last(request, lambda last: describe(engine, last=last), _LAST_HEADS)

    async def change(request: web.Request) -> web.StreamResponse:
        try:
            patch: object = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            return _refuse(f"the body is not JSON: {error}")
        if not isinstance(patch, dict):
            return _refuse("the body must be a JSON object of settings")
        fields = cast("dict[str, object]", patch)
        try:
            settings = patch_settings(engine.settings, fields)
        except SettingsError as error:
            return _refuse(str(error), error.field)
        engine.apply(settings, faults_anew="faults" in fields)
        return _json(describe(engine, last=0))

    async def reset(_: web.Request) -> web.StreamResponse:
        engine.reset()
        return _json(describe(engine, last=0))

    async def requests(request: web.Request) -> web.StreamResponse:
        return _answer_last(
            request,
            lambda last: [record.to_json() for record in engine.records.last(last)],
            engine.settings.recorded_requests,
        )

    return [
        web.get("/control", show),
        web.patch("/control", change),
        web.post("/control/reset", reset),
        web.get("/control/requests", requests),
    ]


def describe(engine: Engine, *, last: int) -> dict[str, object]:
    """Return settings, counters and the heads of the last requests as JSON types."""
    records = engine.records
    return {
        "name": engine.settings.name,
        "settings": {**engine.settings.to_json(), "faults": engine.dice.to_json()},
        "counters": {
            "seen": records.seen,
            "in_flight": engine.in_flight,
            "running": engine.gate.running,
            "waiting": engine.gate.waiting,
            "answered": records.outcomes["answered"],
            "errors": records.outcomes["error"],
            "cut": records.outcomes["cut"],
            "cancelled": records.outcomes["cancelled"],
            "by_path": dict(records.by_path),
            "faults": dict(engine.dice.struck),
            "metrics_by_reader": dict(engine.metrics_readers),
        },
        "requests": [record.head_to_json() for record in records.last(last)],
    }


def _answer_last(
    request: web.Request, describe_last: Callable[[int], object], default: int
) -> web.StreamResponse:
    text = request.query.get("last", str(default))
    if not text.isdecimal():
        return _refuse(f"last: must be a whole number from 0, not {text!r}", "last")
    return _json(describe_last(int(text)))


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), headers=_JSON_HEADERS)


def _refuse(message: str, field: str | None = None) -> web.Response:
    answer = bad_request(message, field)
    return web.Response(status=answer.status, body=answer.to_bytes(), headers=_JSON_HEADERS)
