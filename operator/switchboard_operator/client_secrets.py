"""What is told of client Secrets that make no client: an Event on the Secret and a line of the log.

Once a refusal, and once more by the next leader. The counts are in the scope's summary.
"""

import logging
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from switchboard_operator.events import MESSAGE_CHARACTERS_MAX, Transition
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.summary import ClientCount
from switchboard_policy.compiler.assemble import Compilation
from switchboard_policy.compiler.clients import NOT_ADMITTED, Refusal
from switchboard_policy.compiler.world import Name

ACCEPTED: Final = "ClientAccepted"

log = logging.getLogger(__name__)


def count_clients(compilation: Compilation) -> ClientCount:
    """Return how many clients a gateway has, and how many Secrets of its own it refuses.

    A Secret of a namespace that it takes no clients from is none of its own.
    """
    refused = compilation.refused_clients.values()
    return ClientCount(
        compilation.clients, sum(refusal.reason != NOT_ADMITTED for refusal in refused)
    )


class ClientSecrets:
    """Tells of client Secrets; ``announce`` posts an Event of an object with a uid."""

    def __init__(self, announce: Callable[[ObjectKey, str, Transition], None]) -> None:
        self._announce = announce
        self._seen: list[Mapping[Name, Refusal]] = []
        self._told: dict[Name, Refusal] = {}

    def restart(self) -> None:
        """Begin as a new leader."""
        self._seen, self._told = [], {}

    def report(self, compilations: Iterable[Compilation], there: Container[Name]) -> None:
        """Tell what is new in the compilations of all gateways.

        ``there`` are the client Secrets that are in the cluster.
        """
        seen = [each.refused_clients for each in compilations]
        if len(seen) == len(self._seen) and all(map(_is, seen, self._seen)):
            return
        self._seen = seen
        refused = dict(_combine(seen))
        for name, refusal in refused.items():
            if self._told.get(name) != refusal:
                log.warning("Secret %s: %s: %s", name, refusal.reason, refusal.message)
                self._post(name, refusal.uid, refusal.reason, refusal.message, warning=True)
        for name, refusal in self._told.items():
            if name not in refused and name in there:
                log.info("Secret %s is refused no more", name)
                message = "nothing is wrong with this Secret any more"
                self._post(name, refusal.uid, ACCEPTED, message, warning=False)
        self._told = refused

    def _post(self, name: Name, uid: str, reason: str, message: str, *, warning: bool) -> None:
        said = message
        if len(said) > MESSAGE_CHARACTERS_MAX:
            said = said[: MESSAGE_CHARACTERS_MAX - 1] + "…"
        self._announce(ObjectKey(Kind.SECRET, name), uid, Transition(reason, said, warning))


def _is(one: object, other: object) -> bool:
    return one is other


def _combine(seen: Iterable[Mapping[Name, Refusal]]) -> Iterable[tuple[Name, Refusal]]:
    """Yield what is to be told: of a foreign Secret only what all gateways say."""
    gateways = list(seen)
    for name in dict.fromkeys(name for refused in gateways for name in refused):
        said = [refused.get(name) for refused in gateways]
        own = [each for each in said if each is not None and each.reason != NOT_ADMITTED]
        if own:
            yield name, own[0]
        elif said[0] is not None and None not in said:
            yield name, said[0]
