"""What the public port serves, whichever form of it reads the request."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidRequest,
    MalformedHttp,
    NoRoute,
    NotReady,
    RouterError,
    UnknownPath,
    WrongMethod,
)
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.wire.answers import Answer, error_answer, model_answer, models_answer
from switchboard_dataplane.wire.asks import PATHS
from switchboard_policy.ir import Api

#: A body that takes longer is not coming, in seconds; it bounds what an idle socket can hold.
BODY_READ_S: Final = 60.0
#: A head that takes longer is not coming, in seconds.
HEAD_READ_S: Final = 30.0
#: How long a connection without a request is kept, in seconds: more than load balancers do.
KEEPALIVE_S: Final = 75.0
#: Bounds the head of a request, and the trailers of a chunked one, in memory.
HEAD_BYTES_MAX: Final = 64 * 1024
#: More header fields than any client sends.
HEADERS_MAX: Final = 128
#: The paths that go through the proxy, all by POST.
APIS: Final[Mapping[str, Api]] = {f"/v1{path}": api for api, path in PATHS.items()}

#: What is said to a request without a Host header, or with several: RFC 9112, 3.2.
NOT_ONE_HOST: Final = "there is not just one Host header"

_MODELS: Final = "/v1/models"


@asynccontextmanager
async def body_in_time() -> AsyncGenerator[None]:
    """Bound the wait for a body; raises BodyTooSlow."""
    try:
        async with asyncio.timeout(BODY_READ_S):
            yield
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {BODY_READ_S:g} s") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Answers for the public port; ``snapshot`` returns the one in force."""

    proxy: Proxy
    live: LiveRequests
    snapshot: Callable[[], Snapshot | None]
    body_limit_bytes: int

    def answer(self, method: str, path: str) -> Answer:
        """Answer a request that no model is needed for."""
        try:
            return self._models(method, path)
        except RouterError as error:
            return error_answer(error)

    def check_body(self, headers: Mapping[str, str]) -> None:
        """Refuse by its headers a body that will not be read; raises RequestError.

        ``headers`` have lower-case names, and a Content-Length that the parser has let pass.
        """
        if int(headers.get("content-length", 0)) > self.body_limit_bytes:
            raise self.too_large()
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise InvalidRequest(
                f"content-encoding is {encoding[:40]!r}, and bodies are not decoded; send it as it "
                "is, without that header",
                param="content-encoding",
            )

    def too_large(self) -> BodyTooLarge:
        """Return the error for a body beyond the limit."""
        return BodyTooLarge(
            f"the body exceeds {self.body_limit_bytes} bytes; send less, or raise "
            "--body-limit-bytes"
        )

    def _models(self, method: str, path: str) -> Answer:
        """List the exact model names; a name that only a wildcard covers can be asked for."""
        one = path.startswith(f"{_MODELS}/")
        if path != _MODELS and not one:
            if path in APIS:
                raise WrongMethod(f"{path} takes POST, not {method}")
            served = ", ".join([*APIS, _MODELS])
            raise UnknownPath(f"nothing is served under {path[:200]!r}; try {served}")
        if method not in ("GET", "HEAD"):
            raise WrongMethod(f"{_MODELS} takes GET, not {method}")
        snapshot = self.snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        if not one:
            return models_answer(sorted(snapshot.exact))
        name = path[len(_MODELS) + 1 :]
        if find_policy(snapshot, name) is None:
            raise NoRoute(
                f"no policy answers for the model {name[:200]!r}; GET {_MODELS} lists names",
                param="model",
            )
        return model_answer(name)


def malformed(why: str) -> MalformedHttp:
    """Return the error for bytes that are no request."""
    told = why[:200].rstrip(":. ") or "the request cannot be read"
    limit_kib = HEAD_BYTES_MAX // 1024
    return MalformedHttp(f"{told}; send HTTP/1.1 with a head of less than {limit_kib} KiB")
