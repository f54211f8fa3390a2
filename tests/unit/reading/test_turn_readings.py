"""What is read off the last user turn: task, field, language, mood, code."""

import pytest

from fakes.language_texts import SENTENCES
from fakes.turn_texts import (
    CODE,
    DOMAINS,
    NO_CODE,
    NOT_URGENT,
    SENTIMENTS,
    TASKS,
    TOOLS,
    URGENT,
)
from switchboard_dataplane.reading import code, domains, language, tasks
from switchboard_dataplane.reading.code import has_code
from switchboard_dataplane.reading.mood import is_urgent, read_sentiment
from switchboard_dataplane.reading.texts import TURN_CHARS_MAX
from switchboard_dataplane.reading.turns import Turn

TASKS_RIGHT_MIN = 0.93
DOMAINS_RIGHT_MIN = 0.93
LANGUAGES_RIGHT_MIN = 0.95


def rows(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(said, text) for said, texts in table.items() for text in texts]


def test_the_task_is_told_right() -> None:
    wrong = [text for task, text in rows(TASKS) if tasks.read_task(Turn(text)) != task]

    assert len(wrong) / len(rows(TASKS)) <= 1 - TASKS_RIGHT_MIN, wrong
    assert {*TASKS, "tools"} == set(tasks.TASKS)


def test_with_tools_on_offer_an_order_is_work_for_tools() -> None:
    said = [tasks.read_task(Turn(text, tools=True)) for text in TOOLS]

    assert said.count("tools") >= len(TOOLS) - 1


def test_tools_on_offer_do_not_hide_another_task() -> None:
    turn = Turn("Write a Python function that reverses a list.", tools=True)

    assert tasks.read_task(turn) == "code"


def test_nothing_said_is_chat() -> None:
    assert tasks.read_task(Turn("")) == "chat"


def test_the_request_counts_and_not_the_material_between() -> None:
    material = "The king loved a poem and a song and stories about dragons. " * 200

    assert tasks.read_task(Turn(f"Summarize this text:\n{material}")) == "summarisation"
    assert tasks.read_task(Turn(f"{material}\nTranslate the above into French.")) == "translation"


def test_the_field_is_told_right() -> None:
    wrong = [text for field, text in rows(DOMAINS) if domains.read_domain(Turn(text)) != field]

    assert len(wrong) / len(rows(DOMAINS)) <= 1 - DOMAINS_RIGHT_MIN, wrong
    assert set(DOMAINS) <= set(domains.DOMAINS)


def test_the_language_is_told_right() -> None:
    wrong = [text for name, text in rows(SENTENCES) if language.read_language(Turn(text)) != name]

    assert len(wrong) / len(rows(SENTENCES)) <= 1 - LANGUAGES_RIGHT_MIN, wrong
    assert set(SENTENCES) == set(language.LANGUAGES)


@pytest.mark.parametrize("text", ["", "12345", "!!! ???", "xyzzy qwrtp"])
def test_a_text_without_words_has_no_language(text: str) -> None:
    assert language.read_language(Turn(text)) == language.UNKNOWN


def test_names_in_another_script_do_not_make_the_language() -> None:
    turn = Turn("Please explain what the word 侘寂 means in this sentence to me.")

    assert language.read_language(turn) == "en"


@pytest.mark.parametrize(("feeling", "text"), rows(SENTIMENTS))
def test_the_feeling_is_told_right(feeling: str, text: str) -> None:
    sentiment = read_sentiment(Turn(text))

    assert -1 <= sentiment <= 1
    assert {-1: "negative", 0: "neutral", 1: "positive"}[(sentiment > 0) - (sentiment < 0)] == (
        feeling
    )


def test_a_few_words_in_a_long_text_are_no_feeling() -> None:
    assert read_sentiment(Turn("good " + "word " * 400)) == 0.0


def test_more_words_are_a_stronger_feeling() -> None:
    assert read_sentiment(Turn("awful, useless, broken")) < read_sentiment(Turn("awful")) < 0


@pytest.mark.parametrize("text", URGENT)
def test_haste_is_told(text: str) -> None:
    assert is_urgent(Turn(text))


@pytest.mark.parametrize("text", NOT_URGENT)
def test_leisure_is_told(text: str) -> None:
    assert not is_urgent(Turn(text))


@pytest.mark.parametrize("text", CODE)
def test_code_is_told(text: str) -> None:
    assert has_code(Turn(text))


@pytest.mark.parametrize("text", NO_CODE)
def test_prose_is_no_code(text: str) -> None:
    assert not has_code(Turn(text))


def test_a_turn_is_read_at_its_ends_only() -> None:
    turn = Turn("x" * 10_000 + "```python```" + "y" * 10_000)

    assert len(turn.text) == TURN_CHARS_MAX + 1
    assert not has_code(turn)


def test_what_code_is_missed_by_is_a_part_of_it() -> None:
    assert [mark for rare, mark, _ in code._STRINGS if rare not in mark] == []
