"""``/explain`` on the admin port: bounded in size, time and number; nothing of it is logged."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.explainer import Explainer
from switchboard_dataplane.explaining.question import (
    QUESTION_BYTES_MAX,
    Unreadable,
    read_question,
)
from switchboard_dataplane.explaining.remembered import remembered_of
from switchboard_dataplane.learning.recent import Recent

#: A question has so long to come, in seconds.
QUESTION_S: Final = 10.0
#: So many are answered at once: each takes some milliseconds of what serves requests.
AT_ONCE_MAX: Final = 4

_JSON: Final = "application/json"
_TOO_LARGE: Final = "body_too_large"


@dataclass(slots=True, kw_only=True)
class ExplainPort:
    """Answers the requests to ``/explain``. ``decisions`` are the latest of this pod.

    A question has ``patience_s`` to come.
    """

    explainer: Explainer
    snapshot: Callable[[], Snapshot | None]
    decisions: Recent
    patience_s: float = QUESTION_S
    _busy: int = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer: of a decision with ``?decision=ID``, else of the request in the body."""
        if request.method not in ("GET", "POST"):
            return _refused(405, "method_not_allowed", "use GET or POST")
        if self._busy >= AT_ONCE_MAX:
            return _refused(503, "overloaded", "others are being explained: ask again")
        self._busy += 1
        try:
            decision = request.query.get("decision", "")
            return self._remembered(decision) if decision else await self._explained(request)
        except Unreadable as error:
            status = 413 if error.code == _TOO_LARGE else 400
            return _refused(status, error.code, str(error), param=error.param)
        except TimeoutError:
            return _refused(408, "body_timeout", f"the body did not come in {self.patience_s:g} s")
        finally:
            self._busy -= 1

    def _remembered(self, decision: str) -> web.Response:
        now = self.explainer.clock()
        found = remembered_of(self.decisions, decision, self.snapshot(), now)
        if found is None:
            told = "this pod does not remember the decision; one that it served is kept for an hour"
            return _refused(404, "decision_not_found", told, param="decision")
        return _told(found)

    async def _explained(self, request: web.BaseRequest) -> web.Response:
        async with asyncio.timeout(self.patience_s):
            data = await _read(request)
        if not data:
            raise Unreadable("send a request as the body, or ?decision=ID")
        snapshot = self.snapshot()
        view = read_question(data)
        if snapshot is None:
            return _refused(503, "not_ready", "no policy has reached this pod yet")
        return _told(await self.explainer.explain(snapshot, view))


async def _read(request: web.BaseRequest) -> bytes:
    """Return the body, read no further than it may be long; raises Unreadable."""
    data = bytearray()
    async for piece in request.content.iter_any():
        data += piece
        if len(data) > QUESTION_BYTES_MAX:
            told = f"the body is too long: send at most {QUESTION_BYTES_MAX} bytes"
            raise Unreadable(told, code=_TOO_LARGE)
    return bytes(data)


def _told(found: form.Explanation | form.Remembered) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(found)) + b"\n"
    return web.Response(body=body, content_type=_JSON)


def _refused(status: int, code: str, message: str, *, param: str = "") -> web.Response:
    said = {"error": {"code": code, "param": param, "message": message}}
    body = msgspec.json.format(msgspec.json.encode(said)) + b"\n"
    return web.Response(status=status, body=body, content_type=_JSON)
