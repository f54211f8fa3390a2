"""The router that ships."""

from importlib.resources import files

from switchboard_dataplane.choosing.artifact import decode_artifact
from switchboard_dataplane.choosing.predict import LARGE, SHIPPED, SMALL, shipped_router
from switchboard_dataplane.reading.lexical import read_lexical

DATA = files("switchboard_dataplane.choosing").joinpath(SHIPPED).read_bytes()


def test_it_is_small_and_says_what_it_was_fitted_on() -> None:
    artifact = decode_artifact(DATA)
    assert len(DATA) <= 2_000_000
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


def test_a_large_model_is_worth_more_for_code_than_for_small_talk() -> None:
    router = shipped_router()
    talk = read_lexical("Hi, how are you?")
    code = read_lexical("Write a Python function that reverses a linked list, with unit tests.")
    assert router.complexity(code) > router.complexity(talk) + 0.1


def test_it_is_made_once() -> None:
    assert shipped_router() is shipped_router()
