"""Error answers in OpenAI's shape, worded as OpenAI words them."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as a caller sees it: an HTTP status and the fields of the `error` object."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON body."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})


class RefusedError(Exception):
    """A request that gets an error answer."""

    def __init__(self, answer: ErrorAnswer, headers: Mapping[str, str] | None = None) -> None:
        """Carry the answer, with headers of its own, to the place where it is sent."""
        super().__init__(answer.message)
        self.answer = answer
        self.headers = headers or {}


def no_key() -> ErrorAnswer:
    """Return the answer to a request without a key."""
    return ErrorAnswer(
        HTTPStatus.UNAUTHORIZED,
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )


def wrong_key() -> ErrorAnswer:
    """Return the answer to a request with another key."""
    return ErrorAnswer(
        HTTPStatus.UNAUTHORIZED, "Incorrect API key provided.", code="invalid_api_key"
    )


def unknown_model(model: str) -> ErrorAnswer:
    """Return the answer for a model that is not served."""
    return ErrorAnswer(
        HTTPStatus.NOT_FOUND,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def unknown_url(method: str, path: str) -> ErrorAnswer:
    """Return the answer for a path or method that is not there."""
    return ErrorAnswer(HTTPStatus.NOT_FOUND, f"Invalid URL ({method} {path})")


def bad_body() -> ErrorAnswer:
    """Return the answer to a body that is not a JSON object."""
    return bad_request("We could not parse the JSON body of your request.")


def bad_request(message: str, param: str | None = None) -> ErrorAnswer:
    """Return the answer to a request that cannot be read."""
    return ErrorAnswer(HTTPStatus.BAD_REQUEST, message, param=param)


def context_exceeded(*, window: int, prompt_tokens: int, param: str) -> ErrorAnswer:
    """Return the answer to a prompt that does not fit, both sizes in tokens."""
    return ErrorAnswer(
        HTTPStatus.BAD_REQUEST,
        f"This model's maximum context length is {window} tokens. However, your messages "
        f"resulted in {prompt_tokens} tokens. Please reduce the length of the messages.",
        param=param,
        code="context_length_exceeded",
    )


_BY_STATUS = {
    401: wrong_key(),
    429: ErrorAnswer(
        429,
        "Rate limit reached for requests. Please try again later.",
        type="requests",
        code="rate_limit_exceeded",
    ),
    500: ErrorAnswer(
        500,
        "The server had an error while processing your request. Sorry about that!",
        type="server_error",
    ),
    503: ErrorAnswer(
        503,
        "The engine is currently overloaded, please try again later.",
        type="server_error",
    ),
}


def from_status(status: int) -> ErrorAnswer:
    """Return what a server would say with an HTTP status from 400 to 599."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    caller = status < HTTPStatus.INTERNAL_SERVER_ERROR
    return ErrorAnswer(
        status,
        f"The server answered {status}.",
        type="invalid_request_error" if caller else "server_error",
    )
