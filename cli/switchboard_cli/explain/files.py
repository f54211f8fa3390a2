"""Explains by manifests, without a cluster: compiled and decided as there, with all that is unknown
taken to be well.

Secrets are seldom in a repository and endpoints hardly ever: credentials count as there, and a
Service without EndpointSlices as one that is ready, at an address that nobody knows.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from switchboard_cli.review.running import snapshot_of
from switchboard_cli.review.sides import Settings, Side, read_side
from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.choosing.shipped import embed_intents, estimate_complexity
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.explainer import Explainer
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_policy.compiler.report import MODEL_BACKEND, ROUTING_POLICY
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.conditions import Reason

_IDLE: Final = "of files nothing is known of load, times, errors and rests: all endpoints are well"
#: What a repository need not hold; the explanation says of which backends.
_TAKEN_TO_BE_THERE: Final = frozenset({Reason.SERVICE_NOT_FOUND, Reason.SECRET_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Gateway:
    """What an administrator says of the gateway and its data planes, as their flags do."""

    settings: Settings
    zone: str
    routers: str
    guard: AddressGuard


def explain_files(view: RequestView, paths: Sequence[str], gateway: Gateway) -> form.Explanation:
    """Explain a request by manifests; raises ``review.sides.Unreadable``."""
    side = read_side(paths, gateway.settings)
    unknown = frozenset(_unknown(side))
    learned = Routers(Path(gateway.routers) if gateway.routers else None)
    learned.look()
    snapshot = snapshot_of(
        side,
        absent=unknown,
        zone=gateway.zone,
        has_router=learned.__contains__,
        refuses=gateway.guard.refusal,
    )
    explainer = Explainer(
        reader=Reader(
            complexity=estimate_complexity, embed_intents=embed_intents, predict=learned.predict
        ),
        signals=SignalTable(),
        clock=time.monotonic,
        source="files",
        unknown=unknown,
    )
    told = asyncio.run(explainer.explain(snapshot, view))
    return replace(told, notes=(*told.notes, *_notes(side, told, unknown)))


def _unknown(side: Side) -> Iterator[str]:
    """Yield the Services' backends for which no EndpointSlice is there."""
    for name, backend in side.backends.items():
        report = side.reports.get((MODEL_BACKEND, Name(*name.split("/", 1))))
        if not backend.external and (report is None or not report.endpoints_total):
            yield name


def _notes(side: Side, told: form.Explanation, unknown: frozenset[str]) -> Iterator[str]:
    """Yield what the files leave open, and what the compiler says of all that takes part."""
    yield _IDLE
    backends = {one.backend for tier in told.tiers for one in tier.candidates}
    for name in sorted(backends & unknown):
        yield f"endpoints of {name} are unknown: no EndpointSlice of its Service is in the files"
    taking_part = [(ROUTING_POLICY, told.policy), *((MODEL_BACKEND, one) for one in backends)]
    for kind, name in sorted(taking_part):
        report = side.reports.get((kind, Name(*name.split("/", 1)))) if name else None
        for found in report.unresolved if report is not None else ():
            if found.reason == Reason.SECRET_NOT_FOUND:
                yield f"the Secret of {name} is not in the files: it is taken to be there"
            elif found.reason not in _TAKEN_TO_BE_THERE:
                yield f"{kind} {name}: {found.reason}: {found.message}"
    for finding in side.findings:
        where = f"{finding.file}:{finding.line}" if finding.line else finding.file
        yield f"{where}: {finding.object or 'it'} is not in force: {finding.message}"
