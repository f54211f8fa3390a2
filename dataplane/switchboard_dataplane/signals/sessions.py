"""Which tier a conversation has: it does not flip between models without a reason."""

from typing import Final

#: A conversation that was silent for longer begins anew, in seconds.
SESSION_S: Final = 600.0
#: More conversations than this are not remembered; the ones that were silent longest go first.
SESSIONS_MAX: Final = 100_000

#: Policy, rule, session.
Key = tuple[str, str, str]


class Sessions:
    """The tiers of conversations, by number, the latest last."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[int, float]] = {}

    def keep(self, key: Key, start: int, now: float) -> int:
        """Return the tier of a conversation that would start with ``start``: never a weaker one."""
        tier, until = self._known.pop(key, (0, 0.0))
        kept = max(start, tier) if now < until else start
        if len(self._known) >= SESSIONS_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = kept, now + SESSION_S
        return kept
