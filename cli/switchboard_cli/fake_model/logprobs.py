"""The probabilities of an answer's tokens, in the form of either API. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from math import log

#: What OpenAI writes for a token that it has no probability of.
LOGPROB_OF_NONE = -9999.0


def logprob_of(confidence: float | None) -> float | None:
    """Return the natural logarithm of a probability, None for None."""
    if confidence is None:
        return None
    return log(confidence) if confidence else LOGPROB_OF_NONE


def chat_logprobs(
    pieces: Sequence[str], logprob: float | None, field: str
) -> dict[str, object] | None:
    """Return the `logprobs` of a chat choice; `field` is content or refusal, None tells none."""
    if logprob is None:
        return None
    tokens = [
        {"token": piece, "logprob": logprob, "bytes": list(piece.encode()), "top_logprobs": []}
        for piece in pieces
    ]
    return {"content": None, "refusal": None, field: tokens}


def completions_logprobs(pieces: Sequence[str], logprob: float | None) -> dict[str, object] | None:
    """Return the `logprobs` of a completion's choice, None for none."""
    if logprob is None:
        return None
    offsets = list(accumulate(map(len, pieces), initial=0))
    return {
        "tokens": pieces,
        "token_logprobs": [logprob] * len(pieces),
        "top_logprobs": None,
        "text_offset": offsets[: len(pieces)],
    }
