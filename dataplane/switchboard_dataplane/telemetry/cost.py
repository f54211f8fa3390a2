"""What a request cost: tokens times the prices of the backend that served it."""

from typing import Final

from switchboard_policy import ir

_PICODOLLARS_IN_MICRODOLLAR: Final = 1_000_000


def cost_microdollars(
    pricing: ir.Pricing | None, *, input_tokens: int, output_tokens: int, cached_tokens: int
) -> float | None:
    """Return the cost in millionths of a US dollar; None where the backend names no prices.

    Cached tokens are part of the input and have a price of their own where the backend names it.
    """
    if pricing is None:
        return None
    cached_price = pricing.cached_input_picodollars
    if cached_price is None:
        cached_price = pricing.input_picodollars
    picodollars = (
        (input_tokens - cached_tokens) * pricing.input_picodollars
        + cached_tokens * cached_price
        + output_tokens * pricing.output_picodollars
    )
    return picodollars / _PICODOLLARS_IN_MICRODOLLAR
