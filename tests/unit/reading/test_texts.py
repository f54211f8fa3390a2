"""Which texts a reading reads, what counts as unread, and how a text is cut and folded."""

# ruff: noqa: RUF001

from typing import Any

import pytest

from fakes.policies import view
from switchboard_dataplane.reading.texts import (
    OVERLAP_CHARS,
    SCAN_CHARS_MAX,
    SLICE_CHARS,
    Slice,
    all_messages,
    fold,
    head_and_tail,
    last_user_turn,
    slices,
    start_of,
    untrusted_messages,
    whole,
)


def messages(*said: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(said), **fields}


CONVERSATION = messages(
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "first"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "the result"},
    {"role": "user", "content": [{"type": "text", "text": "last"}, "and more"]},
    {"role": "assistant", "content": "so far"},
    tools=[{"type": "function", "function": {"name": "look_up", "description": "of people"}}],
)


def test_the_last_user_turn_is_the_last_message_of_the_user_with_all_its_parts() -> None:
    assert last_user_turn(view(payload=CONVERSATION)) == "last\nand more"


@pytest.mark.parametrize(
    ("payload", "turn"),
    [
        ({"prompt": "finish this"}, "finish this"),
        ({"prompt": ["a", "b"]}, "a\nb"),
        ({"input": "embed this"}, "embed this"),
        ({"prompt": [1, 2, 3]}, ""),
        (messages({"role": "system", "content": "x"}), ""),
        (messages(), ""),
        ({"messages": ["odd", None, 3]}, ""),
        ({"messages": [{"role": []}, {"role": {}}]}, ""),
        ({}, ""),
    ],
)
def test_a_request_without_messages_of_a_user_has_its_prompt_or_nothing(
    payload: dict[str, Any], turn: str
) -> None:
    assert last_user_turn(view(payload=payload)) == turn


@pytest.mark.parametrize(
    ("api", "fields", "said"),
    [
        ("completions", {"prompt": "asked"}, "asked"),
        ("completions", {"prompt": "asked", "input": "decoy"}, "asked"),
        ("completions", {}, ""),
        ("embeddings", {"input": "asked"}, "asked"),
        ("embeddings", {"input": "asked", "prompt": "decoy"}, "asked"),
        ("embeddings", {"input": None}, "decoy"),
        ("chat", {"prompt": "asked", "input": "asked"}, "decoy"),
    ],
)
def test_what_the_api_does_not_read_takes_the_place_of_nothing(
    api: str, fields: dict[str, Any], said: str
) -> None:
    decoys = [{"role": role, "content": "decoy"} for role in ("system", "user")]
    asked = view(api=api, payload={"messages": decoys, **fields})
    assert (last_user_turn(asked), asked.prompt) == (said, said)
    assert asked.system == ("decoy" if said == "decoy" else "")


def test_all_messages_hold_every_string_that_is_sent() -> None:
    scope = all_messages(view(payload={**CONVERSATION, "model": "never", "user": "u-17"}))

    for said in ("be kind", "first", '{"q": "x"}', "the result", "last", "so far", "of people"):
        assert said in scope.text
    assert "u-17" in scope.text
    assert "never" not in scope.text
    assert not scope.unread


def test_names_of_fields_are_read_too() -> None:
    scope = all_messages(view(payload=messages(metadata={"jane@example.com": "1"})))

    assert "jane@example.com" in scope.text


def test_untrusted_messages_leave_out_the_operators_own() -> None:
    text = untrusted_messages(view(payload=CONVERSATION)).text

    assert "first" in text
    assert "the result" in text
    assert "be kind" not in text
    assert "of people" not in text


def test_untrusted_messages_of_a_completion_are_its_prompt() -> None:
    assert untrusted_messages(view(payload={"prompt": "ignore"})).text == "ignore"


def test_a_message_of_an_odd_role_is_not_the_operators() -> None:
    odd = messages({"role": ["system"], "content": "ignore"}, prompt="all rules")

    text = untrusted_messages(view(payload=odd)).text

    assert "ignore" in text
    assert "all rules" in text


@pytest.mark.parametrize(
    ("part", "unread"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}, "image"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "image"),
        ({"type": "input_audio", "input_audio": {"data": "UklGR" * 40, "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBER"}}, "file"),
        ({"type": "video_url", "video_url": {"url": "https://x.example/v"}}, "video"),
        ({"type": "hologram", "hologram": "?"}, "other"),
    ],
)
def test_what_is_no_text_is_unread(part: dict[str, Any], unread: str) -> None:
    scope = all_messages(view(payload=messages({"role": "user", "content": [part]})))

    assert unread in scope.unread


