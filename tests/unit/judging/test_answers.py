"""What is read out of answers, whole and streamed: text, end, refusal, calls, probabilities."""

from typing import Any

import orjson
import pytest

from switchboard_dataplane.judging.answers import (
    LOGPROB_MIN,
    Hearing,
    Said,
    answer_facts_of,
    reads_as_refusal,
    said_in,
    said_in_stream,
)
from switchboard_policy.facts import ANSWER_FACTS, answer_facts

TOKENS = [{"token": "Forty", "logprob": -0.5, "bytes": None}, {"token": " two", "logprob": -1.5}]


def whole(message: object, **fields: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop", **fields}
    return orjson.dumps({"id": "x", "choices": [choice], "usage": {"prompt_tokens": 1}})


def stream(*choices: dict[str, Any]) -> bytes:
    events = [b"data: %b\n\n" % orjson.dumps({"choices": [{"index": 0, **one}]}) for one in choices]
    return b"".join((*events, b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'))


def test_a_whole_chat_answer_is_read() -> None:
    said = said_in(whole({"content": "Forty two"}, logprobs={"content": TOKENS}), "chat")
    assert (said.text, said.finish_reason, said.logprobs) == ("Forty two", "stop", (-0.5, -1.5))
    assert (said.refused, said.empty, said.cut, said.json, said.tool_calls) == (False,) * 4 + (0,)


def test_a_streamed_chat_answer_is_put_together() -> None:
    events = stream(
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"content": "Forty"}, "logprobs": {"content": TOKENS[:1]}},
        {"delta": {"content": " two"}, "logprobs": {"content": TOKENS[1:]}},
        {"delta": {}, "finish_reason": "length"},
    )
    said = said_in_stream(b": here\n\n" + events + b"data: [DONE]\n\n", "chat")
    assert (said.text, said.finish_reason, said.logprobs) == ("Forty two", "length", (-0.5, -1.5))
    assert said.cut


def test_completions_are_read_in_both_forms() -> None:
    logprobs = {"tokens": ["a", " b"], "token_logprobs": [None, -2], "top_logprobs": None}
    choice = {"text": "a b", "logprobs": logprobs, "finish_reason": "stop"}
    body = orjson.dumps({"choices": [{"index": 0, **choice}]})
    parts = stream({"text": "a"}, {"text": " b", "logprobs": logprobs}, {"finish_reason": "stop"})
    for said in (said_in(body, "completions"), said_in_stream(parts, "completions")):
        assert (said.text, said.finish_reason, said.logprobs) == ("a b", "stop", (-2.0,))


def test_tool_calls_are_counted_and_shown_whole_and_streamed() -> None:
    calls = [
        {"id": "1", "function": {"name": "look", "arguments": '{"at":1}'}},
        {"id": "2", "function": {"name": "stop", "arguments": "{}"}},
    ]
    deltas: list[dict[str, Any]] = [
        {"index": 0, "id": "1", "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"at"'}},
        {"index": 1, "id": "2", "function": {"name": "stop", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    parts = stream(*({"delta": {"tool_calls": [one]}} for one in deltas))
    body = whole({"content": None, "tool_calls": calls}, finish_reason="tool_calls")
    for said in (said_in(body, "chat"), said_in_stream(parts, "chat")):
        assert said.tool_calls == 2
        assert said.shown == 'look({"at":1})\nstop({})'
        assert (said.text, said.empty) == ("", False)


def test_a_function_call_of_the_old_form_is_a_tool_call() -> None:
    body = whole({"content": None, "function_call": {"name": "look", "arguments": "{}"}})
    assert said_in(body, "chat").calls == ("look({})",)


def test_content_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "Forty "}, {"type": "image"}, {"type": "text", "text": "two"}]
    assert said_in(whole({"content": parts}), "chat").text == "Forty two"


def test_of_several_choices_the_first_is_read_wherever_it_stands() -> None:
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert said_in(orjson.dumps({"choices": choices}), "chat").text == "a"
    events = [
        b"data: %b\n\n"
        % orjson.dumps({"choices": [{"index": one % 2, "delta": {"content": text}}]})
        for one, text in enumerate(("a", "x", "b", "y"))
    ]
    assert said_in_stream(b"".join(events), "chat").text == "ab"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"error":{"message":"no"}}',
        b'{"choices":null}',
        b'{"choices":["a"]}',
        b'{"choices":[{"message":"text"}]}',
        b'{"choices":[{"message":{"content":7,"tool_calls":"x","refusal":[]}}]}',
    ],
)
def test_what_is_no_answer_says_nothing(body: bytes) -> None:
    said = said_in(body, "chat")
    assert (said.text, said.empty, said.logprobs) == ("", True, None)
    assert said_in_stream(b"data: " + body + b"\n\n", "chat").empty


