"""The recorded decisions of an export, read line by line: what it takes to make them again."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TypedDict, cast

import msgspec

from switchboard_cli.review.sides import Unreadable
from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.request import TEXT_ONLY, RequestView
from switchboard_dataplane.decision.select import ROUTER
from switchboard_dataplane.learning.inputs import Caller, Inputs
from switchboard_policy.names import APIS, MODALITIES

if TYPE_CHECKING:
    from switchboard_policy.ir import Api

STDIN: Final = "-"
#: A line with both texts has some 50 KB; more is no line of an export.
LINE_BYTES_MAX: Final = 4 * 1024 * 1024

_MODALITIES: Final = frozenset(MODALITIES)
_NO_INPUTS: Final = Inputs()
_NOTHING_SAID: Final[Mapping[str, Any]] = {}


#: More tokens than this nobody has counted.
Tokens = Annotated[int, msgspec.Meta(le=2**53)]


class _Readings(TypedDict, total=False):
    """The readings that decisions go by; those of routers have names of their own."""

    task: str
    domain: str
    language: str
    complexity: float
    sentiment: float
    urgent: bool
    code: bool
    injection: bool
    pii: tuple[str, ...]
    secrets: tuple[str, ...]
    intents: tuple[str, ...]
    sessionCost: float
    lastModel: str
    classified: float | None


class Aside(msgspec.Struct, frozen=True):
    """What was asked beside the answer: its tokens are part of the decision's."""

    input_tokens: Tokens = 0
    output_tokens: Tokens = 0


class Recorded(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """A line of an export, as far as a replay wants it; ``inputs`` is None in older ones."""

    id: str
    at: datetime
    policy: str = ""
    rule: str = ""
    tier: str = ""
    backend: str = ""
    model: str = ""
    arm: str = ""
    api: str = ""
    stream: bool = False
    task: str = ""
    complexity: float | None = None
    session: str = ""
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cost_microdollars: float | None = None
    asides: tuple[Aside, ...] = ()
    inputs: Inputs | None = None

    @property
    def tokens(self) -> tuple[int, int] | None:
        """The tokens of the request and its answer alone; None where none were counted."""
        if self.input_tokens is None and self.output_tokens is None:
            return None
        given = (self.input_tokens or 0) - sum(one.input_tokens for one in self.asides)
        taken = (self.output_tokens or 0) - sum(one.output_tokens for one in self.asides)
        return max(0, given), max(0, taken)


_decoder: Final = msgspec.json.Decoder(Recorded)


def read_log(path: str) -> Iterator[Recorded | None]:
    """Yield the decisions of an export, one at a time, None for a line that is none.

    ``-`` is the standard input. Raises OSError.
    """
    with _opened(path) as lines:
        while line := lines.readline(LINE_BYTES_MAX):
            if line.strip():
                yield _read(line)


def read_decisions(path: str) -> Iterator[Recorded | None]:
    """Do the same; raises Unreadable at the end where no line was a decision."""
    found = lines = 0
    for record in read_log(path):
        lines += 1
        found += record is not None
        yield record
    if lines and not found:
        raise Unreadable(f"{path} holds no decision: it is no export of decisions")


def _read(line: bytes) -> Recorded | None:
    """Return a decision, None where it is none, or says what is not known here."""
    try:
        said = _decoder.decode(line)
        inputs = said.inputs or _NO_INPUTS
        msgspec.convert(inputs.readings, _Readings)
        for name, value in inputs.readings.items():
            if name.startswith(ROUTER):
                msgspec.convert(value, Mapping[str, float])
    except (ValueError, RecursionError):
        return None
    known = said.api in APIS and set(inputs.modalities) <= _MODALITIES
    return said if known and said.at.tzinfo is not None else None


def _opened(path: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else Path(path).open("rb")


def view_of(record: Recorded, unread: Mapping[str, Any], *, arms: bool) -> RequestView:
    """Return the request of a record, without its texts.

    ``unread`` stands in for readings that were not recorded. With ``arms`` its arm stays.
    """
    said = record.inputs or _NO_INPUTS
    headers = {name: value for name, value in said.headers.items() if value is not None}
    view = RequestView(cast("Api", record.api), record.model, _NOTHING_SAID, headers)
    view.client = _client(said.client) or view.client
    view.stream = record.stream
    view.tokens, view.max_tokens = said.tokens, said.max_tokens
    view.tools, view.json_schema = said.tools, said.json_schema
    view.modalities = TEXT_ONLY if said.modalities == ("text",) else frozenset(said.modalities)
    view.tags, view.role, view.stage = said.tags, said.role, said.stage
    view.latency_class, view.min_quality = said.latency_class, said.min_quality or 0.0
    view.priority, view.labels = said.priority, said.labels
    view.metadata = {key: value for key, value in said.metadata.items() if value is not None}
    if arms:
        view.arm = record.arm
    else:
        # A keyed hash of who it was: enough for what stays with a conversation.
        view.session = record.session
    view.readings = {**unread, **readings_of(record)}
    return view


def readings_of(record: Recorded) -> dict[str, Any]:
    """Return the signals that were recorded, by name."""
    found = dict(record.inputs.readings) if record.inputs is not None else {}
    if record.task:
        found["task"] = record.task
    if record.complexity is not None:
        found.setdefault("complexity", record.complexity)
    return found


def _client(said: Caller | None) -> Client | None:
    if said is None:
        return None
    return Client(
        said.kind,
        said.name,
        said.namespace,
        tier=said.tier,
        team=said.team,
        labels=said.labels,
    )
