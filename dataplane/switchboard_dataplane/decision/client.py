"""Who calls: what rules and guardrails may know of a caller that was let in."""

from collections.abc import Mapping, Sequence
from hmac import compare_digest
from typing import Final

from switchboard_policy.seal import Keyring

#: So much of a digest finds a client, in hex digits; the whole of it is compared.
FOUND_BY_DIGITS: Final = 16

_NO_LABELS: Final[Mapping[str, str]] = {}


class Client:
    """A caller that was let in.

    ``kind`` says by what: "key" (a client's API key), "serviceAccount" (a token of Kubernetes, or
    the pod that a sidecar stands in), "mesh" (the identity that a trusted proxy vouches for), or
    "anybody" where nobody is asked. ``name`` and ``namespace`` are those of the key's Secret, of
    the ServiceAccount, or of what the mesh calls the peer. ``models`` are the public names that may
    be used, exact or with a trailing ``*``; without any, all. ``expires_ms`` is in Unix time.
    ``id`` is "namespace/name", "" for anybody.
    """

    def __init__(  # noqa: PLR0913 - all that expressions may ask
        self,
        kind: str,
        name: str = "",
        namespace: str = "",
        *,
        tier: str = "",
        team: str = "",
        labels: Mapping[str, str] = _NO_LABELS,
        models: tuple[str, ...] = (),
        expires_ms: int | None = None,
        expires: str = "",
    ) -> None:
        self.kind: Final = kind
        self.name: Final = name
        self.namespace: Final = namespace
        self.tier: Final = tier
        self.team: Final = team
        self.labels: Final = labels
        self.models: Final = models
        self.expires_ms: Final = expires_ms
        self.expires: Final = expires
        self.id: Final = f"{namespace}/{name}" if name else ""

    def may_use(self, model: str) -> bool:
        """Say whether the client may use a model of that public name."""
        if not self.models:
            return True
        for name in self.models:
            if name == model or (name.endswith("*") and model.startswith(name[:-1])):
                return True
        return False


#: Who calls where nobody is asked.
ANYBODY: Final = Client("anybody")


class Hashed:
    """A client and the keyed hash of its key, in hex."""

    def __init__(self, digest: str, client: Client) -> None:
        self.digest: Final = digest
        self.client: Final = client


class HashedUnder:
    """The clients whose keys are hashed under one key of the scope, by the first digits."""

    def __init__(self, keyring: Keyring, key_id: str, clients: Mapping[str, Hashed]) -> None:
        self.keyring: Final = keyring
        self.key_id: Final = key_id
        self.clients: Final = clients


class Clients:
    """The clients that have keys. While the scope's key rotates they are hashed under two."""

    def __init__(self, hashed: Sequence[HashedUnder] = ()) -> None:
        self._hashed: Final = hashed

    def __len__(self) -> int:
        return sum([len(one.clients) for one in self._hashed])

    def find(self, key: bytes) -> Client | None:
        """Return whose key this is, None if it is nobody's: in a time that tells nothing of it."""
        for one in self._hashed:
            digest = one.keyring.hash_key(one.key_id, key)
            found = one.clients.get(digest[:FOUND_BY_DIGITS])
            if found is not None and compare_digest(found.digest, digest):
                return found.client
        return None


#: Nobody has a key.
NO_CLIENTS: Final = Clients()
