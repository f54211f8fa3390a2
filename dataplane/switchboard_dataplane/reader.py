"""Reads out of requests what their policy wants to know of them, before they are decided.

What is not asked for costs nothing. Long texts are read in slices, and others have their turn
between them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchboard_dataplane.choosing.context import context_of
from switchboard_dataplane.choosing.shipped import embed, predict_by_shipped
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Policy
from switchboard_dataplane.decision.select import ROUTER
from switchboard_dataplane.reading.readings import Work
from switchboard_dataplane.reading.texts import last_user_turn
from switchboard_dataplane.signals.sessions import NO_PAST, Past

if TYPE_CHECKING:
    from switchboard_dataplane.reading.intents import Intents
    from switchboard_policy import ir

#: What is read at one go, without a turn for others: half a millisecond.
AT_ONCE_CHARS: Final = 24_000
#: Sets of intents whose vectors are kept: policies that are gone must not add up.
INTENTS_MAX: Final = 1_024


def no_past(policy: str, session: str) -> Past:
    """Say that nothing is known of a conversation."""
    return NO_PAST


@dataclass(slots=True)
class Reader:
    """Makes readings. ``complexity`` of a text and ``embed_intents`` are learned.

    ``complexity`` returns what a large model is expected to gain over a small one, not held to
    [0, 1]; ``predict`` what the router of a digest says of a text, by target, the weakest on the
    whole first; ``embed`` a text's vector; ``past`` what is known of a policy's conversation.
    """

    complexity: Callable[[str], float]
    embed_intents: "Callable[[tuple[ir.Intent, ...]], Intents]"
    predict: Callable[[str, str], Mapping[str, float]] = predict_by_shipped
    embed: Callable[[str], Any] = embed
    past: Callable[[str, str], Past] = no_past
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
        self._derive(policy, view)

    def read_now(self, policy: Policy, view: RequestView) -> None:
        """Do the same at one go: for a request that has waited, and meets another policy."""
        work = self._work(policy, view)
        if work is not None:
            view.readings = {**view.readings, **work.read()}
        self._derive(policy, view)

    def _work(self, policy: Policy, view: RequestView) -> Work | None:
        missing = policy.readings - policy.derived - view.readings.keys()
        if not missing:
            return None
        if "intents" in missing and "embedding" in policy.derived - view.readings.keys():
            view.readings = {**view.readings, "embedding": self.embed(last_user_turn(view))}
        return Work(missing, view, self._intents_of(policy), view.readings.get("embedding"))

    def _derive(self, policy: Policy, view: RequestView) -> None:
        missing = policy.derived - view.readings.keys()
        if missing:
            said: dict[str, Any] = dict(view.readings)
            for name in missing:
                said[name] = self._derived(name, policy, view)
            view.readings = said

    def _derived(self, name: str, policy: Policy, view: RequestView) -> Any:
        match name:
            case "sessionCost":
                return self._past(policy, view).cost_dollars
            case "lastModel":
                return self._past(policy, view).last_model
            case "complexity":
                return self.complexity(last_user_turn(view))
            case "context":
                return context_of(view.readings["task"], len(last_user_turn(view)))
            case "embedding":
                return self.embed(last_user_turn(view))
            case _:
                return self.predict(last_user_turn(view), name.removeprefix(ROUTER))

    def _past(self, policy: Policy, view: RequestView) -> Past:
        return self.past(policy.name, view.conversation) if view.session else NO_PAST

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
