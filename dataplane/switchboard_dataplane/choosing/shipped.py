"""What was learned and ships, for those who ask: numpy is loaded with the first of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from switchboard_policy import ir

if TYPE_CHECKING:
    from switchboard_dataplane.reading.intents import Intents

# ruff: noqa: PLC0415 - 30 MB and a tenth of a second, which most gateways never need


def estimate_complexity(text: str) -> float:
    """Return what a large model gains over a small one on a turn, by the router that ships."""
    from switchboard_dataplane.choosing.predict import shipped_router
    from switchboard_dataplane.reading.lexical import read_lexical

    return shipped_router().complexity(read_lexical(text))


def predict_by_shipped(text: str, digest: str) -> Mapping[str, float]:
    """Return the quality of each target of the router that ships, whichever is asked for."""
    from switchboard_dataplane.choosing.routers import Routers

    return Routers().predict(text, digest)


def embed(text: str) -> Any:
    """Return a turn's vector, of length 1, by the table that ships."""
    from switchboard_dataplane.reading.embedding import shipped_embedder

    return shipped_embedder().embed(text)


def embed_intents(declared: tuple[ir.Intent, ...]) -> "Intents":
    """Return a policy's intents with their examples embedded by the table that ships."""
    from switchboard_dataplane.reading.embedding import shipped_embedder
    from switchboard_dataplane.reading.intents import Intent, Intents

    intents = [Intent(one.name, one.examples, one.threshold_permille / 1000) for one in declared]
    return Intents(intents, shipped_embedder().embed)
