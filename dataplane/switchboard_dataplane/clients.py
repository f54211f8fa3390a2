"""Which clients have keys, entry by entry: what makes the ``Clients`` of a snapshot."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from switchboard_dataplane.decision.client import (
    FOUND_BY_DIGITS,
    NO_CLIENTS,
    Client,
    Clients,
    Hashed,
    HashedUnder,
)
from switchboard_policy import ir
from switchboard_policy.errors import BadSignature
from switchboard_policy.seal import Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ClientTable:
    """The clients in force, by the keyed hashes of their keys.

    Nobody sees what comes until ``settle``. A client whose key is another's waits until then, for
    keys may change hands within an update. ``refused`` says, by object key, why an entry lets
    nobody in.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.refused: Mapping[str, str] = {}
        self._keyring = keyring
        self._entries: dict[str, ir.Client] = {}
        self._waiting: dict[str, Client] = {}
        self._hashed: dict[str, dict[str, Hashed]] = {}
        # A scope key that was dropped before the clients came anew: the last good stays.
        self._keyrings: dict[str, Keyring] = {}
        self._settled = NO_CLIENTS
        self._changed = False

    def take(self, entry: ir.Client) -> None:
        """Take in a client, in the place of the one that had its name."""
        self.drop(entry.name)
        self._entries[entry.name] = entry
        self._changed = True
        client = _running(entry)
        if self._settle(entry, client):
            self._waiting[entry.name] = client

    def drop(self, name: str) -> None:
        """Let go of a client."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self._changed = True
        if self._waiting.pop(name, None) is None:
            self._hashed[entry.key_id].pop(entry.digest[:FOUND_BY_DIGITS])
            if not self._hashed[entry.key_id]:
                del self._hashed[entry.key_id], self._keyrings[entry.key_id]

    def rekey(self, keyring: Keyring) -> None:
        """Hash by these keys from now on, and by those before where they are not there."""
        self._keyring = keyring
        self._changed = True
        for key_id in self._keyrings:
            if _has(keyring, key_id):
                self._keyrings[key_id] = keyring

    def settle(self) -> Clients:
        """Put in force what has come; return the clients: the same ones where nothing changed."""
        if not self._changed:
            return self._settled
        refused: dict[str, str] = {}
        for name in list(self._waiting):
            why = self._settle(self._entries[name], self._waiting[name])
            if why:
                refused[f"client/{name}"] = why
            else:
                del self._waiting[name]
        self.refused = refused
        self._changed = False
        self._settled = Clients(
            [
                HashedUnder(self._keyrings[key_id], key_id, clients.copy())
                for key_id, clients in self._hashed.items()
            ]
        )
        return self._settled

    def _settle(self, entry: ir.Client, client: Client) -> str:
        """Put a client in force; say why not, "" if it is."""
        if entry.key_id not in self._keyrings:
            if not _has(self._keyring, entry.key_id):
                return f"its key is hashed under key {entry.key_id} of the scope, which is not here"
            self._keyrings[entry.key_id] = self._keyring
        there = self._hashed.setdefault(entry.key_id, {})
        found = there.setdefault(entry.digest[:FOUND_BY_DIGITS], Hashed(entry.digest, client))
        return "" if found.client is client else f"client {found.client.id} has its key"


def _has(keyring: Keyring, key_id: str) -> bool:
    try:
        keyring.hash_key(key_id, b"")
    except BadSignature:
        return False
    return True


def _running(entry: ir.Client) -> Client:
    namespace, _, name = entry.name.partition("/")
    return Client(
        "key",
        name,
        namespace,
        tier=entry.tier,
        team=entry.team,
        labels=dict(entry.labels),
        models=entry.models,
        expires_ms=entry.expires_ms,
        expires=_told(entry.expires_ms),
    )


def _told(unix_ms: int | None) -> str:
    """Return a time as expressions read it, "" for never."""
    if unix_ms is None:
        return ""
    try:
        at = _EPOCH + timedelta(milliseconds=unix_ms)
    except OverflowError:
        return ""
    return at.isoformat().replace("+00:00", "Z")
