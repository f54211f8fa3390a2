"""Who calls: what a caller says of itself becomes a client, or a refusal, before its body is read.

A key, or a token of Kubernetes, is the caller's word, and a mesh's header that of a proxy. The
caller's comes first: who gives a key that is not good is not let in by anything else.
"""

import re
from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import Final, Protocol

from switchboard_dataplane.access.mesh import Mesh
from switchboard_dataplane.access.reviewer import TokenReviewer
from switchboard_dataplane.decision.client import ANYBODY, Client
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.errors import (
    AccessUnavailable,
    Forbidden,
    NotReady,
    Refusal,
    Unauthenticated,
)
from switchboard_policy.names import CLIENT_KEY_CHARACTERS_MAX, TOKEN_PATTERN

_TOKEN: Final = re.compile(TOKEN_PATTERN)
#: Where clients of other makers put their keys.
_KEY_HEADERS: Final = ("api-key", "x-api-key")


class Stranger(Protocol):
    """A caller of which nothing is known but its headers and where it comes from."""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """The request's headers, by lower-case names."""
        ...

    @property
    def peer(self) -> str:
        """The address of the other end of the connection, "" where it is not known."""
        ...


class Keys:
    """The clients' API keys: those of the snapshot in force, good until they expire."""

    def __init__(
        self, *, snapshot: Callable[[], Snapshot | None], today: Callable[[], datetime]
    ) -> None:
        self._snapshot: Final = snapshot
        self._today: Final = today

    def identify(self, key: str) -> Client:
        """Return whose key it is; raises Unauthenticated, NotReady."""
        snapshot = self._snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        found: Client | None = None
        if len(key) <= CLIENT_KEY_CHARACTERS_MAX and key.isascii():
            found = snapshot.clients.find(key.encode())
        if found is None:
            raise _unknown()
        expires_ms = found.expires_ms
        if expires_ms is not None and self._today().timestamp() * 1000 >= expires_ms:
            raise Unauthenticated(
                f"this API key expired at {found.expires}; ask for another one", why="expired"
            )
        return found


class Access:
    """Lets callers in. ``everyone`` is who all of them are, None where they are asked.

    Of ``keys``, ``tokens`` and ``mesh`` those are there by which callers may prove themselves.
    ``turned_away`` hears why a caller was not let in.
    """

    def __init__(
        self,
        everyone: Client | None = None,
        *,
        keys: Keys | None = None,
        tokens: TokenReviewer | None = None,
        mesh: Mesh | None = None,
        turned_away: Callable[[Refusal], None] | None = None,
    ) -> None:
        self.everyone: Final = everyone
        self._keys: Final = keys
        self._tokens: Final = tokens
        self._mesh: Final = mesh
        self._turned_away: Final = turned_away

    async def admit(self, stranger: Stranger) -> Client:
        """Return who calls; the header of a mesh is gone then, whoever wrote it.

        Raises Unauthenticated, Forbidden, AccessUnavailable, NotReady.
        """
        if self.everyone is not None:
            return self.everyone
        try:
            return await self._identify(stranger)
        except Unauthenticated as error:
            self._count(error.why)
            raise
        except Forbidden as error:
            self._count(error.why)
            raise
        except AccessUnavailable:
            self._count("unavailable")
            raise

    async def _identify(self, stranger: Stranger) -> Client:
        headers, keys, tokens, mesh = stranger.headers, self._keys, self._tokens, self._mesh
        vouched = "" if mesh is None else headers.pop(mesh.header, "")
        said = "" if keys is None and tokens is None else said_in(headers)
        if said:
            if tokens is not None and _TOKEN.fullmatch(said) is not None:
                return await tokens.identify(said)
            if keys is not None:
                return keys.identify(said)
            raise _unknown()
        if mesh is not None and vouched and mesh.trusts(stranger.peer):
            return mesh.identify(vouched)
        raise Unauthenticated(self._how(), why="missing", code="missing_api_key")

    def _how(self) -> str:
        """Say how a caller proves itself."""
        if self._keys is not None:
            return "no API key was given; send one as Authorization: Bearer KEY"
        if self._tokens is not None:
            return "no token was given; send a ServiceAccount's as Authorization: Bearer TOKEN"
        return "nobody vouches for this caller; call through a proxy of the mesh"

    def _count(self, why: Refusal | None) -> None:
        if why is not None and self._turned_away is not None:
            self._turned_away(why)


#: Where nobody is asked.
LETS_ANYBODY_IN: Final = Access(ANYBODY)


def said_in(headers: MutableMapping[str, str]) -> str:
    """Return the key or token that headers give, "" where there is none."""
    scheme, _, said = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and said:
        return said.strip()
    for name in _KEY_HEADERS:
        said = headers.get(name, "").strip()
        if said:
            return said
    return ""


def check_model(client: Client, model: str) -> None:
    """Refuse a model that a client may not use, whether or not there is one; raises Forbidden."""
    if not client.may_use(model):
        raise Forbidden(
            f"client {client.id} may not use the model {model[:200]!r}; GET /v1/models lists names",
            param="model",
            code="model_not_allowed",
        )


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "what was given as an API key is none of a client of this gateway; ask for one",
        why="unknown",
    )
