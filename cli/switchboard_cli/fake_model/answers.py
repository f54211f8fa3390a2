"""What the fake model says, as text, tokens and JSON bytes. Pure.

One token is one word of an answer in words, and four characters of an answer in JSON. The JSON of
a stream is put together from pieces rendered once: what changes from request to request is the
envelope (id, time, model), what follows it is the same for every request.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

import orjson

from switchboard_cli.fake_model.asks import Api, Ask
from switchboard_cli.fake_model.lines import Cue
from switchboard_cli.fake_model.logprobs import (
    chat_logprobs,
    completions_logprobs,
    logprob_of,
)
from switchboard_cli.fake_model.samples import sample

DONE = b"data: [DONE]\n\n"
GARBAGE = b"<html><body>upstream sent something else</body></html>"
REFUSAL_TEXT = "I'm sorry, but I can't help with that."
_FILLER = "a route is only as good as the model that it ends at and the way back"
_JSON_PIECE_CHARACTERS = 4

_T = TypeVar("_T")


class Voice(Enum):
    """What an answer is made of."""

    WORDS = auto()  # the script's
    LINE = auto()  # words of the table of lines
    JSON = auto()
    REFUSAL = auto()
    TOOL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its tokens in order, and why it ends."""

    voice: Voice
    pieces: tuple[str, ...]  # one a token
    finish: str
    logprob: float | None = None  # of each token; None tells none
    tool: str = ""  # the name of the tool that is called
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Tails:
    """The chunks of a stream without their envelope: opening, one a token, closing."""

    opening: bytes
    tokens: Sequence[bytes]
    closing: bytes


class Script:
    """The words that a model of this name says, with their chunks rendered beforehand."""

    def __init__(self, *, name: str, fixed_text: str | None) -> None:
        """Split the text into tokens; an answer without a fixed text goes on as long as wanted."""
        if fixed_text is None:
            opening = _split_words(f"This is {name} answering:")
            filler = _split_words(f" {_FILLER}")
        else:
            opening, filler = _split_words(fixed_text), ()
        self.fixed_tokens = None if fixed_text is None else len(opening)
        self.name = name
        self._pieces = (opening, filler)
        self._tails = {
            api: (_tails(api, opening), _tails(api, filler)) for api in (Api.CHAT, Api.COMPLETIONS)
        }

    def pieces(self, count: int) -> tuple[str, ...]:
        """Return the first `count` tokens."""
        return _extend(*self._pieces, count)

    def tails(self, api: Api, count: int) -> tuple[bytes, ...]:
        """Return the chunks of the first `count` tokens, without their envelope."""
        return _extend(*self._tails[api], count)


