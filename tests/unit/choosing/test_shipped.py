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


def test_it_tells_a_hard_prompt_from_an_easy_one() -> None:
    router = shipped_router()
    easy = read_lexical("Which of the following is the capital of France?\nA. Paris\nB. Rome")
    hard = read_lexical(
        "Let f be a continuous function on the closed interval. Compute the integral of "
        "$\\frac{x^2}{1+x^4}$ and determine how many zeros of the polynomial lie in the disk."
    )
    assert router.complexity(hard) > router.complexity(easy) + 0.1
    assert router.gain(hard, strong=LARGE, weak=SMALL) > 0.0


def test_it_is_made_once() -> None:
    assert shipped_router() is shipped_router()
