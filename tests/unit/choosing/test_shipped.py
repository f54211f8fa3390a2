"""The router that ships."""

from importlib.resources import files

from switchboard_dataplane.choosing.artifact import decode_artifact
from switchboard_dataplane.choosing.predict import LARGE, SHIPPED, SMALL, shipped_router
from switchboard_dataplane.reading.lexical import read_lexical

DATA = files("switchboard_dataplane.choosing").joinpath(SHIPPED).read_bytes()


def test_it_is_small_and_says_what_it_was_fitted_on() -> None:
    artifact = decode_artifact(DATA)
    assert len(DATA) <= 200_000
    assert artifact.targets == (LARGE, SMALL)
    assert {source.name for source in artifact.sources} == {
        "gsm8k",
        "mix9",
        "mmlu",
        "mmlu_pro",
        "zeroeval",
    }


def test_complexity_is_what_the_large_models_gain_over_the_small() -> None:
    router = shipped_router()
    for text in ("", "Hi", "Prove it by induction over n.", "Which is it?\nA. 1\nB. 2"):
        read = read_lexical(text)
        assert router.complexity(read) == router.gain(read, strong=LARGE, weak=SMALL)


def test_a_large_model_is_worth_more_for_a_long_task_than_for_small_talk() -> None:
    router = shipped_router()
    talk = read_lexical("Hi, how are you?")
    task = read_lexical(
        "Write a Python function that reverses a linked list, with unit tests. The list may be "
        "empty, have one node, or have a loop; raise an error if it has one. Say how much time and "
        "memory your function takes, and why no other can take less of both."
    )
    assert router.complexity(task) > router.complexity(talk) + 0.1


def test_of_two_prompts_of_one_length_it_is_not_the_length_that_decides() -> None:
    router = shipped_router()
    exam = "Statement 1 | Every group of order 15 is cyclic. Statement 2 | Every ring is."
    sums = "Calculate 17 * 23 and then subtract 45 and divide the result by 77 please now"
    assert len(exam) == len(sums)
    assert router.complexity(read_lexical(exam)) > router.complexity(read_lexical(sums)) + 0.01


def test_it_is_made_once() -> None:
    assert shipped_router() is shipped_router()
