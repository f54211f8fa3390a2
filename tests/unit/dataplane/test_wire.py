"""The wire, without sockets: what a request says, which headers go on, what a stream tells."""

from typing import Any

import orjson
import pytest

from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.hashing import hash_key
from switchboard_dataplane.decision.match import FACT_READERS
from switchboard_dataplane.decision.request import PROOFS
from switchboard_dataplane.errors import InvalidRequest, UpstreamProtocol
from switchboard_dataplane.wire.asks import Ask, body_for, read_ask, unstreamed
from switchboard_dataplane.wire.events import EventReader, opens
from switchboard_dataplane.wire.headers import join_headers, to_caller, to_upstream
from switchboard_dataplane.wire.hints import read_deadline, read_priority, read_session, read_tags
from switchboard_dataplane.wire.splice import splice, splice_model
from switchboard_dataplane.wire.usage import find_usage, usage_of
from switchboard_policy import ir
from switchboard_policy.ir import Api

USER = [{"role": "user", "content": "hi"}]


def ask(api: Api = "chat", headers: dict[str, str] | None = None, **fields: Any) -> Ask:
    base: dict[str, Any] = {"chat": {"messages": USER}, "completions": {}, "embeddings": {}}[api]
    return read_ask(api, orjson.dumps({"model": "m", **base, **fields}), headers or {})


@pytest.mark.parametrize(
    ("api", "fields", "tokens"),
    [
        ("chat", {}, 1),
        ("chat", {"messages": [{"role": "user", "content": "x" * 400}]}, 100),
        ("chat", {"messages": [{"role": "user", "content": "é" * 200}]}, 100),
        ("chat", {"messages": [*USER, {"role": "assistant", "content": None}]}, 1),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "abcde"}]}]},
            2,
        ),
        ("completions", {"prompt": "x" * 8}, 2),
        ("completions", {"prompt": ["xxxx", "xxxx"]}, 2),
        ("completions", {"prompt": [1, 2, 3]}, 3),
        ("completions", {"prompt": [[1, 2], [3]]}, 3),
        ("completions", {}, 0),
        ("embeddings", {"input": "x" * 9}, 3),
        ("embeddings", {"input": [5] * 7}, 7),
        ("embeddings", {"messages": USER}, 1),
    ],
)
def test_tokens_are_a_quarter_of_the_prompts_bytes_or_its_ids(
    api: Api, fields: dict[str, Any], tokens: int
) -> None:
    assert ask(api, **fields).view.tokens == tokens


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        ("image_url", "image"),
        ("input_audio", "audio"),
        ("audio_url", "audio"),
        ("file", "file"),
        ("video_url", "video"),
        ("text", "text"),
        ("something_new", "text"),
    ],
)
def test_modalities_come_from_content_parts(part: str, modality: str) -> None:
    message = {"role": "user", "content": [{"type": part, "text": "x"}]}
    assert ask(messages=[message]).view.modalities == {"text", modality}


def test_the_facts_of_a_request_are_read() -> None:
    view = ask(
        headers={"x-switchboard-tags": "eu, code", "x-switchboard-session": "s1"},
        stream=True,
        max_tokens=10,
        max_completion_tokens=20,
        tools=[{"type": "function"}],
        response_format={"type": "json_schema", "json_schema": {}},
        user="u1",
        metadata={"team": "red"},
    ).view
    assert (view.api, view.model, view.stream, view.max_tokens) == ("chat", "m", True, 20)
    assert (view.tools, view.json_schema, view.user) == (True, True, "u1")
    assert (view.tags, view.session, view.deadline_ms) == (("eu", "code"), "s1", None)
    assert view.metadata == {"team": "red"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"tools": None},
        {"response_format": {"type": "json_object"}},
        {"stream": None},
    ],
)
def test_what_is_empty_or_null_asks_for_nothing(fields: dict[str, Any]) -> None:
    view = ask(**fields).view
    assert (view.tools, view.json_schema, view.stream) == (False, False, False)


def test_embeddings_are_never_streamed() -> None:
    assert not ask("embeddings", input="x", stream=True).view.stream


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False, "a": 1}}, {"include_usage": True, "a": 1}),
        ({"stream_options": {"include_usage": True, "a": 1}}, {"include_usage": True, "a": 1}),
    ],
)
def test_the_usage_of_a_stream_is_asked_for(
    fields: dict[str, Any], expected: dict[str, object]
) -> None:
    sent = orjson.loads(body_for(ask(stream=True, **fields), "upstream"))
    assert sent["stream_options"] == expected
    assert (sent["model"], sent["messages"]) == ("upstream", USER)


