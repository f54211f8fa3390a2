"""Reads what a caller asks for out of an OpenAI request body. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import cast

from switchboard_cli.fake_model import errors

BYTES_PER_TOKEN = 4
_CALL = re.compile(r"\bcall:([\w.-]+)")


class Api(Enum):
    """One API: its path, and the field that holds its prompt."""

    CHAT = ("/v1/chat/completions", "messages")
    COMPLETIONS = ("/v1/completions", "prompt")
    EMBEDDINGS = ("/v1/embeddings", "input")

    def __init__(self, path: str, prompt_field: str) -> None:
        """Name the two parts of the value."""
        self.path = path
        self.prompt_field = prompt_field


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one request wants, in the terms that the answer needs."""

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    prompt_tokens: int
    texts: tuple[str, ...]  # the inputs to embed, or all texts of the prompt
    tool: str | None  # the tool to call
    schema: dict[str, object] | None  # what JSON content or tool arguments have to look like
    question: str = ""  # the last user message, or the prompt
    logprobs: bool = False  # whether the tokens' probabilities are wanted


def count_tokens(text: str) -> int:
    """Return the tokens of a text: its UTF-8 bytes / 4, rounded up."""
    length = len(text) if text.isascii() else len(text.encode())
    return -(-length // BYTES_PER_TOKEN)


def read_ask(api: Api, said: dict[str, object]) -> Ask:
    """Read a parsed JSON body; raise RefusedError for what OpenAI would refuse."""
    model = said.get("model")
    if not isinstance(model, str):
        raise errors.RefusedError(errors.bad_request("you must provide a model parameter"))
    prompt = said.get(api.prompt_field)
    if not isinstance(prompt, list if api is Api.CHAT else list | str):
        message = f"Missing required parameter: '{api.prompt_field}'."
        raise errors.RefusedError(errors.bad_request(message, api.prompt_field))
    streams = api is not Api.EMBEDDINGS and said.get("stream") is True
    options = _mapping(said.get("stream_options")) or {}
    tool, schema = _wanted_shape(said) if api is Api.CHAT else (None, None)
    texts, prompt_tokens = _read_prompt(api, cast("object", prompt))
    return Ask(
        model=model,
        stream=streams,
        include_usage=streams and options.get("include_usage") is True,
        max_tokens=_max_tokens(said),
        prompt_tokens=prompt_tokens,
        texts=texts,
        tool=tool,
        schema=schema,
        question=_question(_items(cast("object", prompt))) if api is Api.CHAT else "\n".join(texts),
        logprobs=_wants_logprobs(api, said.get("logprobs")),
    )


def _mapping(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _max_tokens(said: dict[str, object]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = said.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            message = f"Invalid '{name}': expected an integer from 1, got {value!r}."
            raise errors.RefusedError(errors.bad_request(message, name))
        return value
    return None


def _read_prompt(api: Api, prompt: object) -> tuple[tuple[str, ...], int]:
    """Return the texts of the prompt and its size in tokens.

    A list of token ids is its own size; its text is its digits.
    """
    if api is Api.CHAT:
        texts = tuple(
            text for message in _items(prompt) for text in _message_texts(_mapping(message) or {})
        )
        return texts, sum(map(count_tokens, texts))
    pieces = _items(prompt)
    if not pieces or isinstance(pieces[0], int):
        pieces = [prompt]
    texts = tuple(piece if isinstance(piece, str) else repr(piece) for piece in pieces)
    sizes = (
        count_tokens(piece) if isinstance(piece, str) else len(_items(piece)) for piece in pieces
    )
    return texts, sum(sizes)


def _question(messages: list[object]) -> str:
    """Return the text of the last user message; its parts are joined by line breaks."""
    turns = [_mapping(message) or {} for message in messages]
    turns = [turn for turn in turns if turn.get("role") == "user"]
    return "\n".join(_message_texts(turns[-1])) if turns else ""


def _wants_logprobs(api: Api, value: object) -> bool:
    """Read a switch of one API, a count of the other, where 0 is one of the token alone."""
    if api is Api.COMPLETIONS:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is True


def _message_texts(message: dict[str, object]) -> Iterable[str]:
    """Return the texts of a message; its parts are separate texts."""
    content = message.get("content")
    if isinstance(content, str):
        return (content,)
    parts = (_mapping(part) or {} for part in _items(content))
    return [text for part in parts if isinstance(text := part.get("text"), str)]


def _wanted_shape(said: dict[str, object]) -> tuple[str | None, dict[str, object] | None]:
    """Return the tool to call and the JSON schema to follow, if any."""
    if "tools" in said and said.get("tool_choice") != "none":
        called = _called_tool(said)
        if called is not None:
            return called
    wanted = _mapping(said.get("response_format")) or {}
    if wanted.get("type") == "json_object":
        return None, {"type": "object", "properties": {"answer": {"type": "string"}}}
    if wanted.get("type") == "json_schema":
        named = _mapping(wanted.get("json_schema")) or {}
        return None, _mapping(named.get("schema")) or {"type": "object"}
    return None, None


def _called_tool(said: dict[str, object]) -> tuple[str, dict[str, object]] | None:
    """Return the tool that the user's text asks for with `call:<name>`, if it is offered."""
    turns = [_mapping(message) or {} for message in _items(said.get("messages"))]
    turns = [turn for turn in turns if turn.get("role") in ("user", "tool")]
    if not turns or turns[-1].get("role") == "tool":
        return None  # the tool has answered: calling it again would never end
    wanted = set(_CALL.findall(" ".join(_message_texts(turns[-1]))))
    for tool in _items(said.get("tools")):
        function = _mapping((_mapping(tool) or {}).get("function")) or {}
        name = function.get("name")
        if isinstance(name, str) and name in wanted:
            return name, _mapping(function.get("parameters")) or {"type": "object"}
    return None
