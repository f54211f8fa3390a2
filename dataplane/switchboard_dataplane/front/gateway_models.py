"""The names that the gateway behind a sidecar lists: told beside the sidecar's own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from switchboard_dataplane.decision.running import Policy, Snapshot
from switchboard_dataplane.errors import UpstreamConnect
from switchboard_dataplane.upstream.getting import Got
from switchboard_policy import ir

log = logging.getLogger(__name__)

#: How long the gateway is waited for; a caller hears the sidecar's own names then.
ANSWER_S: Final = 2.0
#: How long what it said, or that it said nothing, is good for.
KEPT_S: Final = 5.0
NAMES_BYTES_MAX: Final = 1024 * 1024
_OK: Final = 200
#: A name that nobody answers for, or that is not for this account.
_NOT_SERVED: Final = (404, 403)


class Get(Protocol):
    """See ``Getter.get``."""

    async def __call__(
        self, url: str, *, host: str, timeout_s: float, bytes_max: int, bearer: str
    ) -> Got:
        """Return the answer; raises OSError."""
        ...


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class GatewayModels:
    """``names`` are those of the last look: none where there is no gateway, or it did not answer.

    ``token`` tells what is shown to it, ``clock`` is the event loop's.
    """

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot | None],
        get: Get,
        token: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.names: frozenset[str] = frozenset()
        self._snapshot = snapshot
        self._get = get
        self._token = token
        self._clock = clock
        self._asking = asyncio.Lock()
        self._again_at = 0.0

    async def look(self) -> None:
        """Ask the gateway, unless it was asked of late; takes ``ANSWER_S`` at most, never raises.

        Those who come at once wait for one answer.
        """
        async with self._asking:
            if self._clock() < self._again_at:
                return
            self.names = await self._ask()
            self._again_at = self._clock() + KEPT_S

    async def serves(self, policy: Policy, name: str) -> bool:
        """Say whether a model for which a policy answers is one, where the gateway has to know.

        Raises UpstreamConnect: it does not tell.
        """
        snapshot = self._snapshot()
        if snapshot is None or not _stands_in(policy, snapshot):
            return True
        got = await self._get_from_gateway(f"/models/{quote(name, safe='')}")
        if got is None or got.status not in (_OK, *_NOT_SERVED):
            raise UpstreamConnect(
                f"the gateway behind this sidecar does not tell whether {name[:200]!r} is a model"
            )
        return got.status == _OK

    async def _ask(self) -> frozenset[str]:
        got = await self._get_from_gateway("/models")
        return frozenset() if got is None else _names(got)

    async def _get_from_gateway(self, path: str) -> Got | None:
        """Return the answer; None where there is no gateway, or it is away."""
        url = _gateway_url(self._snapshot())
        if not url:
            return None
        try:
            return await self._get(
                f"{url}{path}",
                host="",
                timeout_s=ANSWER_S,
                bytes_max=NAMES_BYTES_MAX,
                bearer=self._token(),
            )
        except OSError as error:
            log.warning("the gateway does not tell its models: %s", error)
            return None


def _names(got: Got) -> frozenset[str]:
    """Return the names of a list of models, none where it is no such list."""
    if got.status != _OK:
        log.warning("the gateway does not tell its models: it answered %d", got.status)
        return frozenset()
    try:
        models = msgspec.json.decode(got.body, type=_Models)
    except msgspec.MsgspecError as error:
        log.warning("the gateway does not tell its models: %s", error)
        return frozenset()
    return frozenset(one.id for one in models.data)


def _gateway_url(snapshot: Snapshot | None) -> str:
    """Return the base URL of the gateway, "" without one."""
    backends = () if snapshot is None else snapshot.backends.values()
    return next((one.spec.url.rstrip("/") for one in backends if _is_gateway(one.spec)), "")


def _stands_in(policy: Policy, snapshot: Snapshot) -> bool:
    """Say whether all that a policy does is to ask the gateway."""
    found = (snapshot.backends.get(name) for name in policy.backends)
    return all(one is not None and _is_gateway(one.spec) for one in found)


def _is_gateway(backend: ir.Backend) -> bool:
    return backend.provider == "switchboard"
