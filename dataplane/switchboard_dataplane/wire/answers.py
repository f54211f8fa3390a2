"""Answers of our own: errors in OpenAI's shape, as a whole response or as the end of a stream."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from switchboard_dataplane.errors import RequestError, RouterError, Unauthenticated
from switchboard_dataplane.wire.usage import Usage

JSON: Final = ("content-type", "application/json")
#: A caller told to come back is told at most this, in seconds.
RETRY_AFTER_MAX_S: Final = 3_600


class Answer:
    """A whole response; header names are in lower case."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self.status: Final = status
        self.headers: Final = headers
        self.body: Final = body


def error_answer(error: RouterError) -> Answer:
    """Turn an error into a response: the one place where that is done."""
    headers: list[tuple[str, str]] = [JSON]
    if error.retry_after_s is not None:
        wait_s = min(RETRY_AFTER_MAX_S, max(0, math.ceil(error.retry_after_s)))
        headers.append(("retry-after", str(wait_s)))
    if isinstance(error, Unauthenticated):
        headers.append(("www-authenticate", "Bearer"))
    return Answer(error.status, headers, _error_body(error))


def error_event(error: RouterError, usage: Usage | None = None) -> bytes:
    """Return the event that ends a stream which cannot be completed; no [DONE] follows it.

    ``usage`` is what the stream took and gave so far. It stands in the error, where clients that
    make an exception of it keep it.
    """
    return b"data: " + _error_body(error, usage) + b"\n\n"


def models_answer(names: Iterable[str]) -> Answer:
    """Return the list of models."""
    data = [_model(name) for name in names]
    return Answer(200, (JSON,), orjson.dumps({"object": "list", "data": data}))


def model_answer(name: str) -> Answer:
    """Return one model."""
    return Answer(200, (JSON,), orjson.dumps(_model(name)))


def _model(name: str) -> dict[str, object]:
    # Routes have no date of birth; the field is there because clients' types demand it.
    return {"id": name, "object": "model", "created": 0, "owned_by": "switchboard"}


def _error_body(error: RouterError, usage: Usage | None = None) -> bytes:
    fields: dict[str, object] = {
        "message": error.message,
        "type": error.type,
        "param": error.param if isinstance(error, RequestError) else None,
        "code": error.code,
    }
    if usage is not None:
        fields["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "estimated": usage.estimated,
        }
    return orjson.dumps({"error": fields})
