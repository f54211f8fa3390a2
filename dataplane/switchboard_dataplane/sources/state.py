"""What the follower hands to the rest of the data plane: updates, and how it stands."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from switchboard_policy.ir import Entry
from switchboard_policy.store import Channel, Revision


@dataclass(frozen=True, slots=True)
class Update:
    """What changed since the update before: entries by object, and objects that are gone.

    ``full`` says that it comes from a whole reading (of the store or of the disk), not from lines.
    """

    changed: Mapping[str, Entry]
    removed: frozenset[str]
    revisions: Mapping[Channel, Revision]
    full: bool


#: Puts an update in force, as a whole and without raising, giving way to requests while it is made
#: ready; returns the changed objects that it refuses, and why: their last good stays.
Apply = Callable[[Update], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the follower knows, for readiness, metrics and the admin port.

    ``synced``: every channel was read as a whole once, from the store or from disk; ``reason`` says
    what is wrong, "" if nothing is. ``refused`` maps objects (and ``channel/NAME`` for a channel
    that is not to be trusted) to reasons. ``age_s`` is the time since the store answered last,
    None if it never did. ``pods`` are the names of the live data planes of the scope, as the store
    told last, this one among them. ``propagation_ms`` is the newest change's way from the store's
    write to the ack.
    """

    synced: bool
    connected: bool
    reason: str
    revisions: Mapping[Channel, Revision]
    refused: Mapping[str, str]
    age_s: float | None
    full_syncs: int
    pods: tuple[str, ...]
    propagation_ms: int | None

    @property
    def live_pods(self) -> int:
        """How many data planes share the scope's limits, this one among them."""
        return len(self.pods)
