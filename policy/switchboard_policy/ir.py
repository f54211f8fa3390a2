"""The compiled form of the configuration: what the operator writes and the data plane reads.

It belongs to neither side and knows nothing of Kubernetes: names are plain strings
(``namespace/name``), durations are milliseconds, prices are picodollars a token, quantities are
counted. An absent capability restricts nothing and is ``None``. Every entry can be understood
by itself; entries refer to each other by name only, so one edit moves one entry.
"""

from typing import Literal

import msgspec

Api = Literal["chat", "completions", "embeddings"]
Modality = Literal["text", "image", "audio", "video", "file"]
BalanceBy = Literal["Latency", "Load", "Cost", "Locality", "Hash", "Scorers"]
ScoreBy = Literal["Latency", "Load", "Cost", "Locality"]
HashSource = Literal["header", "user", "session", "prompt_prefix"]
Provider = Literal["openai-compatible", "openai", "switchboard"]
EngineKind = Literal["vllm", "sglang"]
Task = Literal[
    "code",
    "math",
    "reasoning",
    "extraction",
    "translation",
    "summarisation",
    "creative",
    "chat",
    "factual",
    "classification",
    "tools",
]
SelectBy = Literal["Complexity", "Quality", "Task", "Neighbours", "Classifier", "Bandit"]


