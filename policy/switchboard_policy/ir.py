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
BalanceBy = Literal["Latency", "Load", "Cost", "Locality", "Hash"]
HashSource = Literal["header", "user", "session"]
Provider = Literal["openai-compatible", "openai"]


class HeaderMatch(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A header (name in lower case) that must be there, and equal ``value`` if that is given."""

    name: str
    value: str | None = None


class Match(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
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


class Member(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A backend of a tier, by ``namespace/name``; ``weight`` is its share of the requests."""

    backend: str
    weight: int | None = None


class HashKey(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a Hash balance hashes; ``header`` is the name (lower case) if source is header."""

    source: HashSource
    header: str = ""


class Balance(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a tier picks among the endpoints that may serve."""

    by: BalanceBy = "Latency"
    key: HashKey | None = None


class Tier(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Backends that are tried together, before those of the next tier."""

    name: str
    members: tuple[Member, ...]
    balance: Balance = Balance()


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The first rule whose ``match`` and ``when`` both hold decides the tiers, in order."""

    name: str
    tiers: tuple[Tier, ...]
    match: Match | None = None
    when: str = ""


class Guardrail(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A hard limit: while ``when`` holds ("" always does), the backends named may not serve.

    ``require`` was evaluated by the compiler: ``forbids`` lists the backends, among those that
    the policy's tiers name, which did not meet it. ``policy`` says whose guardrail it is.
    """

    name: str
    policy: str
    forbids: tuple[str, ...]
    when: str = ""


class Policy(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="policy"
):
    """A compiled RoutingPolicy.

    ``models`` are public names, exact or with a trailing ``*``. ``namespace_rank`` (lower wins)
    and ``priority`` (higher wins) order the policies that claim a model name, DESIGN's precedence.
    """

    name: str
    models: tuple[str, ...]
    rules: tuple[Rule, ...]
    guardrails: tuple[Guardrail, ...] = ()
    namespace_rank: int = 0
    priority: int = 0
    attempts: int = 3
    deadline_ms: int = 120_000


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a model can do; ``None`` restricts nothing."""

    apis: tuple[Api, ...] | None = None
    modalities: tuple[Modality, ...] | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    context_window_tokens: int | None = None
    max_output_tokens: int | None = None


class Pricing(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Prices in picodollars (10⁻¹² US dollars) a token: "0.05" dollars a million is 50,000."""

    input_picodollars: int = 0
    cached_input_picodollars: int | None = None
    output_picodollars: int = 0


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Bounds of one attempt, in milliseconds."""

    connect_ms: int = 2_000
    first_token_ms: int = 10_000
    idle_ms: int = 15_000
    total_ms: int = 300_000


class Backend(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="backend"
):
    """A compiled ModelBackend.

    ``url`` is the base to which ``/chat/completions`` is appended. For an external backend it is
    absolute and is the one endpoint; for a service its host is the Service's DNS name, and the
    addresses come from the ``Endpoints`` entry. ``credential`` is the object key of the sealed
    credential, "" if none is wanted; if it is wanted and absent the backend may not serve.
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
    timeouts: Timeouts = Timeouts()


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One address (``10.0.0.7:8000``, ``[fd00::7]:8000``) of a backend and where it is."""

    address: str
    zone: str = ""


class Endpoints(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="endpoints"
):
    """The addresses of a service backend that are ready to serve, sorted by address."""

    backend: str
    addresses: tuple[Endpoint, ...]


class Credential(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="credential"
):
    """A sealed API key: ``sealed`` is nonce and AES-256-GCM ciphertext under key ``key_id``.

    The additional data are the scope, the backend's UID and the URL's origin, so a credential
    opens for nobody else and is never sent elsewhere.
    """

    backend: str
    key_id: str
    sealed: bytes


Entry = Policy | Backend | Endpoints | Credential