def test_a_whole_answer_is_asked_for_as_it_was() -> None:
    said = ask(temperature=0.5)
    assert body_for(said, "upstream") == said.body.replace(b'"m"', b'"upstream"')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":1}'),
        (b' { "model" : "a" , "x":[{"model":"b"}] } ', b' { "model" : 1 , "x":[{"model":"b"}] } '),
        (b'{"x":"\\"model\\":","model":"a"}', b'{"x":"\\"model\\":","model":1}'),
        (b'{"x\\"model":0,"model":"a"}', b'{"x\\"model":0,"model":1}'),
        (b'{"\\u006dodel":"a","y":{"model":"b"}}', b'{"\\u006dodel":1,"y":{"model":"b"}}'),
        (b'{"model":"a","model":"b"}', b'{"model":1,"model":1}'),
        (b'{"model":"}{\\\\"}', b'{"model":1}'),
        (b'{"model":[{"a":["]"]}],"z":null}', b'{"model":1,"z":null}'),
        (b'{"z":-1.5e3,"model":null}', b'{"z":-1.5e3,"model":1}'),
        (b'{"Model":"a","model":"b"}', b'{"Model":"a","model":1}'),
    ],
)
def test_only_the_top_level_model_is_replaced(body: bytes, expected: bytes) -> None:
    assert splice_model(body, b"1") == expected


@pytest.mark.parametrize("body", [b'{"a"', b'{"a":', b'{"a":[', b'{"model"', b"[]"])
def test_a_splice_of_no_object_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        splice(body, {"model": b"1"})


def test_an_empty_object_takes_a_member() -> None:
    assert splice(b"{ }", {"a": b"1"}) == b'{"a":1 }'


def test_repeated_headers_are_joined_and_bad_bytes_replaced() -> None:
    pairs = [("X-A", "1"), ("x-a", "2"), ("X-B", "caf\udce9")]
    assert join_headers(pairs) == {"x-a": "1, 2", "x-b": "caf\ufffd"}


def test_no_key_of_the_caller_goes_upstream_and_the_backends_does() -> None:
    sent = dict(to_upstream({"authorization": "Bearer a", "x-goog-api-key": "a"}, api_key="k"))
    assert sent["authorization"] == "Bearer k"
    assert "authorization" not in dict(to_upstream({"authorization": "Bearer a"}, api_key=""))
    assert "x-goog-api-key" not in sent


@pytest.mark.parametrize("name", sorted(PROOFS))
def test_what_a_caller_proves_itself_by_goes_nowhere(name: str) -> None:
    headers = {name: "secret", "x-one": "1"}
    assert "secret" not in dict(to_upstream(headers, api_key="k")).values()
    view = ask(headers=headers).view
    assert view.headers == FACT_READERS["request.headers"](view) == {"x-one": "1"}
    key = ir.HashKey(source="header", header=name)
    assert hash_key(view, ir.Balance(by="Hash", key=key)) == b""


def test_what_is_asked_in_whole_is_asked_by_the_same_client() -> None:
    streamed = ask(stream=True)
    streamed.view.client = Client("key", "web", "apps")
    assert unstreamed(streamed).view.client is streamed.view.client


def test_hop_by_hop_headers_of_an_upstream_stay_there() -> None:
    pairs = [("connection", "X-Hop"), ("x-hop", "1"), ("transfer-encoding", "chunked"), ("a", "1")]
    assert to_caller(pairs) == [("a", "1")]


def test_hints_are_optional_and_tags_may_have_gaps() -> None:
    assert (read_tags({}), read_session({}), read_deadline({})) == ((), "", None)
    assert read_priority({}) == 0
    assert read_tags({"x-switchboard-tags": " a,, b:c=1 ,"}) == ("a", "b:c=1")
    assert read_deadline({"x-switchboard-deadline-ms": " 3600000 "}) == 3_600_000
    assert read_priority({"x-switchboard-priority": " -100 "}) == -100


def test_an_error_of_a_hint_names_the_header() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_deadline({"x-switchboard-deadline-ms": "1e3"})
    assert caught.value.param == "x-switchboard-deadline-ms"


