"""What is read from a request, and what is answered: pure."""

import base64
import math
import struct
from dataclasses import replace

import orjson
import pytest

from switchboard_cli.fake_model.answers import Script, Voice, compose
from switchboard_cli.fake_model.asks import Api, Ask, count_tokens, read_ask
from switchboard_cli.fake_model.embeddings import embed, render_embeddings
from switchboard_cli.fake_model.errors import RefusedError
from switchboard_cli.fake_model.samples import sample

ASK = Ask(
    model="m",
    stream=False,
    include_usage=False,
    max_tokens=None,
    prompt_tokens=1,
    texts=("hello",),
    tool=None,
    schema=None,
)


def test_tokens_are_utf8_bytes_by_four_rounded_up() -> None:
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde", "äöü")] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("tokens", [1, 3, 4, 16, 1000])
def test_an_answer_has_exactly_the_wanted_number_of_words(tokens: int) -> None:
    script = Script(name="north", fixed_text=None)
    made = compose(ASK, script, answer_id="1", answer_tokens=tokens, refuse=False)
    assert len(made.pieces) == len("".join(made.pieces).split()) == tokens
    assert "This is north answering:".startswith("".join(made.pieces[:4]))
    assert made.finish == "stop"


def test_a_fixed_text_is_said_to_the_letter() -> None:
    text = " Two  words,\nthree\tlines \n"
    script = Script(name="north", fixed_text=text)
    made = compose(ASK, script, answer_id="1", answer_tokens=99, refuse=False)
    assert "".join(made.pieces) == text
    assert len(made.pieces) == len(script.tails(Api.CHAT, 99))


def test_max_tokens_cuts_every_kind_of_answer() -> None:
    script = Script(name="north", fixed_text=None)
    short = replace(ASK, max_tokens=2)
    for ask, refuse in (
        (short, False),
        (short, True),
        (replace(short, schema={"const": "long enough"}), False),
        (replace(short, schema={"const": "long enough"}, tool="t"), False),
    ):
        made = compose(ask, script, answer_id="1", answer_tokens=9, refuse=refuse)
        assert (len(made.pieces), made.finish) == (2, "length")


def test_max_tokens_that_fit_the_answer_stop_it_normally() -> None:
    script = Script(name="north", fixed_text=None)
    made = compose(replace(ASK, max_tokens=9), script, answer_id="1", answer_tokens=9, refuse=False)
    assert (len(made.pieces), made.finish) == (9, "stop")


def test_a_schema_is_answered_with_a_value_that_fits_it() -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {
            "city": {"$ref": "#/$defs/City"},
            "unit": {"enum": ["celsius", "kelvin"]},
            "days": {"type": "array", "items": {"type": "integer"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "home": {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}]},
            "certain": {"type": ["boolean", "null"]},
            "none": {"type": "null"},
        },
        "$defs": {"City": {"type": "object", "properties": {"name": {"const": "Bern"}}}},
    }
    assert sample(schema, text="x") == {
        "city": {"name": "Bern"},
        "unit": "celsius",
        "days": [1],
        "note": "x",
        "home": {"name": "Bern"},
        "certain": True,
        "none": None,
    }


def test_a_schema_that_refers_to_itself_ends() -> None:
    node = {"type": "object", "properties": {"n": {"$ref": "#/$defs/Node"}}}
    loop: dict[str, object] = {"$ref": "#/$defs/Node", "$defs": {"Node": node}}
    assert orjson.dumps(sample(loop, text="x")).count(b'"n"') < 20


def _chat(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "call:look please"}], **fields}


_TOOLS = [{"type": "function", "function": {"name": "look"}}]


def test_a_tool_is_called_only_if_it_is_asked_for_offered_and_allowed() -> None:
    assert read_ask(Api.CHAT, _chat(tools=_TOOLS)).tool == "look"
    assert read_ask(Api.CHAT, _chat()).tool is None
    assert read_ask(Api.CHAT, _chat(tools=[])).tool is None
    assert read_ask(Api.CHAT, _chat(tools=_TOOLS, tool_choice="none")).tool is None


def test_a_tool_that_has_answered_is_not_called_again() -> None:
    turns = [{"role": "user", "content": "call:look"}, {"role": "tool", "content": "a hill"}]
    assert read_ask(Api.CHAT, _chat(messages=turns, tools=_TOOLS)).tool is None


def test_prompt_tokens_count_the_text_of_all_messages_and_parts() -> None:
    turns = [
        {"role": "system", "content": "abcd"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "abcdefgh"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {"role": "assistant", "content": None},
    ]
    assert read_ask(Api.CHAT, _chat(messages=turns)).prompt_tokens == 3


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("abcde", 2), (["abcd", "abcd"], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3)]
)
def test_a_prompt_is_text_texts_or_token_ids(prompt: object, tokens: int) -> None:
    for api in (Api.COMPLETIONS, Api.EMBEDDINGS):
        ask = read_ask(api, {"model": "m", api.prompt_field: prompt})
        assert ask.prompt_tokens == tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens"),
        ({"model": None}, None),
    ],
)
def test_a_request_that_openai_would_refuse_is_refused(
    fields: dict[str, object], param: str | None
) -> None:
    with pytest.raises(RefusedError) as refused:
        read_ask(Api.CHAT, _chat(**fields))
    assert (refused.value.answer.status, refused.value.answer.param) == (400, param)


def test_an_embedding_is_a_unit_vector_of_the_text_alone() -> None:
    vector = embed("hello", 64)
    assert len(vector) == 64
    assert math.isclose(math.hypot(*vector), 1.0)
    assert vector == embed("hello", 64) != embed("hullo", 64)


def test_base64_and_numbers_say_the_same_embedding() -> None:
    plain, packed = (
        orjson.loads(
            render_embeddings(
                ["a", "b"], model="m", dimensions=8, in_base64=in_base64, prompt_tokens=2
            )
        )["data"]
        for in_base64 in (False, True)
    )
    unpacked = struct.unpack("<8f", base64.b64decode(packed[1]["embedding"]))
    assert unpacked == pytest.approx(plain[1]["embedding"], abs=1e-7)
    assert [item["index"] for item in plain] == [0, 1]


def test_a_refusal_is_its_own_voice() -> None:
    script = Script(name="north", fixed_text=None)
    made = compose(ASK, script, answer_id="1", answer_tokens=9, refuse=True)
    assert (made.voice, made.finish) == (Voice.REFUSAL, "content_filter")
