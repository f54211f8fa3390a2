"""A stream reads the same whatever the pieces in which it arrives."""

from itertools import pairwise

import orjson
from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.wire.events import EventReader
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
    kind = draw(st.sampled_from(["content", "content", "role", "usage", "comment", "both", "end"]))
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


ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\n\n", b"\r\r"])
STREAMS = st.builds(
    lambda events, done: b"".join(events) + (b"data: [DONE]\n\n" if done else b""),
    st.lists(chunks(), max_size=8),
    st.booleans(),
)


def read(pieces: list[bytes], *, hides: bool) -> tuple[bytes, EventReader]:
    reader = EventReader(hides_usage=hides)
    out = b"".join([reader.feed(piece) for piece in pieces])
    return out + reader.close(), reader


@given(STREAMS, st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_pieces_make_no_difference(stream: bytes, cuts: list[int], hides: bool) -> None:
    places = sorted({cut for cut in cuts if cut < len(stream)} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    whole, reader = read([stream] if stream else [], hides=hides)
    out, cut_reader = read(pieces, hides=hides)
    assert lines_of(out) == lines_of(whole)
    assert facts(cut_reader) == facts(reader)


@given(STREAMS)
def test_every_byte_alone_makes_no_difference(stream: bytes) -> None:
    whole, reader = read([stream] if stream else [], hides=True)
    out, cut_reader = read([stream[n : n + 1] for n in range(len(stream))], hides=True)
    assert lines_of(out) == lines_of(whole)
    assert facts(cut_reader) == facts(reader)


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


@given(STREAMS, st.integers(0, 4000))
def test_a_cut_stream_ends_with_a_whole_event(stream: bytes, cut: int) -> None:
    out, _ = read([stream[:cut]], hides=True)
    assert not out or out.endswith((b"\n\n", b"\n\r\n", b"\r\r", b"\n"))
    assert [one for one in events_of(out) if one is not None] == events_of(out)


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
    return counts, reader.data_events, reader.complete, reader.failed


def lines_of(stream: bytes) -> list[bytes]:
    """The lines that are not empty: to which event a further empty one belongs is open."""
    return [line for line in stream.splitlines() if line]


def events_of(stream: bytes) -> list[object]:
    """Read a stream by lines, as a simple client would."""
    data = [
        line.removeprefix(b"data:").strip() for line in stream.splitlines() if line[:5] == b"data:"
    ]
    return ["[DONE]" if one == b"[DONE]" else orjson.loads(one) for one in data]
