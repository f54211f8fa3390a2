"""When two answers come to the same, and which of several most agree with."""

# ruff: noqa: RUF001

import pytest

from switchboard_dataplane.judging.agreement import agreement, same
from switchboard_dataplane.judging.votes import most_common

WORKED = "She sells 16 - 3 - 4 = 9 eggs.\nAt $2 each that is 9 * 2 = 18.\nShe makes $18 every day."
ANOTHER_WAY = "16-7=9. 9*2=18. So Janet earns 18 dollars a day at the market."
WRONG = "She sells 16 - 3 = 13 eggs.\nAt $2 each that is 13 * 2 = 26.\nShe makes $26 every day."
BOILS = (
    "Yes. Water boils at 100 degrees at sea level, because there its vapour reaches the pressure "
    "of the air that is around it."
)

ALIKE = [
    ("18", "18.0"),
    ("$18", "18 dollars"),
    ("about 18", "18"),
    ("The answer is 18.", "#### 18"),
    ("A: 70,000", "Answer: 70000"),
    (r"\boxed{18}", WORKED),
    ("#### 1,000", "He has 10 * 100 = 1000 marbles."),
    (WORKED, ANOTHER_WAY),
    (r"So it is $\boxed{\frac{3}{4}}$.", "The answer is 0.75."),
    ("266.67", "266.6667"),
    ("−5", "-5"),
    ("Therefore, x = 5", "x = 5"),
    ("She makes $18 per day", "18 dollars per day"),
    ("The final answer is: **$1,234.50**", "1234.5"),
    ("The answer is 7, since 3 + 4 = 7.", "7"),
    ("First I thought the answer is 5. But the answer is 7.", "7"),
    ("B", "(B) Paris"),
    ("The correct answer is B) Paris.", "b) Paris"),
    ("**Answer: B**", "Option B is correct."),
    ("The answer is D.", "D. All of the above"),
    ("Yes", "Yes, it is."),
    ("True", "yes"),
    ("Yes", BOILS),
    ("Paris", "The capital of France is Paris."),
    ("Answer: New York City", "New York City."),
    ("George Washington was the first president.", "The first president was George Washington."),
    ("Die Antwort lautet 5.", "La respuesta es 5."),
    ('{"a": 1, "b": ["x", 2]}', '```json\n{"b": ["X", 2.0], "a": 1}\n```'),
    ("", "  "),
]

DIFFERENT = [
    ("18", "19"),
    ("-5", "5"),
    ("1234567", "1234568"),
    (WORKED, WRONG),
    ("#### 26", WORKED),
    ("The answer is (C).", "The answer is (B)."),
    ("Answer: 7 km", "The answer: 8 km"),
    ("2024-05-01", "2024-05-02"),
    ("Yes", "No"),
    ("No", BOILS),
    ("Yes, because it is hot.", "No, because it is cold."),
    ("Paris", "Lyon"),
    ("Paris", "It is not Paris."),
    ("Neil Armstrong in 1969", "Buzz Aldrin in 1969"),
    ("I'm sorry, but I can't help with that.", "The answer is 5."),
    ('{"a": 1}', '{"a": 2}'),
    ('{"a": 1}', "[1]"),
    ("", "18"),
    ("Wrap it in paper and tape the ends.", "Write a letter and post it at the corner."),
]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_answers_that_come_to_the_same(first: str, second: str) -> None:
    assert same(first, second)
    assert same(second, first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_answers_that_do_not(first: str, second: str) -> None:
    assert not same(first, second)
    assert not same(second, first)


def test_json_agrees_as_far_as_its_values_do() -> None:
    assert agreement('{"a":1,"b":2,"c":3,"d":4}', '{"a":1,"b":2,"c":3,"d":5}') == 0.75
    assert agreement('{"a":[]}', '{"a":{}}') == 0.0


def test_free_texts_agree_by_their_words() -> None:
    near = agreement("The cat sat on the old mat.", "The cat sat upon the mat.")
    far = agreement("The cat sat on the old mat.", "Prices rose in every large town.")
    assert 0.6 < near < 1.0
    assert far < 0.3


def test_the_most_common_answer_wins() -> None:
    assert most_common(["The answer is 7.", "#### 8", "8"]) == (1, 2)
    assert most_common(["7", "7", "7"]) == (0, 3)


def test_the_earliest_of_equals_wins() -> None:
    assert most_common(["7", "8", "9"]) == (0, 1)
    assert most_common(["7", "8", "8.0", "7.0"]) == (0, 2)


def test_an_empty_answer_has_no_vote() -> None:
    assert most_common(["", " ", "8"]) == (2, 1)
    assert most_common(["", ""]) == (0, 0)


def test_no_answers_have_no_winner() -> None:
    with pytest.raises(ValueError, match="no answers"):
        most_common([])
