"""What is read of a prompt's words and form."""

import math

import pytest

from switchboard_dataplane.reading.lexical import FEATURES, Lexical, read_lexical


def feature(read: Lexical, name: str) -> float:
    return read.features[FEATURES.index(name)]


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == len(read_lexical("What is it?").features)


def test_words_are_lower_case_and_numbers_tell_only_how_long_they_are() -> None:
    assert read_lexical("Add 7 to 123, Bob!").words == ["add", "0", "to", "000", ",", "bob", "!"]


def test_two_prompts_that_differ_in_numbers_alone_read_alike() -> None:
    assert read_lexical("What is 12 + 34?") == read_lexical("What is 98 + 76?")


@pytest.mark.parametrize(
    "text",
    [
        "It's 12345 o'clock_now,\tisn't it?\nB) $x^2$ {a_b}[0]; 3.14%",
        "".join(map(chr, range(128))),
        "00000 1_000 a1b22c __ -- 9",
    ],
)
def test_one_letter_beyond_ascii_does_not_change_how_the_rest_is_cut(text: str) -> None:
    assert read_lexical(f"{text} é").words == [*read_lexical(text).words, "é"]


def test_a_name_begins_a_word() -> None:
    named = read_lexical("Anna and McDonald, iPhone and _Bob and 4Ever, (Eve) IBM")
    assert feature(named, "names") == pytest.approx(3 / 10)


def test_an_empty_prompt_has_finite_features() -> None:
    read = read_lexical("")
    assert read.words == []
    assert all(map(math.isfinite, read.features))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("chars", "a" * 99, math.log(100)),
        ("numbers", "1 and 22 and 333", math.log(4)),
        ("longest_number", "1 and 333", 3 / 5),
        ("questions", "Who? What?", math.log(3)),
        ("ends_asking", "Is it so? ", 1.0),
        ("ends_asking", "Is it? Say so.", 0.0),
        ("lines", "one\ntwo\nthree", math.log(3)),
        ("backslashes", r"\frac{1}{2}", math.log(2)),
        ("options", "Which?\nA. this\nB. that", math.log(3)),
        ("option_numbers", "Which?\nA. 1\nB. two", 0.5),
        ("stem_chars", "Which?\nA. this\nB. that", math.log(7)),
        ("kind_negation", "not this, never that", math.log(3)),
        ("asked_how", "How is it?", 1.0),
        ("asked_how", "Who is it?", 0.0),
        ("foreign", "naïve", math.log(2)),
    ],
)
def test_a_feature_says_what_its_name_says(name: str, text: str, expected: float) -> None:
    assert feature(read_lexical(text), name) == pytest.approx(expected)


def test_the_middle_of_a_long_prompt_is_not_read() -> None:
    head, tail = "a " * 1_000, "b " * 1_000
    assert read_lexical(f"{head}{'secret ' * 50_000}{tail}").words.count("secret") == 0


@pytest.mark.parametrize("text", ["A_b 12,345.6 $x^2\x1fy\x7f", "Don't (STOP)! 00000 <= [9]"])
def test_words_in_ascii_are_those_they_would_be_beside_a_letter_that_is_not(text: str) -> None:
    assert [*read_lexical(text).words, "é"] == read_lexical(f"{text} é").words


def test_characters_beyond_ascii_are_counted_as_foreign_alone() -> None:
    read = read_lexical("Größe\uff1f\uff11 \ud800?")
    assert feature(read, "foreign") == pytest.approx(math.log1p(5))
    assert feature(read, "questions") == pytest.approx(math.log1p(1))
    assert feature(read, "digits") == 0.0
