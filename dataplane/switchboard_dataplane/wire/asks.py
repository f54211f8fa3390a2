"""A caller's body and headers to what a decision reads, and to what an upstream is sent."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.decision.request import TEXT_ONLY, RequestView
from switchboard_dataplane.errors import InvalidRequest
from switchboard_dataplane.wire.fields import (
    SHOWN_CHARS_MAX,
    Object,
    missing,
    out_of_range,
    read_array,
    read_count,
    read_object,
    read_switch,
    read_text,
    shown,
    wrong_type,
)
from switchboard_dataplane.wire.hints import (
    read_deadline,
    read_labels,
    read_latency_class,
    read_min_quality,
    read_priority,
    read_role,
    read_session,
    read_stage,
    read_tags,
)
from switchboard_dataplane.wire.prompts import Prompt, read_messages, read_prompt
from switchboard_dataplane.wire.splice import put_in_front, splice, splice_model
from switchboard_policy.ir import Api

MODEL_CHARS_MAX: Final = 256
#: Fits every engine's counter and CEL's integers.
TOKENS_MAX: Final = 2**31 - 1

#: Where each API is served, here and, after the backend's base URL, upstream.
PATHS: Final[Mapping[Api, str]] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}

#: What says that a body is no JSON on purpose. JSON is read under any name: many a caller's tool
#: sends it as a form or as plain text.
_OTHER_FORMAT: Final = re.compile(
    r"\s*(?:multipart/|text/|application/(?:x-www-form-urlencoded|[^;]*xml|[^;]*yaml))",
    re.IGNORECASE,
)


class Ask:
    """A request that was understood: the facts, the bytes, and who wants to know the usage."""

    def __init__(self, view: RequestView, body: bytes, *, wants_usage: bool) -> None:
        self.view: Final = view
        self.body: Final = body
        self.wants_usage: Final = wants_usage

    @property
    def adds_usage(self) -> bool:
        """Whether the stream's usage is asked for on our account, and so hidden from the caller."""
        return self.view.stream and not self.wants_usage

    @property
    def choices(self) -> int:
        """How many answers are asked for in one: ``n``, for each prompt."""
        n, prompt = self.view.payload.get("n"), self.view.payload.get("prompt")
        choices = n if isinstance(n, int) and n > 1 else 1
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            choices *= len(cast("list[object]", prompt))
        return choices


def read_ask(api: Api, body: bytes, headers: Mapping[str, str]) -> Ask:
    """Read a request; raises InvalidRequest naming the field or header, its value and the fix."""
    payload = _parse(body, headers.get("content-type", ""))
    view = RequestView(api, _read_model(payload), payload, headers)
    prompt = _PROMPT_READERS[api](payload)
    view.tokens = prompt.tokens
    view.modalities = prompt.modalities
    view.session = read_session(headers)
    view.tags = read_tags(headers)
    view.deadline_ms = read_deadline(headers)
    view.priority = read_priority(headers)
    view.latency_class = read_latency_class(headers)
    view.min_quality = read_min_quality(headers)
    view.labels = read_labels(headers)
    view.stream = api != "embeddings" and read_switch(payload, "stream")
    options = read_object(payload, "stream_options")
    max_tokens = read_count(payload, "max_tokens", most=TOKENS_MAX)
    max_completion_tokens = read_count(payload, "max_completion_tokens", most=TOKENS_MAX)
    view.max_tokens = max_completion_tokens or max_tokens
    response_format = read_object(payload, "response_format")
    view.tools = bool(read_array(payload, "tools") or read_array(payload, "functions"))
    format_type = read_text(response_format, "type", "response_format.type")
    view.json_schema = format_type == "json_schema"
    view.metadata = _read_metadata(payload)
    # Frameworks for agents can often set the one, and not the other.
    view.role = read_role(headers) or view.metadata.get("role", "")
    view.stage = read_stage(headers) or view.metadata.get("stage", "")
    view.user = read_text(payload, "user")
    wants_usage = read_switch(options, "include_usage", "stream_options.include_usage")
    return Ask(view, body, wants_usage=wants_usage)


