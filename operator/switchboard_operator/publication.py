"""What a gateway's scope should hold, what it holds, and the way from the one to the other.

The store's writer decides what to write; this remembers which revision each object got, so that
acks can be compared with it, and what is still under way.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from switchboard_policy.codec import Encoded
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.sidecars import SidecarCompiler
from switchboard_policy.compiler.world import Gateway, World
from switchboard_policy.names import gateway_scope
from switchboard_policy.seal import Keyring
from switchboard_policy.store import CHANNELS, ZERO, Channel, Revision, StoreWriter

#: Entries that nothing has referenced for this long are deleted.
UNREFERENCED_MS: Final = 3_600_000
#: Time between two looks for them.
COLLECT_EVERY_S: Final = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """An object in the store: its digest, and the revision of its last change."""

    digest: str
    revision: Revision


class Publication:
    """One scope: compiled here, published when this replica leads.

    ``keyring`` returns the scope's keys of the moment, the same object until they change. The scope
    is that of the gateway, or with ``sidecars`` that of a namespace's sidecars.
    """

    def __init__(
        self,
        gateway: Gateway,
        keyring: Callable[[], Keyring],
        store: StoreWriter,
        *,
        sidecars: SidecarCompiler | None = None,
    ) -> None:
        self.gateway = gateway
        self.scope = gateway_scope(gateway.name) if sidecars is None else sidecars.scope
        self._store = store
        self._keyring = keyring
        self.compiler = Compiler(gateway, keyring()) if sidecars is None else sidecars
        self._epoch = 0
        self._signed: tuple[str, Revision] | None = None
        self._placed: dict[Channel, dict[str, Placed]] = {channel: {} for channel in CHANNELS}
        self._revision: dict[Channel, Revision] = dict.fromkeys(CHANNELS, ZERO)
        self._collected_s = float("-inf")
        self.compilation = Compilation({}, {}, {})

    def compile(self, world: World) -> bool:
        """Compile; say whether anything came out differently."""
        self.compiler.rekey(self._keyring())
        before, self.compilation = self.compilation, self.compiler.compile(world)
        return before is not self.compilation

    @property
    def revision(self) -> Revision:
        """The newest of the policy channel that this replica knows of; ZERO before it led."""
        return self._revision["policy"]

    def signed(self, key_id: str) -> Revision | None:
        """Return a revision of the policy channel since which this key signs all that is there.

        None where another key still may, or where this replica has not published yet.
        """
        if self._signed is None or self._signed[0] != key_id:
            return None
        return self._signed[1]

    def required(self, keys: tuple[str, ...]) -> dict[str, Revision]:
        """Return the revision at which each of these objects of the policy channel changed."""
        placed = self._placed["policy"]
        return {key: placed[key].revision for key in keys if key in placed}

    def lags(self, keys: tuple[str, ...]) -> bool:
        """Say whether the store lacks the newest form of any of these objects."""
        placed, wanted = self._placed["policy"], self.compilation.policy
        return any(
            (key in wanted) != (key in placed)
            or (key in wanted and wanted[key].digest != placed[key].digest)
            for key in keys
        )

    async def publish(self, epoch: int) -> set[str]:
        """Bring the store to what was compiled last; return the objects that changed there.

        Raises ConnectionError and Deposed; what was not published is tried again by the next call.
        """
        key_id, changed = self._keyring().current, set[str]()
        anew = self._epoch != epoch or self.signed(key_id) is None
        for channel in CHANNELS:
            write = self._adopt if anew else self._publish
            changed |= await write(channel, epoch)
        self._epoch = epoch
        if anew:
            self._signed = key_id, self.revision
        elif changed:
            # An edit may be the first to meet a loss: the other channel has lost as much. Should
            # this fail, the upkeep does it; what was published must be told.
            with suppress(ConnectionError):
                changed |= await self.mend(epoch, thoroughly=False)
        return changed

    async def mend(self, epoch: int, *, thoroughly: bool) -> set[str]:
        """Write again what the store lost; return the objects that got a new revision.

        Cheap unless ``thoroughly``, which compares every entry. Raises like ``publish``.
        """
        changed: set[str] = set()
        for channel in CHANNELS:
            if self._epoch != epoch:
                continue
            intact = await self._store.intact(self.scope, channel)
            if not intact:
                log.warning(
                    "the store lost part of %s of %s: writing it again", channel, self.scope
                )
            if not intact or thoroughly:
                changed |= await self._adopt(channel, epoch)
        return changed

    async def collect(self, epoch: int, *, now_s: float) -> None:
        """Delete old entries, if it is time to look for some. Raises like ``publish``.

        Only what this term published says what is referenced. ``now_s`` is a monotonic clock's.
        """
        if self._epoch != epoch or now_s - self._collected_s < COLLECT_EVERY_S:
            return
        for channel in CHANNELS:
            await self._store.collect(
                self.scope, channel, epoch=epoch, unreferenced_ms=UNREFERENCED_MS
            )
        self._collected_s = now_s

    async def _publish(self, channel: Channel, epoch: int) -> set[str]:
        wanted, placed = self._wanted(channel), self._placed[channel]
        changes: dict[str, Encoded | None] = {
            key: encoded
            for key, encoded in wanted.items()
            if key not in placed or placed[key].digest != encoded.digest
        }
        changes |= dict.fromkeys(placed.keys() - wanted.keys())
        if not changes:
            return set()
        revision = await self._store.publish(self.scope, channel, epoch=epoch, changes=changes)
        self._revision[channel] = revision
        # Each has the revision of its own line: the next leader will find no other one.
        fields = self._store.fields(self.scope, channel)
        for key, encoded in changes.items():
            if encoded is None:
                del placed[key]
            else:
                placed[key] = Placed(encoded.digest, fields[key].revision)
        return set(changes)

    async def _adopt(self, channel: Channel, epoch: int) -> set[str]:
        """Make the store hold what is wanted, whatever it holds, and learn the revisions."""
        wanted = self._wanted(channel)
        revision = await self._store.replace(self.scope, channel, epoch=epoch, contents=wanted)
        if revision == self._revision[channel] and self._epoch == epoch:
            return set()
        manifest = await self._store.manifest(self.scope, channel)
        if manifest is None:
            raise ConnectionError(f"the store lost {self.scope} while it was written")
        before = self._placed[channel]
        self._placed[channel] = {
            key: Placed(field.digest, field.revision) for key, field in manifest.fields.items()
        }
        self._revision[channel] = manifest.head.revision
        return {
            key
            for key in before.keys() | self._placed[channel].keys()
            if before.get(key) != self._placed[channel].get(key)
        }

    def _wanted(self, channel: Channel) -> Mapping[str, Encoded]:
        return self.compilation.policy if channel == "policy" else self.compilation.endpoints
