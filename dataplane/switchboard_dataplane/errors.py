"""The exception tree of the data plane; ``wire/answers.py`` alone turns it into responses.

RouterError                        status  code                   what happens next
├─ RequestError                            the caller's fault     never tried again
│  ├─ InvalidRequest                  400  invalid_value, …
│  ├─ Unauthenticated                 401  missing_api_key, invalid_api_key
│  ├─ Forbidden                       403  model_not_allowed, client_not_admitted
│  ├─ NoRoute                         404  model_not_found
│  ├─ UnknownDecision                 404  decision_not_found
│  ├─ UnknownPath                     404  unknown_url
│  ├─ WrongMethod                     405  method_not_allowed
│  ├─ BodyTooSlow                     408  body_timeout
│  ├─ BodyTooLarge                    413  body_too_large
│  └─ MalformedHttp                   400  malformed_http
├─ NoCandidate                        503  no_candidate           carries the rejection's message
│  └─ Busy                            503  overloaded             every endpoint is at its limit
├─ NotReady                           503  not_ready              no policy has reached this pod
├─ AccessUnavailable                  503  access_unavailable     nobody can say now who calls
├─ ShuttingDown                       503  shutting_down          the drain deadline is over
├─ DeadlineExceeded                   504  deadline_exceeded
├─ InternalError                      500  internal_error         a defect of ours
└─ UpstreamError                                                  the next candidate
   ├─ UpstreamConnect                 502  upstream_connect
   ├─ UpstreamTimeout                 504  upstream_timeout
   ├─ UpstreamRateLimited             429  upstream_rate_limited
   ├─ UpstreamOverloaded              503  upstream_overloaded
   ├─ UpstreamFailed                  502  upstream_server_error  once more, even the same endpoint
   ├─ UpstreamReset                   502  upstream_reset         once more, even the same endpoint
   ├─ UpstreamProtocol                502  upstream_protocol
   ├─ UpstreamContextOverflow         400  upstream_context_overflow  a larger window only
   ├─ UpstreamAuth                    502  upstream_auth          never the same backend
   └─ UpstreamMisconfigured           502  upstream_misconfigured never the same backend

What breaks after the first content has gone out is an UpstreamError too: it becomes an error
event in the stream, unless the policy has the stream restarted.
"""

from typing import ClassVar, Literal

#: The closed taxonomy of what goes wrong with an attempt; a metric label, so it never changes.
Failure = Literal[
    "connect",
    "timeout",
    "rate_limited",
    "overloaded",
    "server_error",
    "reset",
    "protocol",
    "context_overflow",
    "auth",
    "misconfigured",
]

#: Why a caller is not let in: a metric label, so it is a closed set.
Refusal = Literal[
    "missing",
    "unknown",
    "expired",
    "bad_token",
    "bad_identity",
    "not_admitted",
    "unavailable",
]


class RouterError(Exception):
    """The root: ``status`` and ``code`` of the answer, ``type`` in OpenAI's words.

    ``retry_after_s`` goes out as Retry-After where it is known.
    """

    status: ClassVar[int] = 500
    code: str = "internal_error"
    type: ClassVar[str] = "server_error"
    retry_after_s: float | None = None

    @property
    def message(self) -> str:
        """The sentence that the caller reads."""
        return str(self)


class RequestError(RouterError):
    """The caller's fault; ``param`` names the field or the header."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class InvalidRequest(RequestError):
    """The body or a header cannot be read; the message names the value and the fix."""

    code = "invalid_value"


class Unauthenticated(RequestError):
    """The caller says nothing of who it is, or nothing that is good here; never what it said."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str, *, why: Refusal, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.why: Refusal = why


