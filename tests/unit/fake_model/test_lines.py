"""Scripted answers: a fake model says what its table says, and is as sure of it."""

import math
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchboard_cli.fake_model.asks import Api, read_ask
from switchboard_cli.fake_model.lines import Line, LineError, Lines
from switchboard_cli.fake_model.settings import Settings, SettingsError, read_settings
from switchboard_dataplane.judging.answers import Said, said_in, said_in_stream
from switchboard_dataplane.judging.confidence import confidence_of
from unit.fake_model.caller import CHAT, Fake, StartFake

COMPLETIONS = "/v1/completions"
TABLE: list[dict[str, object]] = [
    {"prompt": "What is 6 * 7?", "say": "The answer is 42."},
    {"prompt": "What is 17 * 3?", "say": "The answer is 54.", "confidence": 0.4},
]
JUDGE: list[dict[str, object]] = [
    {"matches": r"<answer (\d+) \w+>\n[^<]*\b51\b", "say": r"\1"},
    {"matches": r"<answer \w+>\n[^<]*\b54\b", "say": "2"},
]


async def said(fake: Fake, text: str, **fields: object) -> Said:
    return said_in((await fake.chat(text, **fields)).body, "chat")


async def test_a_model_answers_what_its_table_says(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE, answer_text="I do not know.")
    assert (await said(fake, " What is 6 * 7?\n")).text == "The answer is 42."
    assert (await said(fake, "What is 17 * 3?")).text == "The answer is 54."
    assert (await said(fake, "What is 1 + 1?")).text == "I do not know."
    streamed = await fake.chat("What is 6 * 7?", stream=True)
    assert said_in_stream(streamed.body, "chat").text == "The answer is 42."


async def test_the_last_user_message_is_what_is_asked(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE)
    turns = [
        {"role": "system", "content": "What is 17 * 3?"},
        {"role": "user", "content": "What is 17 * 3?"},
        {"role": "assistant", "content": "54"},
        {"role": "user", "content": [{"type": "text", "text": "What is 6 * 7?"}]},
    ]
    reply = await fake.send("POST", CHAT, {"model": "fake-model", "messages": turns})
    assert said_in(reply.body, "chat").text == "The answer is 42."


async def test_a_prompt_is_answered_from_the_table_too(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE)
    body = {"model": "fake-model", "prompt": "What is 17 * 3?", "logprobs": 0}
    for stream, read in ((False, said_in), (True, said_in_stream)):
        reply = await fake.send("POST", COMPLETIONS, {**body, "stream": stream})
        heard = read(reply.body, "completions")
        assert heard.text == "The answer is 54."
        assert confidence_of(heard.logprobs) == pytest.approx(0.4)


async def test_logprobs_come_to_who_asks_for_them(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE, confidence=0.8)
    for text, confidence in (("What is 17 * 3?", 0.4), ("What is 6 * 7?", 0.8), ("hello", 0.8)):
        for stream, read in ((False, said_in), (True, said_in_stream)):
            asked = await fake.chat(text, stream=stream, logprobs=True)
            heard = read(asked.body, "chat")
            assert heard.logprobs is not None
            assert len(heard.logprobs) == len(heard.text.split())
            assert confidence_of(heard.logprobs) == pytest.approx(confidence)
            unasked = await fake.chat(text, stream=stream)
            assert read(unasked.body, "chat").logprobs is None


async def test_logprobs_have_the_form_of_the_api(start_fake: StartFake) -> None:
    fake = await start_fake(answer_text="Forty two", confidence=0.5)
    choice = (await fake.chat(logprobs=True)).json["choices"][0]
    first = {
        "token": "Forty",
        "logprob": math.log(0.5),
        "bytes": list(b"Forty"),
        "top_logprobs": [],
    }
    assert choice["logprobs"]["content"][0] == first
    assert choice["logprobs"]["refusal"] is None
    body = {"model": "fake-model", "prompt": "x", "logprobs": 1}
    choice = (await fake.send("POST", COMPLETIONS, body)).json["choices"][0]
    assert choice["logprobs"]["tokens"] == ["Forty", " two"]
    assert choice["logprobs"]["text_offset"] == [0, 5]


