"""Reads what ``switchboard export`` writes: decisions with their ratings, as rows to learn from."""

from typing import Final, Literal

import msgspec

from switchboard_cli.train.rows import Row
from switchboard_dataplane.learning.decisions import Rated, read_rated

By = Literal["tier", "backend", "model"]
BY: Final[tuple[By, ...]] = ("tier", "backend", "model")


class Wanted(msgspec.Struct, frozen=True):
    """Which decisions are learned from, "" for all, and what their ratings are said to be of."""

    by: By = "tier"
    policy: str = ""
    rule: str = ""

    def row(self, line: bytes) -> Row | None:
        """Return the row of a line, None where it is not wanted or rates nobody.

        Raises msgspec.DecodeError.
        """
        said = read_rated(line)
        if self.policy not in ("", said.policy) or self.rule not in ("", said.rule):
            return None
        qualities = _qualities(said, self.by)
        if not qualities:
            return None
        return Row(
            said.prompt,
            qualities,
            task=said.task,
            source=f"{said.policy} {said.rule}",
            context=said.context,
            id=said.id,
        )


def _qualities(said: Rated, by: By) -> dict[str, float]:
    """Return who is rated, and how: who answered, and whoever else was asked."""
    qualities: dict[str, float] = {}
    for rating in said.ratings:
        other = {"tier": rating.tier, "backend": rating.backend, "model": ""}[by]
        if other:
            qualities[other] = rating.value
    own = {"tier": said.tier, "backend": said.backend, "model": said.upstream_model}[by]
    if own and said.quality is not None:
        qualities[own] = said.quality
    return qualities