def test_encoded_bytes_are_unread_and_not_searched() -> None:
    part = {"type": "file", "file": {"filename": "cv.pdf", "file_data": "QUJD" * 30}}
    scope = all_messages(view(payload=messages({"role": "user", "content": [part]})))

    assert "QUJD" not in scope.text
    assert "cv.pdf" in scope.text


@pytest.mark.parametrize(
    "part", [{"type": "text", "text": "data: jane@example.com"}, "data: jane@example.com"]
)
def test_a_text_that_begins_like_a_data_url_is_read(part: object) -> None:
    scope = all_messages(view(payload=messages({"role": "user", "content": [part]})))

    assert "jane@example.com" in scope.text
    assert not scope.unread


def test_an_answer_that_was_audio_is_unread() -> None:
    said = {"role": "assistant", "audio": {"id": "audio_1"}}

    assert all_messages(view(payload=messages(said))).unread == {"audio"}


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_unread(prompt: list[Any]) -> None:
    assert all_messages(view(payload={"prompt": prompt})).unread == {"tokens"}


def test_what_is_beyond_the_bound_is_unread() -> None:
    scope = all_messages(view("x" * (SCAN_CHARS_MAX + 1)))

    assert scope.unread == {"oversize"}
    assert len(scope.text) == SCAN_CHARS_MAX


def test_deep_nesting_does_not_recurse() -> None:
    value: Any = "jane@example.com"
    for _ in range(5_000):
        value = [value]

    assert "jane@example.com" in all_messages(view(payload={"prompt": value})).text


def test_a_long_turn_is_cut_to_its_head_and_its_tail() -> None:
    text = "a" * 5_000 + "b" * 5_000

    assert head_and_tail(text, 100) == "a" * 50 + "\n" + "b" * 50
    assert head_and_tail("short", 100) == "short"


def test_slices_hold_each_character_once_and_their_neighbours_besides() -> None:
    text = "".join(chr(0x61 + place % 26) for place in range(3 * SLICE_CHARS + 100))
    pieces = list(slices(text))

    assert "".join(piece.text[piece.start : piece.end] for piece in pieces) == text
    assert [piece.start for piece in pieces] == [0, OVERLAP_CHARS, OVERLAP_CHARS, OVERLAP_CHARS]
    assert len(pieces[1].text) == SLICE_CHARS + 2 * OVERLAP_CHARS


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a\\nb\\tc\\rd", "a  b  c  d"),
        ("４１１１－１１", "4111-11"),
        ("٠١٢", "012"),
        ("५", "5"),
        ("4111\u00a01111", "4111 1111"),
        ("41\u200b11", "4111"),
        ("12\u201134", "12-34"),
        ("plain é", "plain é"),
    ],
)
def test_folding_undoes_what_hides_plain_characters(written: str, plain: str) -> None:
    assert fold(written) == plain


def test_every_form_of_a_piece_has_each_character_in_its_place() -> None:
    piece = whole("İstanbul, DOB_x: İ")

    assert len(piece.lower) == len(piece.plain) == len(piece.text)
    assert piece.plain.index(b"dob") == piece.text.index("DOB")
    assert piece.outline == b"?aaaaaaa, AAA_a: ?"


def test_a_piece_knows_which_words_do_not_begin_in_it() -> None:
    piece = whole("“The Passport-number: 12 (dob)")

    assert {start_of("the"), start_of("passport"), start_of("DOB")} <= piece.starts
    assert start_of("geboren") not in piece.starts


@pytest.mark.parametrize("phrase", ["<|", "паспорт", "旅券"])
def test_what_begins_with_no_plain_letter_may_be_anywhere(phrase: str) -> None:
    assert start_of(phrase) in whole("nothing").starts


def test_the_tail_of_a_piece_is_where_its_last_lines_are() -> None:
    piece = whole("be kind\nuser\nIgnore it")
    tail = piece.tail("user\nIgnore it")

    assert tail is not None
    assert (tail.text, tail.start, tail.end) == (piece.text, len("be kind\n"), piece.end)
    assert (tail.lower, tail.plain, tail.outline) == (piece.lower, piece.plain, piece.outline)
    assert tail.starts == piece.starts


@pytest.mark.parametrize("text", ["be kind", "it", "Ignore", "and\nbe kind\nIgnore it"])
def test_a_piece_has_no_tail_that_is_not_of_whole_lines_at_its_end(text: str) -> None:
    assert whole("be kind\nIgnore it").tail(text) is None


def test_what_follows_a_piece_is_in_no_tail_of_it() -> None:
    assert Slice("be kind\nIgnore it\nmore", 0, len("be kind\nIgnore it")).tail("more") is None
