"""The store's contract: scopes, channels, a manifest, a log, and the pods that read them.

A scope (``gw/default``) holds two channels, ``policy`` and ``endpoints``, of the same shape:
content-addressed entries (digest → bytes), a manifest (object → digest), and a capped log of
lines that each name the revision before them, so that a reader applies contiguous lines and does
a full resync on a gap. Endpoints have their own channel because they change a hundred times as
often. Redis is one form of it, the in-process store of ``switchboard dev`` the other; both pass
the same contract tests.

A writer signs each line, manifest field and head under the scope's key; a reader checks them.

Pods of a scope also tell each other what is true now (``share``, ``shared``): words that are kept
for seconds, signed like the rest, and lost without harm. What they decided, and how it was rated,
goes into a log of the scope (``record``, ``recorded``) that is bounded by number and by age.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from switchboard_policy.codec import Encoded

Channel = Literal["policy", "endpoints"]
CHANNELS: Final[tuple[Channel, ...]] = ("policy", "endpoints")

#: A pod that said nothing for this long counts as silent (heartbeats come every 5 s).
SILENT_MS: Final = 15_000

#: Words between pods are about what is true now: they are kept for this long, for a pod that was
#: away for a moment.
WORDS_KEPT_MS: Final = 5_000


#: Stands in ``Pod.refused`` for the objects beyond those that a pod names; the reason counts them.
MORE_REFUSED: Final = "more"

#: Stands in ``Pod.refused`` for all of the policy channel, while the pod does not trust the store.
POLICY_REFUSED: Final = "channel/policy"


class Revision(NamedTuple):
    """(epoch, sequence): the epoch is raised by every new leader, the sequence by every line.

    Revisions are ordered by epoch, then by sequence; the sequence goes on across epochs.
    """

    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Read ``EPOCH-SEQUENCE``; raises ValueError."""
        epoch, _, sequence = text.partition("-")
        return cls(int(epoch), int(sequence))


ZERO: Final = Revision(0, 0)


#: The digest of a line without an object that a new leader writes where nothing has changed.
CONTINUES: Final = "continues"


class Head(msgspec.Struct, frozen=True):
    """Where a channel stands: its newest revision, the format of its entries, the signature.

    The signature covers the whole manifest too: no field can be dropped or rolled back unseen.
    """

    revision: Revision
    format: int
    mac: str


class Field(msgspec.Struct, frozen=True):
    """A manifest field: the digest in force for an object since ``revision``."""

    object: str
    digest: str
    revision: Revision
    mac: str


class Line(msgspec.Struct, frozen=True):
    """A line of the log; an empty digest means that the object is gone.

    An empty object means that the manifest was written anew and must be read again; with the
    digest CONTINUES, that nothing changed and the revision is now of a new leader's epoch.
    ``at_ms`` is the store's time of writing; it is for measuring alone and is not signed.
    """

    revision: Revision
    previous: Revision
    object: str
    digest: str
    mac: str
    at_ms: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """A consistent reading of a channel: head and fields belong together."""

    head: Head
    fields: Mapping[str, Field]


class StoreRefused(ConnectionError):
    """The store answered, and the answer is an error."""


