"""What is known of conversations: their tiers, which do not flip without a reason, and their past.

Of each data plane's own requests; what was silent for long is forgotten.
"""

from typing import Final, NamedTuple

#: A conversation that was silent for longer begins anew, in seconds.
SESSION_S: Final = 600.0
#: More conversations than this are not remembered; the ones that were silent longest go first.
SESSIONS_MAX: Final = 100_000

#: Policy, rule, conversation: a session of one caller.
Key = tuple[str, str, str]


class Sessions:
    """The tiers of conversations, by number, the latest last."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[int, float]] = {}

    def held(self, key: Key, now: float) -> int | None:
        """Return the tier of a conversation, None where it begins."""
        tier, until = self._known.get(key, (0, 0.0))
        return tier if now < until else None

    def hold(self, key: Key, tier: int, now: float) -> int:
        """Have a conversation stay with a tier; return it."""
        self._known.pop(key, None)
        if len(self._known) >= SESSIONS_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = tier, now + SESSION_S
        return tier

    def keep(self, key: Key, start: int, now: float) -> int:
        """Return the tier of a conversation that would start with ``start``: never a weaker one."""
        held = self.held(key, now)
        return self.hold(key, start if held is None else max(start, held), now)


class Past(NamedTuple):
    """What a conversation has cost so far, in US dollars, and the backend that answered last."""

    cost_dollars: float
    last_model: str


NO_PAST: Final = Past(0.0, "")


class Histories:
    """The past of conversations, by policy and name: no policy hears of another's, no caller."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Past, float]] = {}

    def of(self, policy: str, session: str, now: float) -> Past:
        """Return the past of a conversation."""
        past, until = self._known.get((policy, session), (NO_PAST, 0.0))
        return past if now < until else NO_PAST

    def take(
        self, policy: str, session: str, cost_dollars: float, backend: str, now: float
    ) -> None:
        """Take in what a request cost, and which backend answered it ("" for none)."""
        before = self.of(policy, session, now)
        self._known.pop((policy, session), None)
        if len(self._known) >= SESSIONS_MAX:
            del self._known[next(iter(self._known))]
        past = Past(before.cost_dollars + cost_dollars, backend or before.last_model)
        self._known[policy, session] = past, now + SESSION_S
