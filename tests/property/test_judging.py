"""Judging anything at all: it never raises, keeps its bounds, and hostile text costs no time."""

import re
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.policies import view
from switchboard_cli.fake_model import answers as fake
from switchboard_cli.fake_model.asks import Api, Ask
from switchboard_cli.fake_model.lines import Cue
from switchboard_dataplane.judging.agreement import agreement, same
from switchboard_dataplane.judging.answers import Hearing, Said, said_in, said_in_stream
from switchboard_dataplane.judging.confidence import confidence_of
from switchboard_dataplane.judging.prompts import (
    choice_payload,
    read_choice,
    read_name,
    read_score,
)
from switchboard_dataplane.judging.votes import most_common
from switchboard_policy import ir

KEYS = st.sampled_from(
    [
        *("choices", "message", "delta", "content", "refusal", "tool_calls", "function", "name"),
        *("index", "arguments", "logprobs", "token_logprobs", "logprob", "text", "finish_reason"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={"message": JSON, "delta": JSON, "text": JSON, "logprobs": JSON, "index": JSON},
)
APIS = st.sampled_from(["chat", "completions"])
#: Text that is more likely to mean something to a comparison than chance is.
PIECES = st.sampled_from(
    [
        *("The answer is ", "#### ", r"\boxed{", "}", "A:", "{", "[", '"a":', "```json\n", "\n```"),
        *("42", "7", "3/4", "1,000", "-", "$", "=", " ", "\n", ".", "yes", "No", "B", "(C)", "not"),
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60)


@given(body=st.binary() | JSON.map(orjson.dumps), api=APIS)
def test_any_answer_is_read(body: bytes, api: ir.Api) -> None:
    _all_of(said_in(body, api))
    _all_of(said_in_stream(body, api))


@given(choices=st.lists(CHOICE, max_size=4), api=APIS)
def test_any_choices_are_read(choices: list[dict[str, Any]], api: ir.Api) -> None:
    _all_of(said_in(orjson.dumps({"choices": choices}), api))
    events = [b"data: %b\n\n" % orjson.dumps({"choices": [choice]}) for choice in choices]
    _all_of(said_in_stream(b"".join(events), api))


def _all_of(said: Said) -> None:
    assert isinstance(said.text, str)
    assert isinstance(said.shown, str)
    assert said.tool_calls == len(said.calls)
    assert {said.refused, said.cut, said.empty, said.json} <= {True, False}
    assert 0 <= confidence_of(said.logprobs) <= 1


@given(
    text=st.text(st.characters(codec="utf-8")),
    confidence=st.floats(0.01, 1),
    api=st.sampled_from([Api.CHAT, Api.COMPLETIONS]),
    cut=st.integers(0, 9),
)
def test_a_streamed_answer_says_what_the_whole_one_says(
    text: str, confidence: float, api: Api, cut: int
) -> None:
    ask = Ask(
        model="m",
        stream=True,
        include_usage=False,
        max_tokens=None,
        prompt_tokens=1,
        texts=(),
        tool=None,
        schema=None,
        logprobs=True,
    )
    script = fake.Script(name="m", fixed_text=None)
    made = fake.compose(
        ask,
        script,
        answer_id="1",
        answer_tokens=9,
        refuse=False,
        cue=Cue(text, None),
        confidence=confidence,
    )
    envelope = fake.Envelope(id="1", created=1, model="m", fingerprint="f")
    name: ir.Api = "chat" if api is Api.CHAT else "completions"
    whole = said_in(fake.whole_body(api, made, envelope, prompt_tokens=1), name)
    head = fake.chunk_head(api, envelope, include_usage=False)
    tails = fake.stream_tails(api, made, script)
    events = [head + tail for tail in (tails.opening, *tails.tokens, tails.closing) if tail]
    streamed = said_in_stream(b"".join((*events, fake.DONE)), name)
    assert vars(streamed) == vars(whole)
    assert whole.text == text
    heard = Hearing(name)
    heard.add(b"".join(events[:cut]))
    heard.add(b"".join(events[cut:]))
    assert vars(heard.said()) == vars(whole)


@given(first=TEXTS, second=TEXTS)
def test_agreement_is_a_share_whatever_the_order(first: str, second: str) -> None:
    found = agreement(first, second)
    assert 0 <= found <= 1
    assert found == agreement(second, first)
    assert agreement(first, f" {first}\n") == 1


@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_the_winner_has_the_most_votes(texts: list[str]) -> None:
    winner, count = most_common(texts)
    if not any(text.strip() for text in texts):
        assert count == 0
        return
    others = [text for at, text in enumerate(texts) if at != winner]
    assert count == 1 + sum(same(texts[winner], other) for other in others)


@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=4), asked=st.text(max_size=99))
def test_whatever_is_judged_stays_between_its_marks(texts: list[str], asked: str) -> None:
    payload = choice_payload(view(asked), texts, order=list(range(len(texts))))
    shown = payload["messages"][1]["content"]
    mark = re.match(r"<request (\w{16})>\n", shown)
    assert mark is not None
    parts = [("request", asked), *((f"answer {at}", text) for at, text in enumerate(texts, 1))]
    fences = [f"<{name} {mark[1]}>\n{text}\n</{name} {mark[1]}>" for name, text in parts]
    assert shown.startswith("\n\n".join(fences))
    assert shown.count(mark[1]) == 2 * len(parts)


@given(reply=st.text() | st.from_regex(r"[Ss]core:? \d{1,3}(\.\d+)?(/10)?|#?\d{1,4}"))
def test_any_reply_is_read_or_is_not(reply: str) -> None:
    score = read_score(reply)
    assert score is None or 0 <= score <= 1
    place = read_choice(reply, 3)
    assert place is None or place in range(3)
    assert read_name(reply, ["small", "large"]) in (None, 0, 1)


HOSTILE = {
    "answers": "the answer is ",
    "boxes": r"\boxed{",
    "brackets": "[",
    "commas": "1,",
    "digits": "1",
    "dots": ".",
    "fences": "```a\n",
    "fractions": r"\frac{",
    "lines": "x\n",
    "objects": '{"a":',
    "slashes": "1/",
    "sorry": "sorry i ",
    "spaces": " ",
    "stars": "*",
    "words": "some words and more ",
}
HOSTILE_CHARS = 200_000
HOSTILE_S = 0.15


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_answers_cost_no_time(piece: str) -> None:
    text = piece * (HOSTILE_CHARS // len(piece))
    took = min(_compared_s(text) for _ in range(3))
    assert took < HOSTILE_S


def _compared_s(text: str) -> float:
    start = time.thread_time()
    agreement(text, f"{text}y")
    assert Said(f"{text}y").refused in (True, False)
    read_score(text)
    return time.thread_time() - start
