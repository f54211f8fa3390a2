"""What an explanation says: the form of ``/explain`` and of ``switchboard explain``, as JSON.

No word of a prompt, no key and no value of a header is in it. Scores are as a balance has them:
less is better. Ages and times are in seconds, shares in [0, 1].
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from switchboard_dataplane.learning.inputs import Inputs

#: What becomes of a request.
Outcome = Literal["served", "waits", "rejected"]
#: What becomes of a candidate: it may be picked, is there if those before it fail, or fell.
State = Literal["candidate", "later", "dropped"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim to the model's name, ``model`` as the policy has it; ``lost_by`` is why it lost."""

    policy: str
    model: str
    lost_by: str = ""


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the client may use the model; without ``models`` it may use all."""

    client: str
    allowed: bool
    models: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The request as a decision sees it; of headers and metadata only the names."""

    model: str
    api: str
    inputs: Inputs
    stream: bool = False
    task: str = ""
    deadline_ms: int | None = None
    headers: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """The side of the comparison; ``by`` is session, user, or chance."""

    name: str
    by: str
    share: float


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail, whose it is, and what it forbids while it applies.

    ``failed``: its ``when`` could not be evaluated, so it applies.
    """

    name: str
    policy: str
    applies: bool
    forbids: tuple[str, ...]
    when: str = ""
    failed: bool = False


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a match that does not hold: what it asks for, and what the request has."""

    field: str
    wants: str
    has: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, in the policy's order.

    ``reached``: no rule before it had won. ``when`` is its expression, ``held`` whether that is
    true, None where it could not be evaluated.
    """

    name: str
    matches: bool
    won: bool = False
    reached: bool = False
    fields: tuple[Field, ...] = ()
    when: str = ""
    held: bool | None = True


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A tier as a select weighs it: the expected quality, and the price in US dollars."""

    tier: str
    quality: float
    dollars: float | None = None


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """With which tier the rule's select begins, and by what.

    ``gain`` is what a stronger model is expected to gain on the request. ``left_out`` are tiers
    that are not fallen back to. ``shares`` say how often each tier begins, where that is chance.
    """

    by: str
    tier: str
    why: str
    gain: float | None = None
    offers: tuple[Offer, ...] = ()
    left_out: tuple[str, ...] = ()
    shares: Mapping[str, float] = {}


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is known of an endpoint; ``age_s`` is None for what is true now."""

    name: str
    value: float
    age_s: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of a tier, or, with ``address`` "", a backend that falls as a whole.

    ``filter`` is what dropped it and ``why`` says so in words. ``terms`` are what the score is made
    of; ``group`` is its place among the groups of which the first with room is picked from.
    ``share`` is how often it was picked when the pick was drawn many times.
    """

    backend: str
    state: State
    address: str = ""
    endpoints: int = 0
    filter: str = ""
    why: str = ""
    weight: int | None = None
    group: int = 1
    score: float | None = None
    terms: Mapping[str, float] = {}
    signals: tuple[Signal, ...] = ()
    share: float = 0.0


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """A tier of the rule, in the order in which they are tried.

    ``spilled`` is the threshold past which it hands requests on. ``panic``: so much of it is
    ejected that ejections are ignored. ``hidden`` endpoints are too many to be told of.
    """

    name: str
    balance: str
    how: str
    candidates: tuple[Candidate, ...]
    spilled: str = ""
    panic: bool = False
    hidden: int = 0


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """Who is picked most often; ``share`` of ``draws`` is 1 where chance has no say."""

    endpoint: str
    backend: str
    tier: str
    share: float
    draws: int
    why: str
    panic: bool = False


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a request now, and why.

    ``source`` is "pod" or "files". ``status`` is that of the answer, 200 where a model answers;
    ``reason`` the code of the error. ``eligible`` are the backends that no guardrail and no
    capability rules out. ``then`` is what the rule does beside sending the request, ``notes`` what
    this explanation does not know.
    """

    outcome: Outcome
    status: int
    message: str
    source: str
    revision: str
    request: Asked
    permission: Permission
    reason: str = ""
    policy: str = ""
    claims: tuple[Claim, ...] = ()
    arm: Arm | None = None
    guardrails: tuple[Guardrail, ...] = ()
    rules: tuple[Rule, ...] = ()
    rule: str = ""
    select: Selected | None = None
    eligible: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    pick: Pick | None = None
    then: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What of a remembered decision is still in force; nothing is decided again."""

    revision: str
    same_revision: bool
    policy: bool
    rule: bool
    backend: bool


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A decision of this pod by its id: what is remembered of it, and what is not.

    ``decision`` is as it was logged, without texts and without values of headers and metadata.
    """

    decision: Mapping[str, Any]
    age_s: float
    now: Now
    readings: Mapping[str, Any] = {}
    ratings: tuple[Mapping[str, Any], ...] = ()
    forgotten: tuple[str, ...] = ()
