"""When a request is worth a second start, and how many may have one: a share of all requests.

The time is the 95th percentile of what such requests have taken of late, so that about one in
twenty comes so far. The budget is a share of the policy's requests, saved up to a few.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

#: The percentile, in hundredths.
PERCENTILE: Final = 95
#: Answers that it is taken from, the latest, at most.
ANSWERS_MAX: Final = 256
#: With fewer it says nothing.
ANSWERS_MIN: Final = 40
#: What is older tells nothing of now, in seconds.
AGE_MAX_S: Final = 60.0
#: So many second starts are saved up in quiet times.
SAVED_MAX: Final = 10
_WHOLE: Final = 1_000


class Kind(NamedTuple):
    """Requests that are compared: of one tier, one API, streamed or not, one class of prompts."""

    policy: str
    rule: str
    tier: str
    api: str
    stream: bool
    prompt_class: int


class Hedges:
    """What is known for the hedges of all policies; times are the event loop's, in seconds."""

    __slots__ = ("_saved", "_times")

    def __init__(self) -> None:
        # Thousandths of a second start, by policy.
        self._saved: dict[str, int] = {}
        self._times: dict[Kind, RecentTimes] = {}

    def count_request(self, policy: str, *, permille: int) -> None:
        """Take in a request of a policy: it saves up its share of a second start."""
        saved = self._saved.get(policy, 0) + permille
        self._saved[policy] = min(saved, SAVED_MAX * _WHOLE)

    def may_start(self, policy: str) -> bool:
        """Say whether the policy has a second start to spend."""
        return self._saved.get(policy, 0) >= _WHOLE

    def started(self, policy: str) -> None:
        """Take in a second start."""
        self._saved[policy] -= _WHOLE

    def took(self, kind: Kind, seconds: float, now: float) -> None:
        """Take in how long an answer took, or how long it was waited for in vain."""
        times = self._times.get(kind)
        if times is None:
            times = self._times[kind] = RecentTimes()
        times.take(seconds, now)

    def p95_s(self, kind: Kind, now: float) -> float | None:
        """Return the time that one of twenty such requests exceeds; None if too little is known."""
        times = self._times.get(kind)
        return None if times is None else times.percentile(now)

    def keep_only(self, policies: AbstractSet[str]) -> None:
        """Forget policies that are gone."""
        self._saved = {name: saved for name, saved in self._saved.items() if name in policies}
        self._times = {kind: one for kind, one in self._times.items() if kind.policy in policies}


class RecentTimes:
    """The latest times, in the order in which they came and by their size."""

    __slots__ = ("_came", "_sorted")

    def __init__(self) -> None:
        self._came: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def take(self, seconds: float, now: float) -> None:
        """Take in a time."""
        self._came.append((now, seconds))
        insort(self._sorted, seconds)
        self._forget(now)

    def percentile(self, now: float) -> float | None:
        """Return the percentile; None of too few."""
        self._forget(now)
        count = len(self._sorted)
        if count < ANSWERS_MIN:
            return None
        return self._sorted[-(-count * PERCENTILE // 100) - 1]

    def _forget(self, now: float) -> None:
        came = self._came
        while came and (len(came) > ANSWERS_MAX or now - came[0][0] > AGE_MAX_S):
            _, seconds = came.popleft()
            del self._sorted[bisect_left(self._sorted, seconds)]
