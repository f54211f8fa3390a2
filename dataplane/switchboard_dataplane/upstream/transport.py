"""What the hot path asks of a transport. One form of it is in ``client.py``; others may come."""

from collections.abc import Sequence
from typing import Protocol

from switchboard_dataplane.decision.running import Endpoint


class UpstreamResponse(Protocol):
    """An answer whose head has come."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The headers as they came."""
        ...

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; "" without one."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes of the body, b"" at its end.

        Raises UpstreamReset where the body breaks off.
        """
        ...

    def close(self) -> None:
        """Give up the answer; the connection lives on only if the body has been read."""
        ...


class Upstream(Protocol):
    """Sends requests to endpoints."""

    async def send(
        self, endpoint: Endpoint, path: str, *, headers: Sequence[tuple[str, str]], body: bytes
    ) -> UpstreamResponse:
        """POST a body below the endpoint's base URL; return when the head of the answer is here.

        Cancelling it closes the connection. Only the time to connect is bounded here (the
        backend's ``connect`` timeout). Raises UpstreamConnect, UpstreamReset, UpstreamProtocol.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
