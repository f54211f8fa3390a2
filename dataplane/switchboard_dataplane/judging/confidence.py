"""How sure a model was of what it said, by the probabilities that it gave its own tokens."""

from collections.abc import Sequence
from math import exp
from typing import Final

#: What is not told is not trusted.
UNKNOWN: Final = 0.0


def confidence_of(logprobs: Sequence[float] | None) -> float:
    """Return the mean probability of a token, in [0, 1]; 0 where nothing is known.

    The mean is the geometric one, ``exp(mean(logprobs))``: the probability of the whole answer,
    made independent of its length. It is the inverse of the answer's perplexity, and the rule that
    "Language Model Cascades: Token-level Uncertainty and Beyond" (arXiv 2404.10136) calls
    Chow-Average.
    """
    if not logprobs:
        return UNKNOWN
    return exp(sum(logprobs) / len(logprobs))
