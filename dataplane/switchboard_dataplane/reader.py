"""Reads out of requests what their policy wants to know of them, before they are decided.

What is not asked for costs nothing. Long texts are read in slices, and others have their turn
between them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Policy
from switchboard_dataplane.reading.readings import Work
from switchboard_dataplane.reading.texts import last_user_turn

if TYPE_CHECKING:
    from switchboard_dataplane.reading.intents import Intents
    from switchboard_policy import ir

#: What is read at one go, without a turn for others: about a millisecond.
AT_ONCE_CHARS: Final = 10_000
#: Sets of intents whose vectors are kept: policies that are gone must not add up.
INTENTS_MAX: Final = 1_024
#: It is the learned router's to say; all other readings are made by rules.
_LEARNED: Final = "complexity"


@dataclass(slots=True)
class Reader:
    """Makes readings. ``complexity`` of a text, in [0, 1], and ``embed_intents`` are learned."""

    complexity: Callable[[str], float]
    embed_intents: "Callable[[tuple[ir.Intent, ...]], Intents]"
    _intents: "dict[tuple[ir.Intent, ...], Intents]" = field(default_factory=dict)

    async def read(self, policy: Policy, view: RequestView) -> None:
        """Fill in the readings of a request that the policy wants and that are not there yet."""
        work = self._work(policy, view)
        if work is not None:
            few = work.cost_chars <= AT_ONCE_CHARS
            view.readings = {
                **view.readings,
                **(work.read() if few else await work.read_in_slices()),
            }
        self._estimate(policy, view)

    def read_now(self, policy: Policy, view: RequestView) -> None:
        """Do the same at one go: for a request that has waited, and meets another policy."""
        work = self._work(policy, view)
        if work is not None:
            view.readings = {**view.readings, **work.read()}
        self._estimate(policy, view)

    def _work(self, policy: Policy, view: RequestView) -> Work | None:
        missing = policy.readings - view.readings.keys() - {_LEARNED}
        return Work(missing, view, self._intents_of(policy)) if missing else None

    def _estimate(self, policy: Policy, view: RequestView) -> None:
        if _LEARNED in policy.readings and _LEARNED not in view.readings:
            said: dict[str, Any] = dict(view.readings)
            said[_LEARNED] = self.complexity(last_user_turn(view))
            view.readings = said

    def _intents_of(self, policy: Policy) -> "Intents | None":
        if "intents" not in policy.readings:
            return None
        said = policy.spec.intents
        found = self._intents.get(said)
        if found is None:
            if len(self._intents) >= INTENTS_MAX:
                self._intents.clear()
            found = self._intents[said] = self.embed_intents(said)
        return found
