"""Declared intents: the nearest example decides, and none is near by chance."""

import numpy as np
import pytest

from switchboard_dataplane.reading.intents import Intent, Intents, Vector, to_unit

WORDS = ("refund", "money", "weather", "rain", "hello")


def embed(text: str) -> Vector:
    """Count known words: a space in which tests can measure by eye."""
    words = text.lower().split()
    return np.array([words.count(word) for word in WORDS], dtype=np.float32)


INTENTS = Intents(
    [
        Intent("refunds", ("refund money", "refund"), threshold=0.8),
        Intent("outlook", ("weather rain",), threshold=0.7),
        Intent("talk", ("hello",), threshold=0.3),
    ],
    embed,
)


def test_the_intent_with_a_near_example_is_found() -> None:
    assert INTENTS.read("weather") == ("outlook",)


def test_the_nearest_comes_first_and_each_once() -> None:
    assert INTENTS.read("refund refund hello") == ("refunds", "talk")


@pytest.mark.parametrize("text", ["", "   ", "unknown words only", "money"])
def test_what_is_near_to_nothing_has_no_intent(text: str) -> None:
    assert INTENTS.read(text) == ()


def test_without_declared_intents_nothing_is_found() -> None:
    assert Intents([], embed).read("refund") == ()


def test_a_vector_that_was_made_for_others_can_be_used() -> None:
    assert INTENTS.near(embed("rain weather")) == ("outlook",)


def test_only_the_direction_counts() -> None:
    assert float(np.linalg.norm(to_unit(embed("hello hello rain")))) == pytest.approx(1.0)
    assert not to_unit(embed("nothing")).any()
