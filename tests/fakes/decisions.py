"""Decisions and ratings for tests, in a line or two each."""

from datetime import UTC, datetime, timedelta
from typing import Any

from switchboard_dataplane.learning.decisions import Decided, Rated, rated
from switchboard_dataplane.learning.ratings import Rating, Source

BEGAN = datetime(2025, 3, 1, tzinfo=UTC)


def decision(number: int = 0, /, **fields: Any) -> Decided:
    """A chat of ``ai/chat`` that was answered at once, unless the fields say otherwise."""
    said: dict[str, Any] = {
        "id": f"decision-{number}",
        "at": BEGAN + timedelta(seconds=number),
        "policy": "ai/chat",
        "rule": "default",
        "tier": "local",
        "backend": "ai/local",
        "api": "chat",
        "status": 200,
        "duration_s": 1.0,
        "attempts": 1,
        "cost_microdollars": 100.0,
    }
    return Decided(**(said | fields))


def rating(of: Decided, value: float, source: Source = "feedback", **fields: Any) -> Rating:
    return Rating(decision=of.id, value=value, source=source, at=of.at, **fields)


def line(number: int = 0, /, *ratings: tuple[float, Source], **fields: Any) -> Rated:
    """A line of an export: a decision with its ratings."""
    made = decision(number, **fields)
    return rated(made, [rating(made, *one) for one in ratings])