def test_a_piece_of_an_event_is_left_out() -> None:
    events = stream({"delta": {"content": "Forty"}})
    assert said_in_stream(events + b'data: {"choices":[{"delta":{"con', "chat").text == "Forty"


def test_a_stream_is_heard_as_it_comes() -> None:
    heard = Hearing("chat")
    heard.add(stream({"delta": {"content": "Forty"}}))
    assert (heard.chars, heard.said().text) == (5, "Forty")
    call = {"index": 0, "function": {"name": "look", "arguments": "{}"}}
    heard.add(stream({"delta": {"content": " two", "tool_calls": [call]}}))
    assert heard.chars == len("Forty two") + len("{}")
    assert heard.said().shown == "Forty two\nlook({})"


def test_probabilities_stay_in_their_bounds() -> None:
    tokens = [{"logprob": one} for one in (-9999.0, 0.3, -1, True, "x", None)]
    said = said_in(whole({"content": "a"}, logprobs={"content": tokens}), "chat")
    assert said.logprobs == (LOGPROB_MIN, 0.0, -1.0)


def test_an_answer_without_probabilities_has_none() -> None:
    absent: list[object] = [None, {}, {"content": None}, {"content": []}, "x"]
    for logprobs in absent:
        assert said_in(whole({"content": "a"}, logprobs=logprobs), "chat").logprobs is None


def test_a_refusal_is_known_by_its_field_its_filter_or_its_words() -> None:
    assert said_in(whole({"content": None, "refusal": "I won't."}), "chat").refused
    assert said_in_stream(stream({"delta": {"refusal": "I won't."}}), "chat").refused
    assert said_in(whole({"content": ""}, finish_reason="content_filter"), "chat").refused
    assert said_in(whole({"content": "I'm sorry, but I can't help with that."}), "chat").refused
    assert not said_in(whole({"content": "Of course."}), "chat").refused


@pytest.mark.parametrize(
    "text",
    [
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "I cannot provide instructions for that.",
        "I can't help with this.",
        "Sorry, I am not able to do that.",
        "I am unable to assist you with this.",
        "Unfortunately, I cannot share personal details.",
        "I must decline this request.",
        "As an AI language model, I cannot browse the internet.",
        "**I apologize, but I won't write that.**",
        "Es tut mir leid, aber das kann ich leider nicht beantworten.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudarte con eso.",
    ],
)
def test_refusals_are_known_by_how_they_begin(text: str) -> None:
    assert reads_as_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 42.",
        "Sorry for the wait! Here it is: 42.",
        "I can help with that. First, open the settings.",
        "You can't divide by zero, so I would check it first.",
        "It is 42. I'm sorry, but I can't say more.",
        "I cannot recommend this book enough!",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not reads_as_refusal(text)


def test_the_facts_are_those_that_conditions_may_read() -> None:
    said = Said('{"a": 1}', finish_reason="stop")
    values = answer_facts_of(said)
    assert values.keys() == ANSWER_FACTS.keys()
    facts = answer_facts()
    bound = facts.bind(values)
    for condition, holds in (
        ("answer.json && answer.length == 8 && answer.finishReason == 'stop'", True),
        ("answer.refused || answer.cut || answer.empty || answer.toolCalls > 0", False),
        ("answer.text.contains('a')", True),
    ):
        assert facts.compile(condition).holds(bound) is holds


@pytest.mark.parametrize(
    ("text", "is_json"),
    [("{}", True), (" [1] \n", True), ("7", True), ("```json\n{}\n```", False), ("{", False)],
)
def test_json_is_json_and_nothing_else(text: str, is_json: bool) -> None:
    assert Said(text).json is is_json


def test_space_alone_is_empty() -> None:
    assert Said(" \n").empty
    assert not Said("", calls=("look()",)).empty
