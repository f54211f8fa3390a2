"""The admin port: is it alive, is it ready, what runs, and how it is doing. No secrets."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from switchboard_dataplane.decision.running import Backend, Endpoint, Snapshot
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable
from switchboard_dataplane.sources.state import SourceState

_JSON: Final = "application/json"
_TEXT: Final = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Handles the requests of the admin port.

    ``source`` tells where the policy comes from, ``exposition`` the content type and text of the
    Prometheus page (in a thread of its own); ``clock`` is the event loop's.
    """

    in_force: InForce
    source: Callable[[], SourceState]
    live: LiveRequests
    exposition: Callable[[], tuple[str, bytes]]
    clock: Callable[[], float]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        match request.path:
            case "/livez":
                return web.Response(text="ok\n", content_type=_TEXT)
            case "/readyz":
                return self._readiness()
            case "/metrics":
                # With thousands of points it takes longer than a request may wait.
                content_type, page = await asyncio.to_thread(self.exposition)
                return web.Response(body=page, headers={"content-type": content_type})
            case "/policy":
                return _json(describe_policy(self.in_force.snapshot))
            case "/backends":
                return _json(self._backends())
            case _:
                text = "try /livez /readyz /metrics /policy /backends\n"
                return web.Response(status=404, text=text, content_type=_TEXT)

    def _backends(self) -> dict[str, object]:
        return describe_backends(self.in_force.snapshot, self.in_force.signals, now=self.clock())

    def _readiness(self) -> web.Response:
        snapshot, source = self.in_force.snapshot, self.source()
        # Policy without its endpoints would turn requests away that another pod can serve.
        known = snapshot is not None and source.synced
        ready = known and not self.live.closing
        reason = ""
        if self.live.closing:
            reason = "shutting down"
        elif not known:
            reason = f"no policy yet: {source.reason or 'the store holds nothing of this scope'}"
        detail: dict[str, object] = {
            "ready": ready,
            "reason": reason,
            "revision": None if snapshot is None else snapshot.revision,
            "source": {
                "connected": source.connected,
                "reason": source.reason,
                "age_s": None if source.age_s is None else round(source.age_s, 3),
                "revisions": {name: str(at) for name, at in source.revisions.items()},
                "full_syncs": source.full_syncs,
                "propagation_ms": source.propagation_ms,
            },
            "refused": dict(source.refused),
            "live_pods": source.live_pods,
            "live_requests": len(self.live),
            "draining": self.live.closing,
        }
        return _json(detail, status=200 if ready else 503)


def describe_policy(snapshot: Snapshot | None) -> dict[str, object]:
    """Return the policies in force, as compiled, and their backends without credentials."""
    if snapshot is None:
        return {"revision": None, "policies": {}, "backends": {}}
    return {
        "revision": snapshot.revision,
        "policies": {
            name: msgspec.to_builtins(policy.spec)
            for name, policy in sorted(snapshot.policies.items())
        },
        "backends": {
            name: {
                **_builtins(backend),
                "credential": bool(backend.spec.credential),
                "unusable": backend.unusable,
                "endpoints": len(backend.endpoints),
            }
            for name, backend in sorted(snapshot.backends.items())
        },
    }


def describe_backends(
    snapshot: Snapshot | None, signals: SignalTable, *, now: float
) -> dict[str, object]:
    """Return each backend's endpoints with what is true of them now; ages are in seconds."""
    backends: Mapping[str, Backend] = {} if snapshot is None else snapshot.backends
    return {
        "revision": None if snapshot is None else snapshot.revision,
        "backends": {
            name: {
                "unusable": backend.unusable,
                "endpoints": [
                    _describe_endpoint(endpoint, signals.get(endpoint.id), now)
                    for endpoint in backend.endpoints
                ],
            }
            for name, backend in sorted(backends.items())
        },
    }


def _describe_endpoint(
    endpoint: Endpoint, signal: EndpointSignal | None, now: float
) -> dict[str, object]:
    said: dict[str, object] = {
        "address": endpoint.address,
        "zone": endpoint.zone,
        "in_flight": 0 if signal is None else signal.in_flight,
        "latency_s": None,
        "age_s": None,
    }
    if signal is not None and not math.isnan(signal.latency_s):
        said["latency_s"] = round(signal.latency_s, 6)
        said["age_s"] = round(now - signal.observed_at, 3)
    return said


def _builtins(backend: Backend) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(backend.spec)
    return said


def _json(value: object, *, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type=_JSON)
