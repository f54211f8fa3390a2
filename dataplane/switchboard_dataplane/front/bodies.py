"""The bodies that are on their way: each has its limit and its time, and all of them a bound."""

from typing import Protocol


class Arriving(Protocol):
    """A body that is on its way."""

    def give_way(self) -> None:
        """Hold nothing of it any more, and tell its caller so."""
        ...


class Bodies:
    """The bytes that bodies on their way hold together, at most ``limit_bytes``.

    Callers that send slowly, or stop, are the ones whose bodies stay here. Where there is no more
    room the body that is on its way the longest gives way, so who sends at once is not disturbed.
    """

    __slots__ = ("_sizes", "held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._sizes: dict[Arriving, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def grew(self, body: Arriving, size: int) -> None:
        """Take in that so many bytes of a body are here, and more are to come."""
        self.held_bytes += size - self._sizes.get(body, 0)
        self._sizes[body] = size
        while self.held_bytes > self.limit_bytes:
            oldest = next(iter(self._sizes))
            self.left(oldest)
            oldest.give_way()

    def left(self, body: Arriving) -> None:
        """Take in that a body is here, or will not come; one that never grew may leave, too."""
        self.held_bytes -= self._sizes.pop(body, 0)