class Forbidden(RequestError):
    """It is known who calls, and that may not call here, or not this model.

    ``why`` is None where the caller is let in, and only what it asks for is not for it.
    """

    status = 403
    code = "client_not_admitted"
    type = "permission_error"

    def __init__(
        self,
        message: str,
        *,
        why: Refusal | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.why: Refusal | None = why


class NoRoute(RequestError):
    """No policy answers for the model name."""

    status = 404
    code = "model_not_found"


class UnknownDecision(RequestError):
    """No pod of this gateway made a decision of that id."""

    status = 404
    code = "decision_not_found"


class UnknownPath(RequestError):
    """Nothing is served under the path."""

    status = 404
    code = "unknown_url"


class WrongMethod(RequestError):
    """The path is served, but not by this method."""

    status = 405
    code = "method_not_allowed"


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "body_timeout"


class BodyTooLarge(RequestError):
    """The body exceeds the limit."""

    status = 413
    code = "body_too_large"


class MalformedHttp(RequestError):
    """The request is no HTTP/1.1, or its head exceeds a limit."""

    code = "malformed_http"


class NoCandidate(RouterError):
    """Nothing may serve the request; the message says why each candidate fell."""

    status = 503
    code = "no_candidate"


class Busy(NoCandidate):
    """Candidates fell only because they are at their limits."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(RouterError):
    """No policy has reached this data plane yet."""

    status = 503
    code = "not_ready"


class AccessUnavailable(RouterError):
    """It cannot be found out now who calls, so nobody is let in."""

    status = 503
    code = "access_unavailable"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDown(RouterError):
    """This data plane is going away and the drain deadline is over."""

    status = 503
    code = "shutting_down"


class DeadlineExceeded(RouterError):
    """The deadline passed before any content came."""

    status = 504
    code = "deadline_exceeded"


class InternalError(RouterError):
    """A defect of the data plane itself."""


class UpstreamError(RouterError):
    """An attempt failed.

    ``again`` says that the same endpoint may get it once more, ``whole_backend`` that none of
    its backend's endpoints is worth another attempt.
    """

    status = 502
    failure: ClassVar[Failure]
    again: ClassVar[bool] = False
    whole_backend: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UpstreamConnect(UpstreamError):
    """No connection: refused, unreachable, unknown name, bad certificate, or too slow."""

    failure = "connect"
    code = "upstream_connect"


class UpstreamTimeout(UpstreamError):
    """Connected, but an answer, the first token, or the next one did not come in time."""

    status = 504
    failure = "timeout"
    code = "upstream_timeout"


class UpstreamRateLimited(UpstreamError):
    """429: the backend limits our calls."""

    status = 429
    type = "rate_limit_error"
    failure = "rate_limited"
    code = "upstream_rate_limited"


class UpstreamOverloaded(UpstreamError):
    """503 or 529: the backend sheds load."""

    status = 503
    failure = "overloaded"
    code = "upstream_overloaded"


class UpstreamFailed(UpstreamError):
    """Another 5xx, or an error event before the first content."""

    failure = "server_error"
    code = "upstream_server_error"
    again = True


class UpstreamReset(UpstreamError):
    """The connection broke before the answer was complete."""

    failure = "reset"
    code = "upstream_reset"
    again = True


class UpstreamProtocol(UpstreamError):
    """The answer is not what the API promises: no JSON, no events, a redirect, too long."""

    failure = "protocol"
    code = "upstream_protocol"


class UpstreamContextOverflow(UpstreamError):
    """The prompt is longer than the model's window, and a model with a larger one is left.

    Where none is, it is no failure: the caller gets the upstream's own error.
    """

    status = 400
    type = "invalid_request_error"
    failure = "context_overflow"
    code = "upstream_context_overflow"
    whole_backend = True


class UpstreamAuth(UpstreamError):
    """401, 402, 403, a 429 without quota: the backend refuses our credential, not the caller's."""

    failure = "auth"
    code = "upstream_auth"
    whole_backend = True
    #: Whether it is the credential that is refused, and not perhaps this request alone.
    lasting: bool = True


class UpstreamMisconfigured(UpstreamError):
    """404, 405 or 410: the backend does not serve that model or path."""

    failure = "misconfigured"
    code = "upstream_misconfigured"
    whole_backend = True
