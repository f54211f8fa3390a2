"""A stream reads the same whatever the pieces in which it arrives."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from switchboard_dataplane.wire.events import EventReader, opens, says_something, split_events
from switchboard_dataplane.wire.restart import RESTARTED, Sent, joined
from switchboard_dataplane.wire.usage import find_usage

TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"usage":{', "data: [DONE]", '"finish_reason":"stop"', "\n\n", '\\"error\\"', "data:"]
)
USAGES = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 10**9), "completion_tokens": st.integers(0, 10**9)},
    optional={"prompt_tokens_details": st.none() | st.just({"cached_tokens": 0})},
)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """One event as an engine may send it."""
    kind = draw(st.sampled_from(KINDS))
    if kind == "comment":
        return b": keep-alive" + draw(ENDS)
    choice: dict[str, object] = {"index": 0, "delta": {}, "finish_reason": None}
    event: dict[str, object] = {"id": "x", "choices": [choice], "usage": None}
    if kind in ("content", "both"):
        choice["delta"] = {"content": draw(TEXTS)}
    if kind == "role":
        choice["delta"] = {"role": "assistant", "content": ""}
    if kind == "end":
        choice["finish_reason"] = "stop"
    if kind == "usage":
        event["choices"] = []
    if kind in ("usage", "both"):
        event["usage"] = draw(USAGES)
    space = draw(st.sampled_from([b" ", b""]))
    return b"data:" + space + orjson.dumps(event) + draw(ENDS)


KINDS = ["content", "content", "content", "role", "usage", "comment", "both", "end"]
EMPTY: st.SearchStrategy[object] = st.sampled_from(["", None, False, 0, [], {}])
VALUES = EMPTY | TEXTS | st.sampled_from([1, [0], {"a": ""}, True])
DELTAS = st.none() | st.dictionaries(
    st.sampled_from(["role", "content", "reasoning_content", "refusal", "tool_calls", "x"]), VALUES
)
CHOICES = st.fixed_dictionaries(
    {"index": st.integers(0, 3)},
    optional={"delta": DELTAS, "text": st.none() | TEXTS, "logprobs": st.none()},
)
CHUNKS = st.fixed_dictionaries(
    {"id": TEXTS}, optional={"choices": st.none() | st.lists(CHOICES, max_size=2), "usage": EMPTY}
)


def pretty(chunk: object) -> bytes:
    """An event whose data takes several lines."""
    return orjson.dumps(chunk, option=orjson.OPT_INDENT_2).replace(b"\n", b"\ndata: ")


DUMPS = (orjson.dumps, lambda chunk: json.dumps(chunk).encode(), pretty)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\n\n", b"\r\r"])
STREAMS = st.builds(
    lambda events, done: b"".join(events) + (b"data: [DONE]\n\n" if done else b""),
    st.lists(chunks(), max_size=8),
    st.booleans(),
)
ERRORS = st.builds(
    lambda text, end: b"data:" + orjson.dumps({"error": {"message": text}}) + end, TEXTS, ENDS
)
#: What follows an error is not fed, whatever it is, and however much of it comes with the error.
BROKEN = st.builds(lambda *parts: b"".join(parts), STREAMS, ERRORS, STREAMS)


def read(pieces: list[bytes], *, hides: bool) -> tuple[bytes, EventReader]:
    """Feed a stream as the relay does: nothing follows an error."""
    reader = EventReader(hides_usage=hides)
    out = b""
    for piece in pieces:
        out += reader.feed(piece)
        if reader.error is not None:
            return out, reader
    return out + reader.close(), reader


@given(STREAMS | BROKEN, st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_pieces_make_no_difference(stream: bytes, cuts: list[int], hides: bool) -> None:
    places = sorted({cut for cut in cuts if cut < len(stream)} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    whole, reader = read([stream] if stream else [], hides=hides)
    out, cut_reader = read(pieces, hides=hides)
    assert lines_of(out) == lines_of(whole)
    assert facts(cut_reader) == facts(reader)


@given(STREAMS | BROKEN)
def test_every_byte_alone_makes_no_difference(stream: bytes) -> None:
    whole, reader = read([stream] if stream else [], hides=True)
    out, cut_reader = read([stream[n : n + 1] for n in range(len(stream))], hides=True)
    assert lines_of(out) == lines_of(whole)
    assert facts(cut_reader) == facts(reader)


LINES = st.sampled_from([b"data: a", b"\n", b"\n\n", b"\r", b"\r\n"])


@given(st.lists(LINES, max_size=12).map(b"".join))
def test_events_are_cut_after_all_of_their_empty_lines(stream: bytes) -> None:
    events: list[bytes] = []
    began = at = 0
    while at < len(stream):
        mark = next(
            (one for one in (b"\n\n", b"\n\r\n", b"\r\r") if stream.startswith(one, at)), b""
        )
        at += len(mark) or 1
        if mark:
            while stream[at : at + 1] in (b"\r", b"\n"):
                at += 1
            events.append(stream[began:at])
            began = at
    assert split_events(stream) == events


@given(STREAMS)
def test_nothing_is_lost_or_added_where_usage_is_not_hidden(stream: bytes) -> None:
    out, _ = read([stream], hides=False)
    assert out == stream


@given(STREAMS)
def test_only_events_of_usage_alone_are_hidden(stream: bytes) -> None:
    out, _ = read([stream], hides=True)
    kept = [
        event
        for event in events_of(stream)
        if not (isinstance(event, dict) and event["usage"] and not event["choices"])
    ]
    assert events_of(out) == kept


@given(STREAMS)
def test_the_last_usage_counts(stream: bytes) -> None:
    _, reader = read([stream], hides=True)
    usages = [one["usage"] for one in events_of(stream) if isinstance(one, dict) and one["usage"]]
    assert (reader.usage is not None) == bool(usages)
    if reader.usage is not None:
        assert reader.usage.input_tokens == usages[-1]["prompt_tokens"]
        assert reader.usage.output_tokens == usages[-1]["completion_tokens"]


@given(STREAMS | BROKEN, st.integers(0, 4000))
def test_a_cut_stream_ends_with_a_whole_event(stream: bytes, cut: int) -> None:
    out, _ = read([stream[:cut]], hides=True)
    assert not out or out.endswith((b"\n\n", b"\n\r\n", b"\r\r", b"\n"))
    assert [one for one in events_of(out) if one is not None] == events_of(out)


@example(chunk={"choices": [{"index": 0, "delta": {"role": '"'}}]}, dump=orjson.dumps)
@given(CHUNKS, st.sampled_from(DUMPS))
def test_what_says_something_by_its_bytes_says_it_when_it_is_parsed(
    chunk: dict[str, Any], dump: Callable[[object], bytes]
) -> None:
    assert says_something(b"data: " + dump(chunk) + b"\n\n") == is_content(chunk)


@given(st.lists(CHUNKS, max_size=5), st.integers(0, 60))
def test_what_was_sent_is_final_once_it_exceeds_the_bound(
    sent: list[dict[str, Any]], room: int
) -> None:
    watch = Sent(room)
    for chunk in sent:
        watch.add(b"data: " + orjson.dumps(chunk) + b"\n\n")
    said = [said for chunk in sent for said in said_by(chunk)]
    texts = [one for one in said if isinstance(one, str)]
    assert watch.final == (len(texts) < len(said) or sum(map(len, texts)) > room)


@given(st.lists(CHUNKS, max_size=4), st.sampled_from([(), (("x-switchboard-backend", "ai/two"),)]))
def test_what_joins_in_says_the_same_without_a_role(
    opening: list[dict[str, Any]], headers: Sequence[tuple[str, str]]
) -> None:
    stream = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in opening)
    out = joined(stream, headers)
    told = b"".join(b": %b: %b\n" % (name.encode(), text.encode()) for name, text in headers)
    assert out.startswith(RESTARTED + told + b"\n")
    chunks = events_of(out)
    assert [said_by(one) for one in chunks] == [said_by(one) for one in opening]
    assert not any("role" in (choice.get("delta") or {}) for choice in choices_of(chunks))
    assert opens(out) == opens(stream)


@given(TEXTS, USAGES, st.booleans())
def test_usage_is_found_in_a_whole_answer(text: str, usage: dict[str, int], pretty: bool) -> None:
    option = orjson.OPT_INDENT_2 if pretty else None
    answer = {"choices": [{"message": {"content": text}}], "usage": usage, "system": None}
    found = find_usage(orjson.dumps(answer, option=option))
    assert found is not None
    assert found.input_tokens == usage["prompt_tokens"]
    assert found.output_tokens == usage["completion_tokens"]


@given(st.binary(max_size=200) | TEXTS.map(str.encode))
def test_what_is_no_answer_has_no_usage(raw: bytes) -> None:
    assert find_usage(raw) is None or b'"usage"' in raw


def facts(reader: EventReader) -> tuple[object, ...]:
    usage = reader.usage
    counts = None
    if usage is not None:
        counts = usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.estimated
    return counts, reader.content_events, reader.complete, reader.error


def lines_of(stream: bytes) -> list[bytes]:
    """The lines that are not empty: to which event a further empty one belongs is open."""
    return [line for line in stream.splitlines() if line]


def events_of(stream: bytes) -> list[object]:
    """Read a stream by lines, as a simple client would."""
    data = [
        line.removeprefix(b"data:").strip() for line in stream.splitlines() if line[:5] == b"data:"
    ]
    return ["[DONE]" if one == b"[DONE]" else orjson.loads(one) for one in data]


def choices_of(chunks: list[Any]) -> list[dict[str, Any]]:
    return [choice for chunk in chunks for choice in chunk.get("choices") or ()]


def said_by(chunk: Any) -> list[object]:
    """What a chunk says that is not empty and no role."""
    return [
        said
        for choice in choices_of([chunk])
        for name, said in [*(choice.get("delta") or {}).items(), ("text", choice.get("text"))]
        if said and name != "role"
    ]


def is_content(chunk: dict[str, Any]) -> bool:
    return bool(said_by(chunk))
