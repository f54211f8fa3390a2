"""Tokens of Kubernetes as callers show them, and an API server that knows some of them."""

import asyncio
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fakes.followers import FaultyReader
from fakes.stores import OURS, MemoryRig
from switchboard_dataplane.access.tokens import OperatorTokens
from switchboard_dataplane.errors import AccessUnavailable, Forbidden, Unauthenticated
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_operator.errors import KubeError
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Heard, Word
from switchboard_policy.store.memory import MemoryStore

AUDIENCE = "switchboard"
NOW_S = 3_000_000_000.0


def token(
    account: str = "ai:app",
    *,
    audience: object = AUDIENCE,
    expires: float = 4_000_000_000,
    signature: str = "good",
) -> str:
    """A token of a ServiceAccount, as ``NAMESPACE:NAME``; nobody has signed it."""
    claims = {
        "iss": "https://kubernetes.default.svc",
        "sub": f"system:serviceaccount:{account}",
        "aud": [audience] if isinstance(audience, str) else audience,
        "exp": expires,
    }
    return ".".join(_part(each) for each in ({"alg": "RS256"}, claims, signature))


def _part(said: object) -> str:
    return urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


@dataclass(slots=True)
class ApiServer:
    """Users by token. ``trouble`` is raised by every review while it is set; ``takes_s`` each."""

    users: dict[str, str] = field(default_factory=dict)
    trouble: KubeError | None = None
    takes_s: float = 0.01
    reviewed: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def know(self, account: str = "ai:app", **said: object) -> str:
        """Return a token of a ServiceAccount that is there."""
        made = token(account, **said)  # type: ignore[arg-type]
        self.users[made] = f"system:serviceaccount:{account}"
        return made

    async def review_token(self, token: str, *, audience: str) -> str | None:
        self.reviewed.append(token)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if self.trouble is not None:
            raise self.trouble
        return self.users.get(token) if audience == AUDIENCE else None


@dataclass(slots=True)
class MemoryWords:
    """The operator's side of the words; ``cut`` is a store that is away."""

    store: MemoryStore
    cut: bool = False
    said: list[Word] = field(default_factory=list)

    async def share(self, scope: str, word: Word) -> None:
        self._check()
        self.said.append(word)
        await self.store.reader(scope).share(word)

    async def shared(self, scope: str, after: str, *, timeout_ms: int) -> Heard:
        self._check()
        return await self.store.reader(scope).shared(after, timeout_ms=timeout_ms)

    def _check(self) -> None:
        if self.cut:
            raise ConnectionError("the store is away")


def settings(*rules: Mapping[str, object]) -> dict[str, object]:
    """The settings of a gateway's access."""
    return {"serviceAccounts": list(rules), "audience": AUDIENCE}


class Pod:
    """A data plane as far as tokens go."""

    def __init__(
        self, name: str, rig: MemoryRig, *, ring: Keyring = OURS, today_s: float = NOW_S
    ) -> None:
        loop = asyncio.get_running_loop()
        self.ring = ring
        self.source = FaultyReader(rig.reader())
        self.sharing = Sharing(
            self.source,
            pod=name,
            keyring=lambda: self.ring,
            clock=loop.time,
            random=random.Random(7),
        )
        self.tokens = OperatorTokens(
            self.sharing,
            audience=AUDIENCE,
            keyring=lambda: self.ring,
            clock=loop.time,
            today=lambda: datetime.fromtimestamp(today_s, UTC),
            entropy=random.Random(name).randbytes,
        )

    async def outcome(self, said: str) -> str:
        """Return who it is, or the code of the refusal."""
        try:
            client = await self.tokens.identify(said)
        except (Unauthenticated, Forbidden, AccessUnavailable) as error:
            return error.code
        return f"{client.namespace}/{client.name}"