class Pod(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a data plane says of itself.

    ``revision`` is that of the policy channel in force; ``refused`` maps objects to the reason
    for which their newest entry is not in force, and POLICY_REFUSED and MORE_REFUSED to what they
    stand for. ``key_ids`` are the scope keys that it holds.
    ``uid`` is its Kubernetes Pod's, "" if none.
    """

    name: str
    revision: Revision
    refused: Mapping[str, str] = {}
    formats: tuple[int, ...] = (1,)
    key_ids: tuple[str, ...] = ()
    namespace: str = ""
    uid: str = ""
    zone: str = ""


class PodSeen(msgspec.Struct, frozen=True):
    """A data plane as the store saw it last; the age is by the store's clock, in milliseconds."""

    pod: Pod
    age_ms: int


class Registered(msgspec.Struct, frozen=True):
    """The store's answer to a pod: the names of the live pods, in order, and the store's time."""

    pods: tuple[str, ...]
    at_ms: int


class Word(msgspec.Struct, frozen=True):
    """What a pod tells the others of its scope.

    ``topic`` says what it is about. ``said_ms`` is when, by the store's clock: no pod's clock means
    anything to another. ``mac`` signs all of it.
    """

    topic: str
    pod: str
    said_ms: int
    body: bytes
    mac: str


class Heard(msgspec.Struct, frozen=True):
    """Words in their order; ``after`` is where to go on, ``at_ms`` the store's time of reading."""

    words: Sequence[Word]
    after: str
    at_ms: int


class Record(msgspec.Struct, frozen=True):
    """An entry of the log of decisions: what a pod says in it, and the signature over both."""

    pod: str
    body: bytes
    mac: str


class Recorded(msgspec.Struct, frozen=True):
    """Entries of that log in their order; ``after`` is where to go on."""

    records: Sequence[Record]
    after: str


class Retention(NamedTuple):
    """How much the log of decisions keeps: so many entries, none older than that."""

    entries: int
    age_ms: int


class StoreWriter(Protocol):
    """The operator's side. Every call may raise ConnectionError (the store is away).

    ``publish``, ``replace`` and ``collect`` raise Deposed where the store holds a newer epoch; the
    first of them under an epoch shuts out every older one. The store outlives the writer, and may
    lose what it holds at any time: ``intact`` notices, ``replace`` mends.
    """

    async def epoch(self, scopes: Sequence[str]) -> int:
        """Return the highest epoch that the store has seen in these scopes; 0 if none."""
        ...

    async def head(self, scope: str, channel: Channel) -> Head | None:
        """Return where the channel stands; None if the store holds nothing of it."""
        ...

    async def manifest(self, scope: str, channel: Channel) -> Manifest | None:
        """Return the whole manifest; None if the store holds nothing of it."""
        ...

    async def intact(self, scope: str, channel: Channel) -> bool:
        """Say whether the channel still is what this writer left (cheap: call every 5 s).

        False before this writer's first ``publish`` or ``replace``, and where fields, lines or
        the head were lost or added by others. It stays False where a ``publish`` met the loss and
        this writer did not know all entries (another one wrote them): then ``replace`` must mend.
        """
        ...

    def fields(self, scope: str, channel: Channel) -> Mapping[str, Field]:
        """Return the manifest's fields as this writer left them, without asking the store."""
        ...

    async def publish(
        self, scope: str, channel: Channel, *, epoch: int, changes: Mapping[str, Encoded | None]
    ) -> Revision:
        """Write changed objects (None: gone) with their lines; return the new revision.

        An object whose digest is in force already adds nothing. More than BATCH_LINES changes are
        cut into several steps, each of which leaves the channel consistent. Where the store lost
        the channel, all that this writer published is written again first, entries and manifest.
        """
        ...

    async def replace(
        self, scope: str, channel: Channel, *, epoch: int, contents: Mapping[str, Encoded]
    ) -> Revision:
        """Make the channel hold exactly these objects; return the revision.

        For a new leader's first pass, for repair, and every minute: only differences are
        written, entries that were lost or damaged are written again, and fields that a retired
        key signed are signed anew. Where the manifest is not what this writer left, it is written
        anew in one step, so a reader never takes a loss for a deletion.
        """
        ...

    async def collect(
        self, scope: str, channel: Channel, *, epoch: int, unreferenced_ms: int
    ) -> int:
        """Delete entries that nothing has referenced for that long; return how many."""
        ...

    def let_go(self, scope: str) -> None:
        """Forget what this writer knows of a scope, in which no call may be under way.

        Should it come again, its revisions go on from where they were.
        """
        ...

    async def pods(self, scope: str) -> Sequence[PodSeen]:
        """Return the data planes that registered and have not left."""
        ...

    async def forget(self, scope: str, pod: str) -> None:
        """Remove a data plane that is gone for good."""
        ...

    async def wait_for_acks(
        self, scopes: Sequence[str], *, timeout_ms: int
    ) -> Mapping[str, Set[str]]:
        """Wait until pods of some of the scopes said something new; return who did, by scope.

        A goodbye is something new, too: a pod that is gone without one was lost by the store.
        """
        ...


class StoreReader(Protocol):
    """The data plane's side of one scope. Every call may raise ConnectionError.

    A reader hands over what the store holds, unchecked; bytes that cannot be read become a head,
    field or line without a signature, so that they are refused like any other forgery.
    """

    async def head(self, channel: Channel) -> Head | None:
        """Return where the channel stands; None if the store holds nothing of it."""
        ...

    async def manifest(self, channel: Channel) -> Manifest | None:
        """Return the whole manifest; None if the store holds nothing of it."""
        ...

    async def entries(self, channel: Channel, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return the bodies that the store holds of these digests."""
        ...

    async def lines(
        self, after: Mapping[Channel, Revision], *, timeout_ms: int
    ) -> Mapping[Channel, Sequence[Line]]:
        """Wait for lines after the given revisions; empty when the time is over."""
        ...

    async def register(self, pod: Pod) -> Registered:
        """Say what is in force: ack and heartbeat in one."""
        ...

    async def goodbye(self, pod: str) -> None:
        """Leave."""
        ...

    async def share(self, word: Word) -> None:
        """Tell all pods of the scope, this one among them; older words than WORDS_KEPT_MS go."""
        ...

    async def shared(self, after: str, *, timeout_ms: int) -> Heard:
        """Wait for words after a place, "" for all that are kept; none when the time is over."""
        ...

    async def record(self, records: Sequence[Record], *, keep: Retention) -> None:
        """Append to the log of decisions; what is beyond the retention goes."""
        ...

    async def recorded(self, after: str, *, limit: int) -> Recorded:
        """Return the oldest entries after a place, "" for the beginning; none at the end."""
        ...
