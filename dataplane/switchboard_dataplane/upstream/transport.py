"""What the hot path asks of a transport: ``http1.py`` is ours, ``aiohttp_upstream.py`` another."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.upstream.bound import Bound


class UpstreamResponse(Protocol):
    """An answer whose head has come."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The headers as they came; names in lower case."""
        ...

    @property
    def media_type(self) -> str:
        """The content type without parameters, in lower case; "" without one."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes of the body, b"" at its end.

        Raises UpstreamReset where the body breaks off, UpstreamProtocol where it is no HTTP.
        """
        ...

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        """Hand the rest of the body to ``take``, piece by piece as it comes, to its end.

        Where ``take`` says no, ``ready`` is waited for before more is read. Raises what they raise
        (UpstreamError, ConnectionError), and what ``read`` does.
        """
        ...

    def close(self) -> None:
        """Give up the answer; the connection lives on only if the body has come whole."""
        ...


class Upstream(Protocol):
    """Sends requests to endpoints."""

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        """POST a body below the endpoint's base URL; return when the head of the answer is here.

        Until ``bound`` is stopped it ends this, and reading from the answer, by TimeoutError; the
        time to connect is bounded by the backend's ``connect`` timeout too. Cancelling it closes
        the connection. Raises UpstreamConnect, UpstreamReset, UpstreamProtocol.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
