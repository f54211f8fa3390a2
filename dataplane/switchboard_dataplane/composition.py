"""What was asked beside the answer of a request, and what that comes to in all."""

from typing import TYPE_CHECKING, Final

from switchboard_dataplane.wire.usage import Usage

if TYPE_CHECKING:
    from switchboard_dataplane.telemetry.outcome import Aside
    from switchboard_dataplane.wire.edits import Edits


class Composition:
    """The asides of a request so far, and what came of them.

    ``judged`` are a cascade's tiers, each with what came of its answer; ``ensemble`` says in a word
    what chose among several. ``reason`` is what the caller reads, "" for the usual one. ``edits``
    are done to the answer. ``held`` says that a stream was held back, so the caller's times tell
    nothing of the endpoint. ``review`` says in a word what becomes of showing the answer to people,
    "" where nobody is to look at it.
    """

    def __init__(self) -> None:
        self.asides: Final[list[Aside]] = []
        self.judged: Final[list[tuple[str, str]]] = []
        self.ensemble = ""
        self.reason = ""
        self.edits: Edits | None = None
        self.held = False
        self.review = ""

    @property
    def attempts(self) -> int:
        """How many attempts all of them took."""
        return sum([len(one.attempts) for one in self.asides])

    def usage(self) -> Usage | None:
        """Return the tokens of all; None where nothing was served."""
        taken = sum([one.input_tokens for one in self.asides])
        given = sum([one.output_tokens for one in self.asides])
        return Usage(taken, given) if taken or given else None

    def known_picodollars(self) -> float:
        """Return what those cost that have prices: what counts against a budget."""
        return sum([one.cost_microdollars or 0.0 for one in self.asides]) * 1_000_000

    def cost_microdollars(self) -> float | None:
        """Return what all cost; None where a price is not known."""
        total = 0.0
        for one in self.asides:
            if one.cost_microdollars is not None:
                total += one.cost_microdollars
            elif one.input_tokens or one.output_tokens:
                return None
        return total
