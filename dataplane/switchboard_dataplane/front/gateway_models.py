"""The names that the gateway behind a sidecar lists: told beside the sidecar's own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.upstream.getting import Got

log = logging.getLogger(__name__)

#: How long the gateway is waited for; a caller hears the sidecar's own names then.
ANSWER_S: Final = 2.0
#: How long what it said, or that it said nothing, is good for.
KEPT_S: Final = 5.0
NAMES_BYTES_MAX: Final = 1024 * 1024
_OK: Final = 200


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

    async def _ask(self) -> frozenset[str]:
        url = _gateway_url(self._snapshot())
        if not url:
            return frozenset()
        try:
            got = await self._get(
                f"{url}/models",
                host="",
                timeout_s=ANSWER_S,
                bytes_max=NAMES_BYTES_MAX,
                bearer=self._token(),
            )
        except OSError as error:
            log.warning("the gateway does not tell its models: %s", error)
            return frozenset()
        return _names(got)


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
    return next(
        (one.spec.url.rstrip("/") for one in backends if one.spec.provider == "switchboard"), ""
    )
