"""Gathers what comes close together, so that other pods are told it in one word; counts repeats."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Gathering(Generic[T]):
    """Sends what was added within ``gather_s`` seconds, ``most`` of it; the rest is dropped.

    ``call_later`` is the event loop's; ``dropped`` counts.
    """

    send: Callable[[list[T]], None]
    call_later: Callable[[float, Callable[[], None]], object]
    gather_s: float
    most: int
    dropped: int = 0
    _waiting: list[T] = field(default_factory=list[T])

    def add(self, one: T) -> None:
        """Have it sent with the others of the next moment."""
        if not self._waiting:
            self.call_later(self.gather_s, self._send)
        if len(self._waiting) < self.most:
            self._waiting.append(one)
        else:
            self.dropped += 1

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.send(waiting)


class Repeats:
    """Counts how often each of the last ``most`` names came."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._counts: OrderedDict[str, int] = OrderedDict()

    def count(self, name: str) -> int:
        """Return how often a name has come, with this time."""
        times = self._counts.pop(name, 0) + 1
        self._counts[name] = times
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        return times
