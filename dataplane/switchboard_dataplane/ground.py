"""What all parts of a data plane stand on: its store, the policy in force, what pods share."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.settings import Settings, naming
from switchboard_dataplane.signals.breaker import Ejections
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.exporters import Telemetry
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


def routers_of(settings: Settings) -> Routers:
    """Return the learned routers that policies may name, read from their folder."""
    routers = Routers(settings.routers_path)
    routers.look()
    return routers


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
