"""How good an answer was: by its caller, by a judge, or by what came of it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal

import msgspec

Source = Literal[
    "feedback", "judge", "mirror", "error", "escalation", "regeneration", "continuation",
    "acceptance",
]  # fmt: skip

#: Who is believed first where several have rated a decision: what a caller did with an answer says
#: more than that it had passed the checks.
BELIEVED: Final[tuple[Source, ...]] = (
    "feedback", "judge", "mirror", "error", "escalation", "regeneration", "continuation",
    "acceptance",
)  # fmt: skip


class Rating(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="rating"
):
    """A rating of the decision of that id; ``value`` is in [0, 1], ``at`` in UTC.

    ``tier`` and ``backend`` say who is rated: "" for who gave the answer. Others are an escalated
    cascade's weaker tier, and a mirror's backend. ``comment`` is the caller's, kept only where the
    policy keeps texts.
    """

    decision: str
    value: float
    source: Source
    at: datetime
    tier: str = ""
    backend: str = ""
    comment: str = ""


def quality_of(ratings: Iterable[Rating]) -> float | None:
    """Return how good the answer of a decision was, in [0, 1]; None where nobody rated it.

    Ratings of others than who gave the answer are left out. The caller is believed before the
    judge, and a judge before what merely came of it; the last word of the same source counts.
    """
    said: dict[Source, float] = {}
    for rating in ratings:
        if not rating.tier and not rating.backend:
            said[rating.source] = rating.value
    return next((said[source] for source in BELIEVED if source in said), None)
