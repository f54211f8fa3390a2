"""What was learned and ships, for those who ask: numpy is loaded with the first of them."""

from typing import TYPE_CHECKING

from switchboard_policy import ir

if TYPE_CHECKING:
    from switchboard_dataplane.reading.intents import Intents

# ruff: noqa: PLC0415 - 30 MB and a tenth of a second, which most gateways never need


def estimate_complexity(text: str) -> float:
    """Return how hard a turn looks, in [0, 1], by the router that ships."""
    from switchboard_dataplane.choosing.predict import shipped_router
    from switchboard_dataplane.reading.lexical import read_lexical

    return shipped_router().complexity(read_lexical(text))


def embed_intents(declared: tuple[ir.Intent, ...]) -> "Intents":
    """Return a policy's intents with their examples embedded by the table that ships."""
    from switchboard_dataplane.reading.embedding import shipped_embedder
    from switchboard_dataplane.reading.intents import Intent, Intents

    intents = [Intent(one.name, one.examples, one.threshold_permille / 1000) for one in declared]
    return Intents(intents, shipped_embedder().embed)