def _extend(opening: tuple[_T, ...], filler: tuple[_T, ...], count: int) -> tuple[_T, ...]:
    rounds = -(-max(0, count - len(opening)) // len(filler)) if filler else 0
    return (opening + filler * rounds)[:count]


def _split_words(text: str) -> tuple[str, ...]:
    """Split a text into words that keep the space before them, so that they join to it again."""
    return tuple(re.findall(r"\s*\S+|\s+$", text))


def _tails(api: Api, pieces: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(_piece_tail(api, Voice.WORDS, piece) for piece in pieces)


def compose(
    ask: Ask,
    script: Script,
    *,
    answer_id: str,
    answer_tokens: int,
    refuse: bool,
    cue: Cue | None = None,
    confidence: float | None = None,
) -> Answer:
    """Return the answer to a chat or completions request, cut at the tokens it allows.

    `cue` says what it is, and maybe how sure; without `confidence` it tells no logprobs.
    """
    if refuse:
        voice, finish, pieces = Voice.REFUSAL, "content_filter", _split_words(REFUSAL_TEXT)
    elif cue is not None:
        voice, finish, pieces = Voice.LINE, "stop", _split_words(cue.text)
    elif ask.schema is None:
        voice, finish = Voice.WORDS, "stop"
        pieces = script.pieces(script.fixed_tokens or answer_tokens)
    else:
        voice = Voice.JSON if ask.tool is None else Voice.TOOL
        finish = "stop" if ask.tool is None else "tool_calls"
        pieces = _split_json(orjson.dumps(sample(ask.schema, text=script.name)).decode())
    if ask.max_tokens is not None and len(pieces) > ask.max_tokens:
        pieces, finish = pieces[: ask.max_tokens], "length"
    if confidence is not None and cue is not None and cue.confidence is not None:
        confidence = cue.confidence
    return Answer(
        voice=voice,
        pieces=pieces,
        finish=finish,
        logprob=logprob_of(confidence) if ask.logprobs and voice is not Voice.TOOL else None,
        tool=ask.tool or "",
        call_id=f"call_{answer_id}",
    )


def _split_json(text: str) -> tuple[str, ...]:
    step = _JSON_PIECE_CHARACTERS
    return tuple(text[at : at + step] for at in range(0, len(text), step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every chunk and every body of one answer begins with."""

    id: str
    created: int  # seconds since 1970
    model: str
    fingerprint: str

    def to_bytes(self, kind: str) -> bytes:
        """Return the JSON up to the comma before `choices`; `kind` is the `object` field."""
        return (b'{"id":"%b","object":"%b","created":%d,"model":%b,"system_fingerprint":%b,') % (
            self.id.encode(),
            kind.encode(),
            self.created,
            orjson.dumps(self.model),
            orjson.dumps(self.fingerprint),
        )


_WHOLE_KIND = {Api.CHAT: "chat.completion", Api.COMPLETIONS: "text_completion"}
_CHUNK_KIND = {Api.CHAT: "chat.completion.chunk", Api.COMPLETIONS: "text_completion"}
ID_PREFIX = {Api.CHAT: "chatcmpl-", Api.COMPLETIONS: "cmpl-", Api.EMBEDDINGS: "embd-"}


def chunk_head(api: Api, envelope: Envelope, *, include_usage: bool) -> bytes:
    """Return what precedes the tail of every chunk of a stream."""
    head = b"data: " + envelope.to_bytes(_CHUNK_KIND[api])
    return head + b'"usage":null,' if include_usage else head


def usage_chunk(api: Api, envelope: Envelope, *, prompt_tokens: int, tokens: int) -> bytes:
    """Return the chunk with the usage that ends a stream which was asked for it."""
    usage = _usage(prompt_tokens, tokens)
    head = envelope.to_bytes(_CHUNK_KIND[api])
    return b'data: %b"choices":[],"usage":%b}\n\n' % (head, usage)


def stream_tails(api: Api, answer: Answer, script: Script) -> Tails:
    """Return the chunks of an answer without their envelope."""
    if answer.voice is Voice.WORDS and answer.logprob is None:
        tokens: Sequence[bytes] = script.tails(api, len(answer.pieces))
    else:
        tokens = [_piece_tail(api, answer.voice, one, answer.logprob) for one in answer.pieces]
    opening = _chat_opening(answer) if api is Api.CHAT else b""
    return Tails(opening, tokens, _closing_tail(api, answer.finish))


def whole_body(api: Api, answer: Answer, envelope: Envelope, *, prompt_tokens: int) -> bytes:
    """Return the JSON body of an answer that is not streamed."""
    choice = _chat_choice(answer) if api is Api.CHAT else _completions_choice(answer)
    return b'%b"choices":[%b],"usage":%b}' % (
        envelope.to_bytes(_WHOLE_KIND[api]),
        orjson.dumps(choice),
        _usage(prompt_tokens, len(answer.pieces)),
    )


def error_event(error: bytes) -> bytes:
    """Return a stream's event with an error body."""
    return b"data: %b\n\n" % error


def _usage(prompt_tokens: int, tokens: int) -> bytes:
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":0},'
        b'"completion_tokens_details":{"reasoning_tokens":0}}'
    ) % (prompt_tokens, tokens, prompt_tokens + tokens)


def _chat_choice(answer: Answer) -> dict[str, object]:
    text = "".join(answer.pieces)
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    if answer.voice is Voice.REFUSAL:
        message |= {"content": None, "refusal": text}
    elif answer.voice is Voice.TOOL:
        message |= {"content": None, "tool_calls": [_tool_call(answer, text)]}
    field = "refusal" if answer.voice is Voice.REFUSAL else "content"
    logprobs = chat_logprobs(answer.pieces, answer.logprob, field)
    return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}


def _completions_choice(answer: Answer) -> dict[str, object]:
    text = "".join(answer.pieces)
    logprobs = completions_logprobs(answer.pieces, answer.logprob)
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": answer.finish}


def _tool_call(answer: Answer, arguments: str) -> dict[str, object]:
    function = {"name": answer.tool, "arguments": arguments}
    return {"id": answer.call_id, "type": "function", "function": function}


def _chat_opening(answer: Answer) -> bytes:
    delta: dict[str, object] = {"role": "assistant", "content": ""}
    if answer.voice in (Voice.REFUSAL, Voice.TOOL):
        delta["content"] = None
    if answer.voice is Voice.TOOL:
        delta["tool_calls"] = [{"index": 0, **_tool_call(answer, "")}]
    return _chat_tail(delta)


def _piece_tail(api: Api, voice: Voice, piece: str, logprob: float | None = None) -> bytes:
    if api is Api.COMPLETIONS:
        return _completions_tail(piece, logprobs=completions_logprobs((piece,), logprob))
    if voice is Voice.TOOL:
        call = {"index": 0, "function": {"arguments": piece}}
        return _chat_tail({"tool_calls": [call]})
    field = "refusal" if voice is Voice.REFUSAL else "content"
    return _chat_tail({field: piece}, logprobs=chat_logprobs((piece,), logprob, field))


def _closing_tail(api: Api, finish: str) -> bytes:
    return _chat_tail({}, finish) if api is Api.CHAT else _completions_tail("", finish)


def _chat_tail(
    delta: dict[str, object], finish: str | None = None, logprobs: object = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return b'"choices":[%b]}\n\n' % orjson.dumps(choice)


def _completions_tail(text: str, finish: str | None = None, logprobs: object = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}
    return b'"choices":[%b]}\n\n' % orjson.dumps(choice)
