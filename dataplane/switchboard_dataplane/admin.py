"""The admin port: is it alive, is it ready, what runs, and how it is doing. No secrets."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from switchboard_dataplane.decision.running import Backend, Endpoint, Snapshot
from switchboard_dataplane.explaining.port import ExplainPort
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.learning.decisions import rated
from switchboard_dataplane.learning.recent import Recent
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.signals.admission import BackendQueue
from switchboard_dataplane.signals.average import Average
from switchboard_dataplane.signals.breaker import Breaker
from switchboard_dataplane.signals.endpoints import PROMPT_CLASSES, EndpointSignal, SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.marks import Rest, credential_subject
from switchboard_dataplane.sources.state import SourceState

_JSON: Final = "application/json"
_JSON_LINES: Final = "application/jsonl"
_TEXT: Final = "text/plain"
#: Decisions that one answer tells of, some 700 bytes each; ``after`` goes on.
DECISIONS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Handles the requests of the admin port.

    ``source`` tells where the policy comes from, ``exposition`` the content type and text of the
    Prometheus page (in a thread of its own). ``decisions`` are the latest of this pod.
    ``explain`` says where a request would go; it asks no model.
    """

    in_force: InForce
    source: Callable[[], SourceState]
    live: LiveRequests
    decisions: Recent
    exposition: Callable[[], tuple[str, bytes]]
    explain: ExplainPort

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
            case "/policy" | "/backends" | "/decisions":
                return self._describe(request)
            case "/explain":
                return await self.explain.handle(request)
            case _:
                text = "try /livez /readyz /metrics /policy /backends /decisions /explain\n"
                return web.Response(status=404, text=text, content_type=_TEXT)

    def _backends(self) -> dict[str, object]:
        now = self.in_force.clock()
        return describe_backends(self.in_force.snapshot, self.in_force.signals, now=now)

    def _describe(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/decisions":
            return self._latest(request.query.get("after", ""))
        if request.path == "/backends":
            return _json(self._backends())
        return _json(describe_policy(self.in_force.snapshot))

    def _latest(self, after: str) -> web.Response:
        """Tell of decisions and their ratings as an export does, a line each; never of texts."""
        found = self.decisions.after(after, limit=DECISIONS_AT_ONCE)
        lines = [msgspec.json.encode(rated(one.decision, one.ratings)) + b"\n" for one in found]
        return web.Response(body=b"".join(lines), content_type=_JSON_LINES)

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
                "terminating": backend.terminating,
                "queued": _count(signals.queues, name),
                "waking": _count(signals.waking, name),
                "resting": describe_rests(backend, signals.marks.of(name), now=now),
                "endpoints": [
                    _describe_endpoint(endpoint, signals.get(endpoint.id), now)
                    for endpoint in backend.endpoints
                ],
            }
            for name, backend in sorted(backends.items())
        },
    }


def _count(queues: Mapping[str, BackendQueue], backend: str) -> int:
    queue = queues.get(backend)
    return 0 if queue is None else len(queue.waiting)


def describe_rests(
    backend: Backend, rests: Mapping[str, Rest], *, now: float
) -> list[dict[str, object]]:
    """Return what of a backend is left alone, why, and for how many seconds still.

    ``what`` is the credential, or an endpoint's address. ``announced``: it refused nothing, and
    serves where nothing else is left.
    """
    names = {endpoint.id: endpoint.address for endpoint in backend.endpoints}
    names[credential_subject(backend.credential)] = "credential"
    return [
        {
            "what": names[subject],
            "why": rest.failure,
            "for_s": round(rest.until - now, 3),
            "announced": rest.announced,
        }
        for subject, rest in sorted(rests.items())
        if subject in names and rest.until > now
    ]


def _describe_endpoint(
    endpoint: Endpoint, signal: EndpointSignal | None, now: float
) -> dict[str, object]:
    known = EndpointSignal() if signal is None else signal
    return {
        "address": endpoint.address,
        "zone": endpoint.zone,
        "in_flight": known.in_flight,
        "ttft_s": _describe_classes(known.ttft_s, now),
        "latency_s": _describe_classes(known.latency_s, now),
        "tokens_per_s": _describe_average(known.tokens_per_s, now),
        "errors": _describe_errors(known, now),
        "ejected": None if signal is None else describe_ejection(signal.breaker, now=now),
        "engine": _describe_engine(known.engine, now),
    }


def _describe_engine(load: EngineLoad | None, now: float) -> dict[str, object] | None:
    """Return what the engine said of itself; None if nobody heard it."""
    if load is None:
        return None
    return {
        "waiting": load.waiting,
        "running": load.running,
        "kv_use": None if load.kv_use is None else round(load.kv_use, 3),
        "age_s": round(now - load.at, 3),
        "believed": load.is_fresh(now),
    }


def describe_ejection(breaker: Breaker, *, now: float) -> dict[str, object] | None:
    """Return since when an endpoint is left out and why; None while it may serve.

    ``breaker`` and ``probe`` are there where they are the reason; ``due_in_s`` is when a request
    tries the endpoint, None while one does.
    """
    said: dict[str, object] = {}
    if breaker.state != "closed":
        due_in_s = None if breaker.state == "half_open" else max(0.0, breaker.due_at - now)
        said["breaker"] = {
            "state": breaker.state,
            "why": breaker.why,
            "for_s": round(now - breaker.opened_at, 3),
            "due_in_s": None if due_in_s is None else round(due_in_s, 3),
        }
    if breaker.unwell_since is not None:
        said["probe"] = {"for_s": round(now - breaker.unwell_since, 3)}
    return said or None


def _describe_classes(averages: Sequence[Average], now: float) -> dict[str, object]:
    """Return the averages by the class of prompts, in tokens: those that anything is known of."""
    names = [*(f"<={tokens}" for tokens in PROMPT_CLASSES), f">{PROMPT_CLASSES[-1]}"]
    return {
        name: _describe_average(average, now)
        for name, average in zip(names, averages, strict=True)
        if not math.isnan(average.value)
    }


def _describe_errors(signal: EndpointSignal, now: float) -> dict[str, object] | None:
    """Return how many failed attempts still count, and when the last was; None without any."""
    errors = signal.errors_now(now)
    return (
        {"value": round(errors, 3), "age_s": round(now - signal.errors_at, 3)} if errors else None
    )


def _describe_average(average: Average, now: float) -> dict[str, object] | None:
    if math.isnan(average.value):
        return None
    return {"value": round(average.value, 6), "age_s": round(now - average.at, 3)}


def _builtins(backend: Backend) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(backend.spec)
    return said


def _json(value: object, *, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type=_JSON)
