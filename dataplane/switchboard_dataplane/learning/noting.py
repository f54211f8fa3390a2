"""What is kept of a request on its way, where its policy learns: as little as the log needs.

Nothing here waits or fails a request. The texts are read after the answer has gone out, and only
where the policy keeps them or a judge is to see them.
"""

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Policy
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.judging.answers import said_in, said_in_stream
from switchboard_dataplane.learning.ids import RANDOM_BYTES, hidden, make_id
from switchboard_dataplane.learning.inputs import Inputs, inputs_of
from switchboard_dataplane.learning.regenerations import last_turn, turn_before
from switchboard_dataplane.reading.texts import last_user_turn
from switchboard_dataplane.wire.answers import Answer
from switchboard_policy import ir
from switchboard_policy.ir import Api
from switchboard_policy.seal import Keyring

if TYPE_CHECKING:
    from switchboard_dataplane.proxy import Caller

log = logging.getLogger(__name__)

#: What is kept of an answer on its way, in bytes; the rest of a longer one is not logged.
ANSWER_BYTES_MAX: Final = 256 * 1024
#: What is kept of all of them together; answers beyond that are logged without their texts.
ANSWERS_BYTES_MAX: Final = 64 * 1024 * 1024
#: Texts in the log are cut to so many characters each.
TEXT_CHARS_MAX: Final = 16_000

_NOTHING_READ: Final[Mapping[str, Any]] = {}


class Noted:
    """A request whose policy learns. ``texts``: they are logged; ``judged``: a judge sees them.

    ``session`` and ``turn`` are keyed hashes of who asked and what, "" and 0 where nobody is named;
    ``continued`` is that of the turn before, whose answer the caller goes on from, 0 without one.
    ``answer`` is what the caller got to read, "" where nobody wants to know. ``view`` and ``plan``
    are there where a judge is to see it. ``inputs`` are what ``policy`` decided from.
    """

    def __init__(
        self, decision: str, *, texts: bool, judged: bool, policy: Policy | None = None
    ) -> None:
        self.id: Final = decision
        self.policy: Final = policy
        self.inputs: Inputs | None = None
        self.texts: Final = texts
        self.judged: Final = judged
        self.selected = ""
        self.reason = ""
        self.session = ""
        self.turn = 0
        self.continued = 0
        self.readings: Mapping[str, Any] = _NOTHING_READ
        self.prompt = ""
        self.answer = ""
        self.listening: Listening | None = None
        self.view: RequestView | None = None
        self.plan: Plan | None = None

    def listen(self, caller: "Caller", room: "Room | None" = None) -> "Caller":
        """Return the caller, overheard if what it gets is to be known."""
        if not (self.texts or self.judged):
            return caller
        self.listening = Listening(caller, room)
        return self.listening


@dataclass(slots=True)
class Room:
    """What all answers that are kept on their way may take, in bytes."""

    left_bytes: int = ANSWERS_BYTES_MAX

    def take(self, size: int) -> bool:
        """Take so much, if there is."""
        if size > self.left_bytes:
            return False
        self.left_bytes -= size
        return True


class Listening:
    """A caller whose answer is kept as it passes: up to ANSWER_BYTES_MAX, and while there is room.

    Room is taken until the answer is read.
    """

    def __init__(self, caller: "Caller", room: Room | None = None) -> None:
        self._caller = caller
        self._room = room
        self._whole = b""
        self._events = bytearray()

    @property
    def api(self) -> Api:
        """The API that is called."""
        return self._caller.api

    @property
    def headers(self) -> MutableMapping[str, str]:
        """The request's headers."""
        return self._caller.headers

    @property
    def peer(self) -> str:
        """Where it comes from."""
        return self._caller.peer

    async def read_body(self) -> bytes:
        """Return the whole body."""
        return await self._caller.read_body()

    async def send(self, answer: Answer) -> None:
        """Keep an answer, and send it."""
        if self._fits(len(answer.body)):
            self._whole = answer.body
        await self._caller.send(answer)

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a streamed answer."""
        await self._caller.begin(status, headers)

    def put(self, data: bytes) -> bool:
        """Keep a piece of it, and write it."""
        if self._fits(len(data)):
            self._events += data
        return self._caller.put(data)

    async def drained(self) -> None:
        """Wait while the caller does not keep up."""
        await self._caller.drained()

    async def end(self) -> None:
        """End it."""
        await self._caller.end()

    def answer(self) -> str:
        """Return the text that the caller got: with refusals and calls of tools."""
        if self._room is not None:
            self._room.left_bytes += len(self._events) + len(self._whole)
            self._room = None
        if self._events:
            return said_in_stream(bytes(self._events), self.api).shown
        return said_in(self._whole, self.api).shown if self._whole else ""

    def _fits(self, size: int) -> bool:
        if len(self._events) + size > ANSWER_BYTES_MAX:
            return False
        return self._room is None or self._room.take(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Takes notes. ``entropy`` returns bytes that nobody can foresee, ``chance`` is in [0, 1)."""

    keyring: Callable[[], Keyring]
    entropy: Callable[[int], bytes]
    chance: Callable[[], float]
    room: Room = field(default_factory=Room)

    def begin(self, learning: ir.Learning, policy: Policy | None = None) -> Noted:
        """Take up a request that was decided, by this policy."""
        sample = learning.judge_sample_permille if learning.judge is not None else 0
        return Noted(
            make_id(self.keyring(), self.entropy(RANDOM_BYTES)),
            texts=learning.texts,
            judged=bool(sample) and self.chance() * 1000 < sample,
            policy=policy,
        )

    def end(self, noted: Noted, view: RequestView, plan: Plan | None, reason: str) -> None:
        """Fill in what is known when the answer has gone out; never fails."""
        noted.reason = reason
        try:
            self._fill(noted, view, plan)
        except Exception:
            log.exception("a decision is noted in part only")

    def _fill(self, noted: Noted, view: RequestView, plan: Plan | None) -> None:
        noted.readings = view.readings
        noted.inputs = inputs_of(view, noted.policy)
        rule = None if plan is None else plan.rule.spec
        if plan is not None and rule is not None and rule.select is not None:
            noted.selected = plan.rule.tiers[0].name
        who = view.session or view.user
        if who:
            policy = "" if plan is None else plan.policy.name
            keyring, client = self.keyring(), view.client
            # Two clients may call their sessions, or users, by one name.
            whose = policy, client.kind, client.id, who
            noted.session = f"{hidden(keyring, 'session', *whose):016x}"
            said, before = last_turn(view), turn_before(view)
            noted.turn = hidden(keyring, "turn", *whose, *said) if said else 0
            noted.continued = hidden(keyring, "turn", *whose, *before) if before else 0
        if noted.judged:
            noted.view, noted.plan = view, plan
        if noted.listening is not None:
            noted.answer = noted.listening.answer()
            noted.listening = None
        if noted.texts:
            noted.prompt = last_user_turn(view)[:TEXT_CHARS_MAX]
