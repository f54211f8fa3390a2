"""Tells the operator why attempts fail: what will not mend by itself, and not too often."""

import logging
import ssl
from typing import Final

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import (
    UpstreamAuth,
    UpstreamConnect,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamProtocol,
)

log = logging.getLogger(__name__)

#: An endpoint is warned of once in this time, in seconds.
SILENCE_S: Final = 60.0
#: Bounds memory: so many endpoints are remembered as warned of.
ENDPOINTS_MAX: Final = 1_024

_FAULTS: Final = (UpstreamAuth, UpstreamConnect, UpstreamMisconfigured, UpstreamProtocol)


class FaultLog:
    """Warns of faults, endpoint by endpoint. Overload, slowness and resets are none."""

    def __init__(self) -> None:
        # In the order of the times, so that the first is the oldest.
        self._warned_at: dict[str, float] = {}

    def note(self, endpoint: Endpoint, error: UpstreamError, *, now_s: float) -> None:
        """Take in a failed attempt; ``now_s`` is monotonic."""
        if not isinstance(error, _FAULTS):
            return
        before_s = self._warned_at.get(endpoint.id)
        if before_s is not None and now_s - before_s < SILENCE_S:
            return
        self._warned_at.pop(endpoint.id, None)
        if len(self._warned_at) >= ENDPOINTS_MAX:
            del self._warned_at[next(iter(self._warned_at))]
        self._warned_at[endpoint.id] = now_s
        log.warning("attempt at %s failed: %s", endpoint.id, _reason(endpoint, error))


def _reason(endpoint: Endpoint, error: UpstreamError) -> str:
    # Compiled, ``raise … from`` keeps the context alone, which is the same here.
    cause = error.__cause__ or error.__context__
    match cause:
        case None:
            return error.message
        case ssl.SSLCertVerificationError():
            why = f"its certificate is refused: {cause.verify_message}"
        case TimeoutError() if not str(cause):
            why = f"no connection within {endpoint.backend.spec.timeouts.connect_ms} ms"
        case _:
            why = str(cause) or type(cause).__name__
    return f"{error.message}: {why}"
