"""What is running: the immutable form of the policy that a decision reads.

Built by ``snapshot.py`` from the compiled entries. Backends have a number within their policy,
so that sets of them are integers: bit *i* stands for ``policy.backends[i]``. A policy names its
backends and holds nothing of them, so a change of endpoints or of a backend rebuilds no policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern

from switchboard_dataplane.acyclic import mypyc_attr
from switchboard_dataplane.decision.client import NO_CLIENTS, Clients
from switchboard_dataplane.signals.breaker import Era
from switchboard_policy import ir
from switchboard_policy.facts import Facts, Program


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One address of a backend that may serve. ``id`` is ``namespace/name@address``.

    ``backend`` has everything of the backend but its endpoints: those are the snapshot's to tell.
    ``url`` is the base to which ``/chat/completions`` is appended. ``host`` is the name that TLS
    and the Host header go by, "" where the URL's own is right.
    """

    id: str
    backend: "Backend"
    address: str
    url: str
    zone: str
    host: str = ""


@mypyc_attr(acyclic=True)
@dataclass(slots=True, eq=False)
class Backend:
    """A backend with its opened credential; ``endpoints`` are those that are ready.

    Where none is, those that still serve: then it is ``terminating``, and the last to be asked.
    ``credential`` is the identity of the credential: another one for another key, "" without one.
    ``unusable`` says why nothing may be sent to it although it is published; "" if it may serve.
    Filled once by the snapshot builder, never changed after.
    ``places`` remembers where a ring has its endpoints, by id; the next form of the backend has it,
    too.
    """

    name: str
    spec: ir.Backend
    api_key: str = field(default="", repr=False)
    credential: str = ""
    unusable: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    terminating: bool = False
    places: dict[str, int] = field(default_factory=dict, repr=False)


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Matcher:
    """A structured match, ready to run; an empty field restricts nothing.

    ``keywords`` are (lower-case word, pattern that finds it as a whole word); ``keywords_ns`` and
    ``system_prompt_ns`` what it takes at worst, for each character, to look for all of them.
    """

    apis: frozenset[str]
    tags: frozenset[str]
    headers: tuple[tuple[str, str | None], ...]
    keywords: tuple[tuple[str, Pattern[str]], ...]
    tokens_min: int | None
    tokens_max: int | None
    system_prompt: tuple[str, ...]
    roles: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    arms: frozenset[str] = frozenset()
    keywords_ns: int = 0
    system_prompt_ns: int = 0


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Tier:
    """A tier; ``mask`` are its backends, ``weights`` their (number, share) if the tier has any."""

    name: str
    mask: int
    balance: ir.Balance
    weights: tuple[tuple[int, int], ...] = ()
    spill: ir.Spill | None = None


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule; it matches if both ``matcher`` and ``when`` do (None always does).

    ``spills`` says whether any tier hands requests on before anything fails. With ``select`` one of
    ``starts`` takes its place: the same rule with the tiers in the order in which they are tried
    after the one of that number. ``spec`` says what else becomes of its requests; ``accepts`` is
    the condition of its cascade over ``answer.*``. ``composed`` says that an answer of its requests
    is not the whole story, ``classifies`` that a model is asked before they are decided. ``steps``
    are the rule with one tier each, for what is asked one by one: a cascade's tiers, an ensemble's
    backends.
    """

    name: str
    matcher: Matcher | None
    when: Program | None
    tiers: tuple[Tier, ...]
    mask: int
    spills: bool = False
    select: ir.Select | None = None
    starts: tuple["Rule", ...] = ()
    spec: ir.Rule | None = None
    accepts: Program | None = None
    composed: bool = False
    classifies: bool = False
    steps: tuple["Rule", ...] = ()


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Guardrail:
    """A guardrail; while ``when`` holds (None always does) ``forbids`` may not serve."""

    name: str
    policy: str
    when: Program | None
    forbids: int


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One side of a policy's comparison; ``place`` is its name's digest, ``weight`` above 0."""

    name: str
    weight: int
    place: int


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy in force; ``facts`` are the CEL facts that its expressions read.

    ``readings`` are the signals of requests that these, and its selects, want to know; ``derived``
    those of them that no rule reads out of the texts. ``recalls`` says that it asks for the past of
    conversations. With ``arms`` every request is on one of them. ``alone`` are rules that send to
    one backend, by its name: whom the gateway asks of its own. ``noted_headers`` and
    ``noted_metadata`` are what its rules and guardrails read by name: the log has them.
    """

    name: str
    spec: ir.Policy
    backends: tuple[str, ...]
    rules: tuple[Rule, ...]
    guardrails: tuple[Guardrail, ...]
    facts: tuple[str, ...]
    readings: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    recalls: bool = False
    arms: tuple[Arm, ...] = ()
    alone: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    noted_headers: tuple[str, ...] = ()
    noted_metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Abilities:
    """What the backends of one policy can do, as masks: the hard filters that need no policy.

    ``usable`` can be sent to at all; ``windows`` are (context window in tokens, backend's bit) of
    those that name one. For ``queues`` requests wait where they are full, for ``wakes`` where they
    have no endpoint.
    """

    usable: int
    apis: Mapping[str, int]
    modalities: Mapping[str, int]
    tools: int
    json_schema: int
    windows: tuple[tuple[int, int], ...]
    queues: int
    wakes: int


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """Endpoints by their ``places`` on a ring of 64-bit numbers."""

    places: tuple[int, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(slots=True, eq=False)
class Pool:
    """The endpoints of a tier's eligible backends; ``limited`` if any has a maxInFlight.

    ``ring`` and ``parts`` (some of the endpoints, by what they have in common) are remembered when
    they are first asked for; ``standing`` are those that were not ejected in an era.
    """

    backends: tuple[Backend, ...]
    endpoints: tuple[Endpoint, ...]
    limited: bool
    ring: Ring | None = None
    parts: dict[object, tuple[Endpoint, ...]] = field(default_factory=dict)
    standing: "Pool | None" = None
    era: Era | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wildcard:
    """A claim to all model names with this prefix; ``order`` compares with that of exact ones."""

    prefix: str
    order: tuple[int, int, int, int, str]
    policy: str


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """The strongest claim to a whole model name; ``policy`` is the name of its policy."""

    order: tuple[int, int, int, int, str]
    policy: str


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything that a request binds once and keeps to its end.

    ``abilities`` and ``pools`` remember pure functions of what is immutable here, filled as
    requests come: only the time they take depends on it. ``live_pods`` share the endpoints'
    limits; ``reads`` says whether any policy wants readings; ``terminating`` are the backends, by
    name, that have no endpoint but those that go; ``clients`` are those that have keys.
    """

    revision: str
    policies: Mapping[str, Policy]
    backends: Mapping[str, Backend]
    exact: Mapping[str, Exact]
    wildcards: tuple[Wildcard, ...]
    facts: Facts
    answer_facts: Facts
    zone: str = ""
    live_pods: int = 1
    reads: bool = False
    terminating: frozenset[str] = frozenset()
    clients: Clients = NO_CLIENTS
    abilities: dict[Policy, Abilities] = field(default_factory=dict)
    pools: dict[tuple[Tier, int], Pool] = field(default_factory=dict)