async def test_a_refusal_tells_its_logprobs_and_a_tool_call_none(start_fake: StartFake) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    fake = await start_fake(confidence=0.5)
    assert (await said(fake, "call:look", tools=tools, logprobs=True)).logprobs is None
    refusing = await start_fake(confidence=0.5, faults=["refusal"])
    heard = await said(refusing, "hello", logprobs=True)
    assert heard.refused
    assert confidence_of(heard.logprobs) == pytest.approx(0.5)


async def test_a_model_may_know_no_logprobs(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE, logprobs=False)
    assert (await said(fake, "What is 17 * 3?", logprobs=True)).logprobs is None


async def test_no_confidence_at_all_is_told_as_openai_does(start_fake: StartFake) -> None:
    fake = await start_fake(confidence=0)
    choice = (await fake.chat(logprobs=True)).json["choices"][0]
    assert choice["logprobs"]["content"][0]["logprob"] == -9999.0


async def test_a_judge_goes_by_what_the_question_holds(start_fake: StartFake) -> None:
    judge = await start_fake(lines=JUDGE, answer_text="9")
    scores = [f"<answer ab12>\nIt is {number}.\n</answer ab12>" for number in (54, 42)]
    assert [(await said(judge, text)).text for text in scores] == ["2", "9"]
    several = "<answer 1 ab>\nIt is 54.\n</answer 1 ab>\n<answer 2 ab>\nIt is 51.\n</answer 2 ab>"
    assert (await said(judge, several)).text == "2"


async def test_a_table_changes_while_the_model_runs(start_fake: StartFake) -> None:
    fake = await start_fake(lines=TABLE)
    shown = await fake.send("PATCH", "/control", {"lines": [{"prompt": "hello", "say": "bye"}]})
    assert shown.json["settings"]["lines"] == 1
    assert (await said(fake, "hello")).text == "bye"
    assert (await said(fake, "What is 6 * 7?")).text.startswith("This is fake")
    await fake.send("POST", "/control/reset")
    assert (await said(fake, "What is 6 * 7?")).text == "The answer is 42."


async def test_max_tokens_cut_a_scripted_answer_and_refusals_go_before_it(
    start_fake: StartFake,
) -> None:
    fake = await start_fake(lines=TABLE)
    cut = await said(fake, "What is 6 * 7?", max_tokens=2)
    assert (cut.text, cut.finish_reason) == ("The answer", "length")
    refusing = await start_fake(lines=TABLE, faults=["refusal"])
    assert (await said(refusing, "What is 6 * 7?")).refused


def test_a_file_of_lines_is_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(one) for one in TABLE) + b"\n\n")
    settings = read_settings({"lines": str(path)}, {})
    assert settings.lines == tuple(Line.from_json(one) for one in TABLE)
    assert read_settings({}, {"SWITCHBOARD_FAKE_MODEL_LINES": str(path)}) == settings


@pytest.mark.parametrize("content", [None, b"{", b'"text"', b'{"say":"x"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "lines.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"\(--lines\)"):
        read_settings({"lines": str(path)}, {})


@pytest.mark.parametrize(
    ("fields", "said_of_it"),
    [
        ({"say": "x"}, "one of prompt and matches"),
        ({"say": "x", "prompt": "a", "matches": "b"}, "one of prompt and matches"),
        ({"prompt": "a"}, "a line has say"),
        ({"say": "x", "prompt": "a", "tokens": 3}, "a line has say"),
        ({"say": 7, "prompt": "a"}, "say must be text"),
        ({"say": "x", "matches": "("}, "matches: '('"),
        ({"say": r"\2", "matches": "(a)"}, "invalid group reference"),
        ({"say": "x", "prompt": "a", "confidence": 2}, "confidence must be in 0..1"),
        ({"say": "x", "prompt": "a", "confidence": True}, "confidence must be a number"),
    ],
)
def test_a_line_that_cannot_be_is_refused(fields: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(LineError, match=said_of_it.replace("(", r"\(")):
        Line.from_json(fields)


def test_a_table_without_lines_says_nothing() -> None:
    ask = read_ask(Api.CHAT, {"model": "m", "messages": [{"role": "user", "content": ""}]})
    assert Lines(()).answer_to(ask) is None
    assert Settings().lines == ()