def chunk(**delta: Any) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"


@pytest.mark.parametrize(
    "event",
    [
        chunk(content="x"),
        chunk(role="assistant", content="x"),
        chunk(tool_calls=[{"index": 0}]),
        chunk(reasoning_content="x"),
        chunk(refusal="x"),
        b'data: {"choices":[{"text":"x"}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_content_opens_a_stream(event: bytes) -> None:
    assert opens(chunk(role="assistant") + event)


@pytest.mark.parametrize(
    "event",
    [
        b": ping\n\n",
        b"event: start\nid: 1\n\n",
        b"\n\n",
        chunk(role="assistant"),
        chunk(role="assistant", content=""),
        chunk(role="assistant", content=None, tool_calls=[]),
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"choices":[{"text":"","finish_reason":null}]}\n\n',
        b'data: {"choices":null}\n\ndata: {"choices":[7]}\n\n',
    ],
)
def test_a_role_or_a_keep_alive_does_not(event: bytes) -> None:
    assert not opens(event)


@pytest.mark.parametrize("event", [b"data: {\n\n", b"data: 7\n\n", b'data: {"a":1}x\n\n'])
def test_an_event_that_is_no_json_object_is_a_protocol_failure(event: bytes) -> None:
    with pytest.raises(UpstreamProtocol):
        opens(event)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'data: {"error":{"code":1}}\n\n', {"error": {"code": 1}}),
        (b'event: error\ndata: {"message":"x"}\n\n', {"message": "x"}),
        (b"event:  error\r\ndata: sorry\r\n\r\n", {}),
    ],
)
def test_an_error_event_is_held_back_with_what_follows_it(
    event: bytes, error: dict[str, Any]
) -> None:
    reader = EventReader()
    assert reader.feed(chunk(content="x") + event + b"data: [DONE]\n\n") == chunk(content="x")
    assert (reader.error, reader.error_event, reader.complete) == (error, event, False)


@pytest.mark.parametrize("content", [b"", chunk(content="x")])
def test_what_comes_with_a_hidden_usage_goes_out(content: bytes) -> None:
    reader = EventReader(hides_usage=True)
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    assert reader.feed(b": a\n\n" + content + usage + b": b\n\n") == (
        b": a\n\n" + content + b": b\n\n"
    )
    assert reader.usage is not None


def test_an_error_after_the_end_is_none() -> None:
    reader = EventReader()
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    late = b'data: {"error":{"code":1}}\n\n'
    assert reader.feed(end + late) == end + late
    assert (reader.error, reader.complete) == (None, True)


def test_no_error_is_none() -> None:
    reader = EventReader()
    reader.feed(b'data: {"error":null,"choices":[]}\n\ndata: {"error" : "" }\n\n')
    assert reader.error is None


def test_what_a_model_says_about_errors_is_no_error() -> None:
    reader = EventReader()
    reader.feed(chunk(content='{"error": "no"} data: {"error": 1} [DONE] "finish_reason":"stop"'))
    assert (reader.error, reader.complete) == (None, False)


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', (3, 4, 0)),
        (b'{"usage":null}', None),
        (b'{"usage":{}}', None),
        (b'{"usage":{"prompt_tokens":3', None),
        (b'{"content":"\\"usage\\":{\\"prompt_tokens\\":9}"}', None),
        (b'{"x\\"usage":{"prompt_tokens":9}}', None),
        (b'{"usage":{"prompt_tokens":1},"a":{"usage" : {"completion_tokens":2}}}', (0, 2, 0)),
        (b'{"usage":{"prompt_tokens":"3","completion_tokens":-4}}', (0, 0, 0)),
        (
            b'{"usage":{"prompt_tokens":9,"completion_tokens":1,'
            b'"prompt_tokens_details":{"cached_tokens":7}},"z":{"a":{}}}',
            (9, 1, 7),
        ),
    ],
)
def test_usage_is_found_at_the_end_of_an_answer(
    answer: bytes, counts: tuple[int, int, int] | None
) -> None:
    usage = find_usage(b'{"pad":"' + b"x" * 50_000 + b'",' + answer[1:])
    if usage is None:
        assert counts is None
    else:
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == counts
        assert not usage.estimated


@pytest.mark.parametrize("value", [None, 7, [], {"total_tokens": 5}])
def test_what_counts_nothing_is_no_usage(value: object) -> None:
    assert usage_of(value) is None
