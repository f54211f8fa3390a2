"""How long an edit took to the last pod, as this leader saw it. Pure.

It begins when the operator saw the change, not when its entries were in the store, and ends with
the last ack. What another leader published, or what no pod was there for, is not measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from switchboard_operator.resources import ObjectKey
from switchboard_operator.standing import Standing
from switchboard_policy.store import Revision


@dataclass(slots=True)
class _Journey:
    """One revision of an object: from ``since`` (monotonic) to ``acked`` pods, the last ``at``.

    ``since`` is None where no pod was there to take it over.
    """

    revision: Revision
    since: float | None
    at: float
    acked: int = 0
    took_s: float | None = None


class Journeys:
    """The last one of each object; ``took`` is told every time that was measured, in seconds."""

    def __init__(self, took: Callable[[float], None]) -> None:
        self._took = took
        self._journeys = dict[ObjectKey, _Journey]()
        self._seen = dict[ObjectKey, float]()

    def clear(self) -> None:
        """Forget all: another leadership begins."""
        self._journeys.clear()
        self._seen.clear()

    def forget(self, key: ObjectKey) -> None:
        """Forget an object that is gone."""
        self._journeys.pop(key, None)
        self._seen.pop(key, None)

    def measure(
        self, key: ObjectKey, standing: Standing, *, seen_at: float, epoch: int, now: float
    ) -> Standing:
        """Return the standing with the time that its revision took, if every pod has it.

        ``seen_at`` is when the change that may have led to it was seen; ``epoch`` is of this
        leader.
        """
        if standing.pending:
            self._seen.setdefault(key, seen_at)
            return standing
        since = self._seen.pop(key, seen_at)
        journey = self._journeys.get(key)
        if standing.revision is None or standing.revision.epoch != epoch:
            self._journeys.pop(key, None)
            return standing
        if journey is None or journey.revision != standing.revision:
            journey = self._journeys[key] = _Journey(standing.revision, since, now)
        if not standing.pods:
            journey.since = None
        if standing.acked > journey.acked:
            journey.acked, journey.at = standing.acked, now
        if not standing.complete or journey.since is None:
            return standing
        if journey.took_s is None:
            journey.took_s = journey.at - journey.since
            self._took(journey.took_s)
        return replace(standing, took_s=journey.took_s)
