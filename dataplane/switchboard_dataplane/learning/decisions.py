"""A decision as it is logged: what was chosen for a request, and what came of it.

The form is that of the log in the store, of the admin port and of an export: one JSON object. No
word of the request or the answer is in it unless the policy says so.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from switchboard_dataplane.learning.inputs import Inputs
from switchboard_dataplane.learning.ratings import Rating, quality_of


class AsideTaken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that the gateway made of its own on a request's account: for what, and of whom.

    ``failure`` is "" where it was answered.
    """

    purpose: str
    backend: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: float | None = None
    failure: str = ""


class Decided(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="decision"
):
    """A decision and its outcome.

    ``at`` is when the request ended, in UTC. ``selected`` is the tier that a select chose, ``tier``
    the one that answered, or was the last to try; ``backend`` and ``upstream_model`` are its.
    ``model`` is what the caller asked for, ``client`` who that is ("namespace/name", "" where
    nobody is asked). ``context`` are the features that a bandit decided by. ``session`` is a keyed
    hash, "" where the caller named none. Tokens and cost are those of the caller's answer and of
    all that was asked beside it; None where nothing was served.
    ``failures`` are the classes of the attempts that failed, in order. ``prompt`` is the last turn
    of the user and ``answer`` the text that it got, both only where the policy keeps texts.
    ``inputs`` are what it was decided from; None where an earlier version logged it.
    """

    id: str
    at: datetime
    pod: str = ""
    revision: str = ""
    policy: str = ""
    rule: str = ""
    selected: str = ""
    tier: str = ""
    backend: str = ""
    model: str = ""
    client: str = ""
    upstream_model: str = ""
    arm: str = ""
    api: str = ""
    stream: bool = False
    task: str = ""
    complexity: float | None = None
    context: tuple[float, ...] = ()
    session: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_microdollars: float | None = None
    status: int = 0
    error: str = ""
    reason: str = ""
    ttft_s: float | None = None
    duration_s: float = 0.0
    attempts: int = 0
    failures: tuple[str, ...] = ()
    asides: tuple[AsideTaken, ...] = ()
    inputs: Inputs | None = None
    prompt: str = ""
    answer: str = ""


class Compared(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="mirror"
):
    """What a mirror's answer was beside that of the decision of that id, which the caller got.

    ``agreement`` is in [0, 1]; ``better`` says whether a judge prefers the mirror's answer, None
    where it said nothing. Lengths are in characters, the cost is the mirror's and the judge's.
    """

    decision: str
    at: datetime
    backend: str
    agreement: float | None = None
    better: bool | None = None
    answer_chars: int = 0
    mirror_chars: int = 0
    answer_s: float = 0.0
    mirror_s: float = 0.0
    cost_microdollars: float | None = None


class Rated(Decided, kw_only=True, frozen=True, omit_defaults=True, tag="decision"):
    """A decision with its ratings and mirrors, the oldest first: a line of an export.

    ``quality`` is what they come to (see ``quality_of``), None where there is none.
    """

    ratings: tuple[Rating, ...] = ()
    quality: float | None = None
    mirrors: tuple[Compared, ...] = ()


def rated(decision: Decided, ratings: Sequence[Rating], mirrors: Sequence[Compared] = ()) -> Rated:
    """Return a decision with its ratings and mirrors."""
    told = {name: getattr(decision, name) for name in Decided.__struct_fields__}
    return Rated(
        **told, ratings=tuple(ratings), quality=quality_of(ratings), mirrors=tuple(mirrors)
    )


def read_rated(line: bytes) -> Rated:
    """Read a line of an export, whatever newer versions may have added; raises ValueError."""
    return _rated_decoder.decode(line)


_rated_decoder = msgspec.json.Decoder(Rated)

#: Takes in a rating of a decision that this pod made, with the readings that it was made by, by
#: name (empty where nothing was read). Called once a rating, off the path of requests.
Learn = Callable[[Decided, Rating, Mapping[str, Any]], None]