def body_for(ask: Ask, model: str) -> bytes:
    """Return the caller's own bytes with the backend's model name in; "" leaves the caller's.

    Where the caller of a stream did not ask for its usage, we do.
    """
    body = splice_model(ask.body, orjson.dumps(model)) if model else ask.body
    if not ask.adds_usage:
        return body
    if "stream_options" in ask.view.payload:
        said: Object = ask.view.payload["stream_options"] or {}
        return splice(body, {"stream_options": orjson.dumps({**said, "include_usage": True})})
    return put_in_front(body, {"stream_options": b'{"include_usage":true}'})


def unstreamed(ask: Ask) -> Ask:
    """Return the request for an answer that comes whole."""
    if not ask.view.stream:
        return ask
    values = {"stream": b"false"}
    if "stream_options" in ask.view.payload:
        # They are for streams alone.
        values["stream_options"] = b"null"
    whole = read_ask(ask.view.api, splice(ask.body, values), ask.view.headers)
    whole.view.client = ask.view.client
    return whole


def wants_logprobs(ask: Ask) -> bool:
    """Say whether the caller asks for the probabilities of the answer's tokens."""
    said = ask.view.payload.get("logprobs")
    return said is not None and said is not False


def with_logprobs(ask: Ask) -> Ask:
    """Return the request with the probabilities of the answer's tokens asked for."""
    value = b"true" if ask.view.api == "chat" else b"1"
    return Ask(ask.view, splice(ask.body, {"logprobs": value}), wants_usage=ask.wants_usage)


def _parse(body: bytes, content_type: str) -> Object:
    if not body:
        raise InvalidRequest("the body is empty; send a JSON object", code="invalid_json")
    try:
        payload: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(body, error, content_type) from error
    if not isinstance(payload, dict):
        raise InvalidRequest(
            f"the body is {shown(payload)}; send a JSON object", code="invalid_json"
        )
    return cast("Object", payload)


def _not_json(body: bytes, error: orjson.JSONDecodeError, content_type: str) -> InvalidRequest:
    if _OTHER_FORMAT.match(content_type) is not None:
        return InvalidRequest(
            f"content-type is {content_type[:SHOWN_CHARS_MAX]!r}, and the body is not JSON; "
            "send a JSON object as application/json",
            param="content-type",
            code="invalid_json",
        )
    try:
        body.decode()
    except UnicodeDecodeError as where:
        return InvalidRequest(
            f"the body is not UTF-8: byte {where.start} is {body[where.start]:#04x}; "
            "send JSON in UTF-8",
            code="invalid_json",
        )
    return InvalidRequest(
        f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}, "
        f"near {_around(error.doc, error.pos)!r}); send a JSON object",
        code="invalid_json",
    )


def _around(text: str, position: int) -> str:
    return text[max(0, position - SHOWN_CHARS_MAX // 2) : position + SHOWN_CHARS_MAX // 2]


def _read_model(payload: Object) -> str:
    model = payload.get("model")
    if model is None:
        raise missing("model", "the name of a model; GET /v1/models lists them")
    if not isinstance(model, str):
        raise wrong_type("model", model, "a string")
    if not model or len(model) > MODEL_CHARS_MAX:
        raise out_of_range("model", model, f"a name of 1..{MODEL_CHARS_MAX} characters")
    return model


def _read_completion(payload: Object) -> Prompt:
    # The prompt of a completion may be absent: the model then begins on its own.
    prompt = payload.get("prompt")
    return Prompt(0, TEXT_ONLY) if prompt is None else read_prompt(prompt, "prompt")


def _read_embedding(payload: Object) -> Prompt:
    text = payload.get("input")
    if text is not None:
        return read_prompt(text, "input")
    if "messages" in payload:
        return read_messages(payload)
    raise missing("input", "a string, an array of strings, or token ids")


_PROMPT_READERS: Final[Mapping[Api, Callable[[Object], Prompt]]] = {
    "chat": read_messages,
    "completions": _read_completion,
    "embeddings": _read_embedding,
}


def _read_metadata(payload: Object) -> Mapping[str, str]:
    metadata = read_object(payload, "metadata")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise wrong_type(f"metadata.{key[:MODEL_CHARS_MAX]}", value, "a string")
    return metadata
