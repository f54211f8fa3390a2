"""An answer goes out with the usage of all that was asked for it, and otherwise as it came."""

from typing import Any

import orjson
import pytest

from switchboard_dataplane.wire.edits import Edits
from switchboard_dataplane.wire.events import EventReader
from switchboard_dataplane.wire.usage import Usage

BESIDE = Usage(10, 20)


def event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def test_a_whole_answers_usage_is_the_total_and_all_else_stays_to_the_byte() -> None:
    body = (
        b'{ "id":1.50, "choices":[ {"text":"\\u0061"} ],"usage":'
        b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"x":{"y":4}} }'
    )
    edited = Edits(BESIDE).whole(body, None)
    head, _, _ = body.partition(b'{"prompt')
    assert edited.startswith(head)
    assert edited.endswith(b"} }")
    assert orjson.loads(edited)["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 22,
        "total_tokens": 33,
        "x": {"y": 4},
    }


@pytest.mark.parametrize("usage", [b"", b',"usage":null', b',"usage":7'])
def test_an_answer_that_tells_no_usage_is_told_what_is_estimated(usage: bytes) -> None:
    body = b'{"choices":[]' + usage + b"}"
    edited = orjson.loads(Edits(BESIDE).whole(body, Usage(1, 2, estimated=True)))
    assert edited["usage"] == {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    assert orjson.loads(Edits(BESIDE).whole(body, None))["usage"]["total_tokens"] == 30


@pytest.mark.parametrize("body", [b"{nonsense}", b"[1]", b'"usage"', b""])
def test_what_is_no_answer_goes_out_as_it_came(body: bytes) -> None:
    assert Edits(BESIDE, hides_logprobs=True).whole(body, None) == body


def test_nothing_to_change_changes_nothing() -> None:
    edits, body = Edits(None), b'{ "usage" : {"prompt_tokens": 1}, "logprobs": [1] }'
    assert not edits.needed
    assert edits.whole(body, None) == body
    events = event(usage={"prompt_tokens": 1}, choices=[{"logprobs": {"content": []}}])
    assert edits.events(events) == events


def test_probabilities_are_left_out_of_all_choices() -> None:
    body = orjson.dumps(
        {"choices": [{"logprobs": {"content": [1]}}, {"logprobs": None}, {}, 7], "id": "x"}
    )
    edited = orjson.loads(Edits(None, hides_logprobs=True).whole(body, None))
    assert edited == {"choices": [{"logprobs": None}, {"logprobs": None}, {}, 7], "id": "x"}


def test_only_events_with_something_to_change_are_changed() -> None:
    content = b'data: {"choices":[{"delta":{"content":"\\u0061 \\"usage\\" b"}}]}\n\n'
    comment = b": usage\n\n"
    usage = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2})
    none = b'data: {"choices": [], "usage":null}\n\n'
    edited = Edits(BESIDE).events(comment + content + none + usage + b"data: [DONE]\n\n")
    assert edited.startswith(comment + content + none)
    assert edited.endswith(b"data: [DONE]\n\n")
    assert b'"total_tokens":33' in edited


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_stream_is_edited_alike_in_whatever_pieces_it_comes(size: int) -> None:
    stream = b"".join(
        [
            event(
                choices=[{"delta": {"content": "a"}, "logprobs": {"content": [{"logprob": -1}]}}]
            ),
            event(choices=[{"delta": {}, "finish_reason": "stop"}]),
            event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}),
            b"data: [DONE]",
        ]
    )
    reader = EventReader()
    reader.edit = Edits(BESIDE, hides_logprobs=True).events
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    out = b"".join([*map(reader.feed, pieces), reader.close()])
    assert b'"logprob"' not in out
    assert b'"total_tokens":33' in out
    assert out.endswith(b"data: [DONE]\n\n")
    # What is accounted for is what the answer itself took.
    assert reader.usage is not None
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (1, 2)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_stream_that_tells_no_usage_is_told_what_is_known_before_its_end(size: int) -> None:
    heading = {"id": "x", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    content = event(**heading, choices=[{"delta": {"content": "a [DONE] b"}}], usage=None)
    stream = content + b"data: [DONE]\n\n"
    reader = EventReader()
    reader.edit = Edits(BESIDE, known=lambda: Usage(11, 22, estimated=True)).events
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    out = b"".join([*map(reader.feed, pieces), reader.close()])
    usage = {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}
    assert out == content + event(**heading, choices=[], usage=usage) + b"data: [DONE]\n\n"


def test_a_stream_that_tells_its_usage_or_was_asked_for_none_is_told_no_other() -> None:
    usage = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2})
    told = Edits(BESIDE, known=lambda: Usage(7, 7)).events(usage + b"data: [DONE]\n\n")
    assert told.count(b'"total_tokens"') == 1
    assert b'"total_tokens":33' in told
    assert Edits(BESIDE).events(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    unknown = Edits(BESIDE, known=lambda: None)
    assert unknown.events(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
