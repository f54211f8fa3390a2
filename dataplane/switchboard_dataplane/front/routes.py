"""What the public port serves, whichever form of it reads the request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from switchboard_dataplane.access.identify import LETS_ANYBODY_IN, Access, Stranger
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.running import Policy, Snapshot
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
from switchboard_dataplane.front.bodies import Bodies
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.proxy import Caller
from switchboard_dataplane.wire.answers import Answer, error_answer, model_answer, models_answer
from switchboard_dataplane.wire.asks import PATHS
from switchboard_policy.ir import Api

#: Bounds the head of a request, and the trailers of a chunked one, in memory.
HEAD_BYTES_MAX: Final = 64 * 1024
#: More header fields than any client sends.
HEADERS_MAX: Final = 128
#: The paths that go through the proxy, all by POST.
APIS: Final[Mapping[str, Api]] = {f"/v1{path}": api for api, path in PATHS.items()}

#: Where callers rate answers, by POST.
FEEDBACK: Final = "/v1/feedback"
#: All that takes a body.
_POSTED: Final = (*APIS, FEEDBACK)

#: What is said to a request without a Host header, or with several: RFC 9112, 3.2.
NOT_ONE_HOST: Final = "there is not just one Host header"

_MODELS: Final = "/v1/models"


T = TypeVar("T")


class Server(Protocol):
    """Serves requests with a body: ``proxy.Proxy`` those for a model."""

    async def serve(self, caller: Caller) -> None:
        """See ``Proxy.serve``."""
        ...


class Elsewhere(Protocol):
    """Model names that are served elsewhere: ``gateway_models.GatewayModels``."""

    names: frozenset[str]

    async def look(self) -> None:
        """See ``GatewayModels.look``."""
        ...

    async def serves(self, policy: Policy, name: str) -> bool:
        """See ``GatewayModels.serves``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long callers are waited for, in seconds.

    A head or a body that takes longer is not coming, and an idle socket must not hold it.
    ``idle_s`` is how long a connection without a request is kept, more than load balancers do;
    ``stall_s`` how long a caller may take nothing of an answer that waits for it; ``linger_s`` how
    long one that was refused may go on sending, so that it reads the answer. Connections are
    looked at every ``sweep_s``.
    """

    head_s: float = 30.0
    body_s: float = 60.0
    idle_s: float = 75.0
    stall_s: float = 60.0
    linger_s: float = 2.0
    sweep_s: float = 1.0


PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Answers for the public port; ``snapshot`` returns the one in force.

    ``proxy`` serves the requests for models, ``feedback`` what is said of their answers.
    ``bodies`` are those on their way, at all connections of the port. ``elsewhere`` is what a
    sidecar lists beside its own names. ``access`` says who calls.
    """

    proxy: Server
    feedback: Server
    live: LiveRequests
    bodies: Bodies
    snapshot: Callable[[], Snapshot | None]
    body_limit_bytes: int
    patience: Patience = PATIENCE
    elsewhere: Elsewhere | None = None
    access: Access = LETS_ANYBODY_IN

    async def answer(self, method: str, path: str, caller: Stranger) -> Answer:
        """Answer a request that no model is needed for."""
        try:
            return await self._models(method, path, caller)
        except RouterError as error:
            return error_answer(error)

    async def rate(self, caller: Caller) -> None:
        """Serve feedback, of those who are let in; raises ConnectionError."""
        try:
            await self.access.admit(caller)
        except RouterError as error:
            answer = error_answer(error)
        else:
            await self.feedback.serve(caller)
            return
        await caller.send(answer)

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

    async def in_time(self, body: Awaitable[T]) -> T:
        """Wait for a body, but not for ever; raises BodyTooSlow."""
        try:
            async with asyncio.timeout(self.patience.body_s):
                return await body
        except TimeoutError as error:
            raise self.too_slow() from error

    def too_slow(self) -> BodyTooSlow:
        """Return the error for a body that did not come in time."""
        return BodyTooSlow(f"the body did not arrive within {self.patience.body_s:g} s")

    def gave_way(self) -> BodyTooSlow:
        """Return the error for a body that had to make room for others."""
        return BodyTooSlow(
            f"bodies on their way hold {self.bodies.limit_bytes} bytes in all, and this one has "
            "been on its way the longest; send it again, and faster"
        )

    def too_large(self) -> BodyTooLarge:
        """Return the error for a body beyond the limit."""
        return BodyTooLarge(
            f"the body exceeds {self.body_limit_bytes} bytes; send less, or raise "
            "--body-limit-bytes"
        )

    async def _models(self, method: str, path: str, caller: Stranger) -> Answer:
        """List the exact model names that the caller may use.

        A name that only a wildcard covers can be asked for.
        """
        one = path.startswith(f"{_MODELS}/")
        if path != _MODELS and not one:
            if path in _POSTED:
                raise WrongMethod(f"{path} takes POST, not {method}")
            served = ", ".join([*_POSTED, _MODELS])
            raise UnknownPath(f"nothing is served under {path[:200]!r}; try {served}")
        if method not in ("GET", "HEAD"):
            raise WrongMethod(f"{_MODELS} takes GET, not {method}")
        client = await self.access.admit(caller)
        if self.elsewhere is not None and not one:
            await self.elsewhere.look()
        snapshot = self.snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        if not one:
            others = frozenset[str]() if self.elsewhere is None else self.elsewhere.names
            return models_answer(sorted(filter(client.may_use, {*snapshot.exact, *others})))
        name = path[len(_MODELS) + 1 :]
        policy = find_policy(snapshot, name)
        known = policy is not None and client.may_use(name)
        if self.elsewhere is not None and policy is not None and known:
            known = await self.elsewhere.serves(policy, name)
        if not known:
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
