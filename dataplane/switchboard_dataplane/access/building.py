"""Puts together how callers are let in, as the settings say."""

import os
from collections.abc import Callable
from datetime import datetime

from switchboard_dataplane.access.identify import LETS_ANYBODY_IN, Access, Keys
from switchboard_dataplane.access.mesh import Mesh
from switchboard_dataplane.access.tokens import OperatorTokens
from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.errors import Refusal
from switchboard_dataplane.settings import Settings, naming
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.upstream.addresses import read_networks
from switchboard_policy.seal import Keyring


def build_access(
    settings: Settings,
    *,
    sharing: Sharing,
    snapshot: Callable[[], Snapshot | None],
    keyring: Callable[[], Keyring],
    turned_away: Callable[[Refusal], None],
    clock: Callable[[], float],
    today: Callable[[], datetime],
) -> Access:
    """Build it; call it in the loop that will run it. Raises CannotStart naming a setting."""
    modes = settings.access_modes
    if "none" in modes:
        return LETS_ANYBODY_IN
    if "pod" in modes:
        return Access(Client("serviceAccount", settings.service_account, settings.pod_namespace))
    return Access(
        keys=Keys(snapshot=snapshot, today=today) if "keys" in modes else None,
        tokens=OperatorTokens(
            sharing,
            audience=settings.token_audience,
            keyring=keyring,
            clock=clock,
            today=today,
            entropy=os.urandom,
        )
        if "tokens" in modes
        else None,
        mesh=_mesh(settings) if "mesh" in modes else None,
        turned_away=turned_away,
    )


def _mesh(settings: Settings) -> Mesh:
    with naming("--trusted-peers"):
        return Mesh(read_networks(settings.trusted_peers), header=settings.mesh_header.lower())
