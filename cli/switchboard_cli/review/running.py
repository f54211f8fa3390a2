"""A compiled set to the snapshot that a data plane would decide by, with everything there and well.

Secrets are seldom in a repository and endpoints hardly ever: credentials count as there, and a
Service without addresses as one that is ready.
"""

from collections.abc import Callable, Set
from typing import Final

from msgspec.structs import replace

from switchboard_cli.review.sides import Side
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir, names
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file

_SCOPE: Final = "gw/review"
_REVISION: Final = "files"
#: The address of a Service whose addresses nobody knows.
_UNKNOWN: Final = "unknown.invalid:80"


def snapshot_of(
    side: Side,
    *,
    absent: Set[str] | None = None,
    zone: str = "",
    has_router: Callable[[str], bool] = lambda digest: True,
    refuses: Callable[[str], str] = lambda host: "",
) -> Snapshot:
    """Return the snapshot of a set, as a data plane with these settings would have it.

    ``absent`` are the Services' backends that get an address all the same; all without one, if it
    is not said.
    """
    keys = write_key_file(_SCOPE, {_SCOPE: bytes(KEY_BYTES)})
    keyring = read_keyring(_SCOPE, keys)
    builder = SnapshotBuilder(keyring, zone=zone, has_router=has_router, refuses=refuses)
    entries: dict[str, ir.Entry] = {f"policy/{name}": one for name, one in side.policies.items()}
    for name, backend in side.backends.items():
        entries[f"backend/{name}"] = replace(backend, credential="")
        if backend.external:
            continue
        known = side.endpoints.get(name)
        there = known is not None and known.addresses
        if name in absent if absent is not None else not there:
            stand_in = (ir.Endpoint(address=_UNKNOWN),)
            known = ir.Endpoints(backend=name, addresses=stand_in)
        if known is not None:
            entries[names.endpoints_key(*name.split("/", 1))] = known
    return builder.apply(entries, (), revision=_REVISION)[0]
