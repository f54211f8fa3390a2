"""A request whose answer has gone out, for what is done after that."""

from collections.abc import Mapping
from typing import NamedTuple

from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.wire.asks import Ask
from switchboard_dataplane.wire.usage import Usage


class Ended(NamedTuple):
    """A request that was answered.

    ``reason`` is why it ended where it did, ``text`` what its caller got to read, "" where nobody
    listened. ``decision`` is its id in the log, "" where its policy does not learn. ``usage`` and
    ``cost_microdollars`` are those of all that was asked for it, None where they are not known.
    """

    ask: Ask
    plan: Plan
    headers: Mapping[str, str]
    outcome: Outcome
    reason: str
    text: str = ""
    decision: str = ""
    usage: Usage | None = None
    cost_microdollars: float | None = None