class _Part(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A part of an entry. Entries are trees: the garbage collector need not look at them."""


class HeaderMatch(_Part, frozen=True):
    """A header (name in lower case) that must be there, and equal ``value`` if that is given."""

    name: str
    value: str | None = None


class Match(_Part, frozen=True):
    """Fields that must all hold; of a list, any one entry does.

    ``tokens_min`` and ``tokens_max`` are inclusive bounds of the estimated prompt tokens.
    ``keywords`` and ``system_prompt`` are lower case.
    """

    apis: tuple[Api, ...] = ()
    tags: tuple[str, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    keywords: tuple[str, ...] = ()
    tokens_min: int | None = None
    tokens_max: int | None = None
    system_prompt: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()


class Member(_Part, frozen=True):
    """A backend of a tier, by ``namespace/name``; ``weight`` is its share of the requests."""

    backend: str
    weight: int | None = None


class HashKey(_Part, frozen=True):
    """What a Hash balance hashes.

    ``header`` is the name (lower case) if source is header; ``prefix_bytes`` is how much of the
    prompt's beginning counts if it is prompt_prefix.
    """

    source: HashSource
    header: str = ""
    prefix_bytes: int = 0


class Scorer(_Part, frozen=True):
    """One of the scorers of a Scorers balance; it counts in proportion to its weight."""

    by: ScoreBy
    weight: int = 1


class Balance(_Part, frozen=True):
    """How a tier picks among the endpoints that may serve."""

    by: BalanceBy = "Latency"
    key: HashKey | None = None
    scorers: tuple[Scorer, ...] = ()


class Spill(_Part, frozen=True):
    """Thresholds past which the next tier takes a tier's requests; None sets none."""

    queue_wait_ms: int | None = None
    in_flight_permille: int | None = None
    ttft_ms: int | None = None


class Tier(_Part, frozen=True):
    """Backends that are tried together, before those of the next tier."""

    name: str
    members: tuple[Member, ...]
    balance: Balance = Balance()
    spill: Spill | None = None


class Asked(_Part, frozen=True):
    """A model that the gateway asks a question of its own; ``instructions`` are added to that.

    ``backend`` is "" where the one that was named may not serve: then there is no answer.
    """

    backend: str
    timeout_ms: int = 10_000
    instructions: str = ""


class Judge(_Part, frozen=True):
    """A model that says how good an answer is; from ``min_permille`` on it is good enough."""

    asked: Asked
    min_permille: int = 600


class Bandit(_Part, frozen=True):
    """How a select learns which tier pays: a tier's quality, less its cost times a weight.

    The cost is that of the request as a share of the dearest tier's. At most ``explore_permille``
    of the requests take another tier than the best known. A tier that is known to answer worse
    than ``min_quality_permille`` is left out.
    """

    explore_permille: int = 50
    cost_weight_permille: int = 20
    min_quality_permille: int = 0


class Select(_Part, frozen=True):
    """Which of a rule's tiers, from the weakest to the strongest, a request starts with.

    ``thresholds_permille`` rise, one fewer than tiers; without them ``strong_share_permille`` of
    the requests go to the last tier, or as many as hold ``target_quality_permille``. ``tasks`` are
    (task, number of the tier). Quality and Neighbours give up ``max_quality_loss_permille`` for
    cost, or take the best tier for ``target_cost_picodollars`` a request where that is said.
    ``router`` is the digest of the learned router, "" for the one that ships.
    """

    by: SelectBy
    thresholds_permille: tuple[int, ...] = ()
    strong_share_permille: int | None = None
    target_quality_permille: int | None = None
    max_quality_loss_permille: int = 0
    target_cost_picodollars: int | None = None
    tasks: tuple[tuple[Task, int], ...] = ()
    classifier: Asked | None = None
    bandit: Bandit | None = None
    router: str = ""
    margin_permille: int = 20
    stronger_when_unsure: bool = True
    downgrade: bool = True
    sticky: bool = True


class Intent(_Part, frozen=True):
    """What a request may want: it is like one of the examples by this cosine at least."""

    name: str
    examples: tuple[str, ...]
    threshold_permille: int = 400


class Cascade(_Part, frozen=True):
    """The tiers are asked from the first on until an answer passes all checks that are said.

    ``confidence_permille`` is the least mean probability of the answer's tokens, ``agreement`` the
    backend whose answer must come to the same ("" for one that may not serve), ``when`` a condition
    over ``answer.*`` and ``regex`` an RE2 expression over its text, ``json_schema`` a schema in
    JSON. What the last tier says is not checked. A streamed answer is held back until it is whole,
    for ``hold_chars`` of content and ``hold_ms`` at most; then it is sent unjudged, or the next
    tier is asked.
    """

    confidence_permille: int | None = None
    agreement: str | None = None
    when: str = ""
    regex: str = ""
    json_schema: str = ""
    judge: Judge | None = None
    hold_chars: int = 16_000
    hold_ms: int = 30_000
    send_unjudged: bool = True


class Ensemble(_Part, frozen=True):
    """So many backends answer, and the judge's choice goes out, or without one the most common.

    A request whose answers are foreseen to cost more than ``max_cost_picodollars`` is answered by
    one of them.
    """

    candidates: int
    judge: Asked | None = None
    max_cost_picodollars: int | None = None


class Mirror(_Part, frozen=True):
    """A backend that gets a share of the requests once more, whose answers nobody sees.

    All pods together spend ``max_cost_picodollars`` an hour on it at most.
    """

    backend: str
    sample_permille: int
    max_cost_picodollars: int
    judge: Asked | None = None


class Review(_Part, frozen=True):
    """Answers are marked for review, and told to a webhook: with the texts only if so said."""

    webhook: str
    texts: bool = False


class Rule(_Part, frozen=True):
    """The first rule whose ``match`` and ``when`` both hold decides the tiers, in order.

    At most one of ``select``, ``cascade`` and ``ensemble`` is said.
    """

    name: str
    tiers: tuple[Tier, ...]
    match: Match | None = None
    when: str = ""
    select: Select | None = None
    cascade: Cascade | None = None
    ensemble: Ensemble | None = None
    mirror: Mirror | None = None
    review: Review | None = None


class Guardrail(_Part, frozen=True):
    """A hard limit: while ``when`` holds ("" always does), the backends named may not serve.

    ``require`` was evaluated by the compiler: ``forbids`` lists the backends, among those that
    the policy's tiers name, which did not meet it. ``policy`` says whose guardrail it is.
    """

    name: str
    policy: str
    forbids: tuple[str, ...]
    when: str = ""


class Hedge(_Part, frozen=True):
    """When a silent attempt is joined by another, for at most a share of the requests.

    ``after_ms`` 0 is the 95th percentile of what such requests have taken of late.
    """

    after_ms: int = 0
    budget_permille: int = 20


class Arm(_Part, frozen=True):
    """One side of a comparison, and its share of the callers."""

    name: str
    weight: int = 1


class Learning(_Part, frozen=True):
    """Decisions are logged, and rated: by callers, and a share of them by ``judge``.

    ``texts`` are kept in the log if so said. All pods together spend
    ``judge_max_cost_picodollars`` an hour on the judge at most.
    """

    texts: bool = False
    judge: Asked | None = None
    judge_sample_permille: int = 0
    judge_max_cost_picodollars: int = 0


class Policy(_Part, frozen=True, tag="policy"):
    """A compiled RoutingPolicy.

    ``models`` are public names, exact or with a trailing ``*``. ``namespace_rank`` (lower wins)
    and ``priority`` (higher wins) order the policies that claim a model name, DESIGN's precedence.
    A stream that breaks is restarted while at most ``restart_within_chars`` of content were sent;
    0 never restarts one.
    """

    name: str
    models: tuple[str, ...]
    rules: tuple[Rule, ...]
    guardrails: tuple[Guardrail, ...] = ()
    namespace_rank: int = 0
    priority: int = 0
    attempts: int = 3
    deadline_ms: int = 120_000
    retry_budget_permille: int = 200
    max_retry_after_wait_ms: int = 3_000
    max_ejected_permille: int = 500
    restart_within_chars: int = 0
    hedge: Hedge | None = None
    intents: tuple[Intent, ...] = ()
    arms: tuple[Arm, ...] = ()
    learning: Learning | None = None


class Capabilities(_Part, frozen=True):
    """What a model can do; ``None`` restricts nothing."""

    apis: tuple[Api, ...] | None = None
    modalities: tuple[Modality, ...] | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    context_window_tokens: int | None = None
    max_output_tokens: int | None = None


class Pricing(_Part, frozen=True):
    """Prices in picodollars (10⁻¹² US dollars) a token: "0.05" dollars a million is 50,000."""

    input_picodollars: int = 0
    cached_input_picodollars: int | None = None
    output_picodollars: int = 0


class Timeouts(_Part, frozen=True):
    """Bounds of one attempt, in milliseconds."""

    connect_ms: int = 2_000
    first_token_ms: int = 10_000
    idle_ms: int = 15_000
    total_ms: int = 300_000


class Probe(_Part, frozen=True):
    """What each endpoint is asked for, by GET, to see whether it is well; ``path`` is absolute."""

    path: str
    interval_ms: int = 5_000
    timeout_ms: int = 2_000
    unhealthy_after: int = 3
    healthy_after: int = 1


class Breaker(_Part, frozen=True):
    """When an endpoint's failures leave it out, and for how long; the rate is in thousandths."""

    consecutive_failures: int = 5
    failure_rate_permille: int = 500
    open_for_ms: int = 10_000


class Health(_Part, frozen=True):
    """How it is told that an endpoint is unwell; without a ``probe`` only by its answers.

    One that is new or well again comes to its full share in ``slow_start_ms``.
    """

    probe: Probe | None = None
    breaker: Breaker = Breaker()
    slow_start_ms: int = 30_000


class Telemetry(_Part, frozen=True):
    """Where an engine tells of its load: a Prometheus page at an absolute path, read so often."""

    engine: EngineKind
    path: str = "/metrics"
    interval_ms: int = 1_000


class Queue(_Part, frozen=True):
    """How many requests wait in a data plane while all endpoints are at their limit, how long."""

    max_waiting: int = 100
    max_wait_ms: int = 10_000


class Backend(_Part, frozen=True, tag="backend"):
    """A compiled ModelBackend.

    ``url`` is the base to which ``/chat/completions`` is appended. For an external backend it is
    absolute and is the one endpoint; for a service its host is the Service's DNS name, and the
    addresses come from the ``Endpoints`` entry. ``credential`` is the object key of the sealed
    credential, "" if none is wanted; if it is wanted and absent the backend may not serve.
    ``quality`` are (task or "default", thousandths) that its answers reach.
    The provider ``switchboard`` is a gateway, to which a sidecar sends what it does not serve
    itself; its ``model`` is "": the caller's goes on.
    Requests wait ``wake_hold_ms`` for the first endpoint of a service that has none; 0 never waits.
    """

    name: str
    uid: str
    model: str
    provider: Provider
    external: bool
    url: str
    credential: str = ""
    capabilities: Capabilities = Capabilities()
    pricing: Pricing | None = None
    region: str = ""
    zone: str = ""
    jurisdiction: str = ""
    max_in_flight: int | None = None
    queue: Queue | None = None
    wake_hold_ms: int = 0
    timeouts: Timeouts = Timeouts()
    health: Health = Health()
    telemetry: Telemetry | None = None
    quality: tuple[tuple[str, int], ...] = ()


class Endpoint(_Part, frozen=True):
    """One address (``10.0.0.7:8000``, ``[fd00::7]:8000``) of a backend and where it is."""

    address: str
    zone: str = ""


class Endpoints(_Part, frozen=True, tag="endpoints"):
    """The addresses of a service backend that are ready to serve, sorted by address.

    Where none is, those that still serve while they terminate, and ``terminating`` says so.
    """

    backend: str
    addresses: tuple[Endpoint, ...]
    terminating: bool = False


class Credential(_Part, frozen=True, tag="credential"):
    """A sealed API key: ``sealed`` is nonce and AES-256-GCM ciphertext under key ``key_id``.

    The additional data are the scope, the backend's UID and the URL's origin, so a credential
    opens for nobody else and is never sent elsewhere.
    """

    backend: str
    key_id: str
    sealed: bytes


class Client(_Part, frozen=True, tag="client"):
    """Who may call by a key: ``digest`` is its keyed hash (hex) under key ``key_id`` of the scope.

    ``models`` are public names, exact or with a trailing ``*``; without any, all may be used.
    ``expires_ms`` is in milliseconds of Unix time, None for never. ``labels`` are sorted pairs.
    """

    name: str
    key_id: str
    digest: str
    tier: str = ""
    team: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    expires_ms: int | None = None


Entry = Policy | Backend | Endpoints | Credential | Client
