"""What is to be explained, read from JSON: a request with its headers and its caller."""

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.decision.client import ANYBODY, Client
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.errors import InvalidRequest
from switchboard_dataplane.wire.asks import PATHS, read_ask
from switchboard_dataplane.wire.headers import join_headers
from switchboard_policy.ir import Api

#: The largest question, in bytes. What is longer than a model's window needs no explanation.
QUESTION_BYTES_MAX: Final = 4 * 1024 * 1024

_FIELDS: Final = frozenset({"api", "headers", "client", "arm", "body"})
_CLIENT_FIELDS: Final = frozenset(
    {"kind", "name", "namespace", "tier", "team", "labels", "models", "expires"}
)
_KINDS: Final = ("key", "serviceAccount", "mesh", "anybody")


class Unreadable(Exception):
    """A question cannot be read; the text names the field, and repeats nothing that it holds."""

    def __init__(self, message: str, *, param: str = "", code: str = "invalid_question") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def read_question(data: bytes) -> RequestView:
    """Read ``{api, headers, client, arm, body}``, or a bare OpenAI request; raises Unreadable."""
    if len(data) > QUESTION_BYTES_MAX:
        raise Unreadable(f"it has {len(data)} bytes; send {QUESTION_BYTES_MAX} at most")
    try:
        said: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # Not its text: that may hold a part of the prompt.
        raise Unreadable(f"it is not JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(said, dict):
        raise Unreadable("it is no JSON object")
    question = cast("dict[str, Any]", said)
    if "body" not in question:
        question = {"body": question}
    if question.keys() - _FIELDS:
        raise Unreadable(f"beside body there may be {', '.join(sorted(_FIELDS - {'body'}))}")
    api = question.get("api", "chat")
    if not isinstance(api, str) or api not in PATHS:
        raise Unreadable(f"write one of {', '.join(PATHS)}", param="api")
    view = _read_view(cast("Api", api), question["body"], _headers(question.get("headers")))
    view.client = _client(question.get("client"))
    view.arm = _text(question, "arm")
    return view


def _read_view(api: Api, body: object, headers: Mapping[str, str]) -> RequestView:
    if not isinstance(body, dict):
        raise Unreadable("write the OpenAI request as an object", param="body")
    try:
        return read_ask(api, orjson.dumps(body), headers).view
    except InvalidRequest as error:
        # Its sentence repeats what is wrong, which may be a part of the prompt.
        param = error.param or "body"
        told = f"a gateway would refuse the request with 400: {param} is not as the API has it"
        raise Unreadable(told, param=param, code=error.code) from None


def _headers(said: object) -> Mapping[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise Unreadable("write an object of names and values", param="headers")
    named = cast("dict[str, object]", said)
    if not all(isinstance(value, str) for value in named.values()):
        raise Unreadable("write every value as a string", param="headers")
    return join_headers(cast("dict[str, str]", named).items())


def _client(said: object) -> Client:
    if said is None:
        return ANYBODY
    if not isinstance(said, dict):
        raise Unreadable("write an object of facts, such as {tier: gold}", param="client")
    facts = cast("dict[str, Any]", said)
    if facts.keys() - _CLIENT_FIELDS:
        raise Unreadable(f"its facts are {', '.join(sorted(_CLIENT_FIELDS))}", param="client")
    kind = _text(facts, "kind") or "key"
    if kind not in _KINDS:
        raise Unreadable(f"write one of {', '.join(_KINDS)}", param="client.kind")
    return Client(
        kind,
        _text(facts, "name"),
        _text(facts, "namespace"),
        tier=_text(facts, "tier"),
        team=_text(facts, "team"),
        labels=_labels(facts.get("labels")),
        models=_models(facts.get("models")),
        expires=_text(facts, "expires"),
    )


def _text(said: Mapping[str, object], field: str) -> str:
    value = said.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable("write a string", param=field)
    return value


def _labels(said: object) -> Mapping[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise Unreadable("write an object of names and values", param="client.labels")
    named = cast("dict[str, object]", said)
    if not all(isinstance(value, str) for value in named.values()):
        raise Unreadable("write every value as a string", param="client.labels")
    return cast("dict[str, str]", named)


def _models(said: object) -> tuple[str, ...]:
    if said is None:
        return ()
    names = cast("list[object]", said) if isinstance(said, list) else [None]
    if not all(isinstance(name, str) for name in names):
        raise Unreadable("write an array of names", param="client.models")
    return tuple(cast("list[str]", names))
