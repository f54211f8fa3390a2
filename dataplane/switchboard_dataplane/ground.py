"""What all parts of a data plane stand on: its store, the policy in force, what pods share."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from switchboard_dataplane.access.building import build_access
from switchboard_dataplane.access.identify import Access
from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.settings import Settings, naming
from switchboard_dataplane.signals.breaker import Ejections
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.scraping import engines_by_backend
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.exporters import Telemetry
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.upstream.addresses import AddressGuard, read_networks
from switchboard_dataplane.upstream.gateway_token import GatewayToken
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Pod, StoreReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all parts stand on: see ``app.build``."""

    settings: Settings
    source: StoreReader
    keyring: Callable[[], Keyring]
    pod: Pod
    clock: Callable[[], float]
    rng: Random
    routers: Routers = field(default_factory=Routers)
    gateway_token: GatewayToken = field(default_factory=GatewayToken)
    guard: AddressGuard = field(default_factory=AddressGuard)

    @staticmethod
    def today() -> datetime:
        """Return the time of day."""
        return datetime.now(UTC)


def build_in_force(ground: Ground, *, live_pods: Callable[[], int]) -> InForce:
    """Build what is in force: nothing yet. ``live_pods`` tells how many pods share the load."""
    signals = SignalTable(Ejections(chance=ground.rng.random))
    in_force = InForce(
        SnapshotBuilder(
            ground.keyring(),
            zone=ground.settings.zone,
            has_router=ground.routers.__contains__,
            refuses=ground.guard.refusal,
        ),
        keyring=ground.keyring,
        live_pods=live_pods,
        signals=signals,
        clock=ground.clock,
    )
    signals.ejected.rule_of = in_force.breaker_rule
    signals.ejected.is_there = in_force.is_there
    return in_force


def build_follower(ground: Ground, in_force: InForce, telemetry: Telemetry) -> Follower:
    """Build who puts in force what the store says."""
    return Follower(
        ground.source,
        pod=ground.pod,
        keyring=ground.keyring,
        apply=in_force.apply,
        clock=ground.clock,
        random=ground.rng,
        disk=_disk(ground.settings),
        propagated=lambda ms: telemetry.metrics.propagated(ms / 1000),
    )


def build_sharing(ground: Ground) -> Sharing:
    """Build what pods tell each other over the store."""
    return Sharing(
        ground.source,
        pod=ground.pod.name,
        keyring=ground.keyring,
        clock=ground.clock,
        random=ground.rng,
    )


def build_gauges(
    in_force: InForce,
    *,
    refused: Callable[[], int],
    dropped: Callable[[], int],
    logged: Callable[[], Mapping[str, int]],
) -> Gauges:
    """Build what is told of this moment. The functions are asked by whoever reads metrics."""
    return Gauges(
        in_flight=in_force.in_flight,
        ejected=in_force.ejected,
        queued=in_force.queued,
        waking=in_force.waking,
        engines=lambda: engines_by_backend(in_force.signals, in_force.clock()),
        revision=in_force.running_revision,
        refused=refused,
        dropped=dropped,
        logged=logged,
    )


def access_of(ground: Ground, in_force: InForce, sharing: Sharing, telemetry: Telemetry) -> Access:
    """Return who lets callers in; call it in the loop that will run it."""
    return build_access(
        ground.settings,
        sharing=sharing,
        snapshot=in_force.current,
        keyring=ground.keyring,
        turned_away=telemetry.metrics.turned_away,
        clock=ground.clock,
        today=ground.today,
    )


def routers_of(settings: Settings) -> Routers:
    """Return the learned routers that policies may name, read from their folder."""
    routers = Routers(settings.routers_path)
    routers.look()
    return routers


def guard_of(settings: Settings) -> AddressGuard:
    """Return what says which addresses models are not called at."""
    with naming("--allow-addresses"):
        return AddressGuard(read_networks(settings.allow_addresses))


def gateway_token_of(settings: Settings) -> GatewayToken:
    """Return what is shown to the gateway, read from its file; raises CannotStart."""
    with naming("--gateway-token-file"):
        return GatewayToken(
            Path(settings.gateway_token_file) if settings.gateway_token_file else None
        )


def pod_of(settings: Settings) -> Pod:
    """Return what the pod says of itself at first."""
    return Pod(
        name=settings.pod_name or socket.gethostname(),
        revision=ZERO,
        namespace=settings.pod_namespace,
        uid=settings.pod_uid,
        zone=settings.zone,
    )


def _disk(settings: Settings) -> DiskSnapshot | None:
    folder = settings.state_path
    if folder is None:
        return None
    with naming("--state-dir"):
        folder.mkdir(parents=True, exist_ok=True)
    return DiskSnapshot(folder)
