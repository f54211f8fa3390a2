"""The strings that both planes agree on: API group, labels, headers, reasons, object keys."""

from typing import Final

GROUP: Final = "switchboard.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

#: The operator reads only Secrets that carry this label (a watch can select labels,
#: RBAC cannot select names that are not known yet).
SECRET_LABEL: Final = "switchboard.dev/secret"  # noqa: S105 - a label, not a secret

#: On a labelled Secret: it is the key of a client, which may call the gateway.
CLIENT_LABEL: Final = "switchboard.dev/client"
#: No API key of a client is longer, so what is need not be hashed.
CLIENT_KEY_CHARACTERS_MAX: Final = 512
#: The form of a token of Kubernetes: no key of a client has it.
TOKEN_PATTERN: Final = r"[-_A-Za-z0-9]+={0,2}(?:\.[-_A-Za-z0-9]+={0,2}){2}"  # noqa: S105
#: On a namespace or a pod: its pods get a sidecar.
INJECT_LABEL: Final = "switchboard.dev/inject"
#: On a pod: it has one.
INJECTED_LABEL: Final = "switchboard.dev/injected"
#: On the Secret that the sidecars of a namespace mount.
SIDECAR_LABEL: Final = "switchboard.dev/sidecar"
SIDECAR_SECRET: Final = "switchboard-sidecar"  # noqa: S105 - a name
#: The value of these two where it is so.
LABELLED: Final = "true"

HEADER_PREFIX: Final = "x-switchboard-"
HEADER_BACKEND: Final = "x-switchboard-backend"
HEADER_RULE: Final = "x-switchboard-rule"
HEADER_TIER: Final = "x-switchboard-tier"
HEADER_ATTEMPTS: Final = "x-switchboard-attempts"
HEADER_REVISION: Final = "x-switchboard-revision"
HEADER_REASON: Final = "x-switchboard-reason"
HEADER_COST: Final = "x-switchboard-cost"
HEADER_REVIEW: Final = "x-switchboard-review"
HEADER_ARM: Final = "x-switchboard-arm"
HEADER_DECISION: Final = "x-switchboard-decision"
HEADER_TAGS: Final = "x-switchboard-tags"
HEADER_SESSION: Final = "x-switchboard-session"
HEADER_DEADLINE_MS: Final = "x-switchboard-deadline-ms"
HEADER_PRIORITY: Final = "x-switchboard-priority"
HEADER_ROLE: Final = "x-switchboard-role"
HEADER_STAGE: Final = "x-switchboard-stage"
HEADER_LATENCY_CLASS: Final = "x-switchboard-latency-class"
HEADER_MIN_QUALITY: Final = "x-switchboard-min-quality"
HEADER_LABELS: Final = "x-switchboard-labels"

APIS: Final = ("chat", "completions", "embeddings")
MODALITIES: Final = ("text", "image", "audio", "video", "file")


def policy_key(namespace: str, name: str) -> str:
    """Return the store's object key of a compiled policy: ``policy/NAMESPACE/NAME``."""
    return f"policy/{namespace}/{name}"


def backend_key(namespace: str, name: str) -> str:
    """Return the store's object key of a compiled backend: ``backend/NAMESPACE/NAME``."""
    return f"backend/{namespace}/{name}"


def credential_key(namespace: str, name: str) -> str:
    """Return the store's object key of the sealed credential of the backend of that name."""
    return f"credential/{namespace}/{name}"


def endpoints_key(namespace: str, name: str) -> str:
    """Return the store's object key of the endpoints of the backend of that name."""
    return f"endpoints/{namespace}/{name}"


def client_key(namespace: str, name: str) -> str:
    """Return the store's object key of a client: ``client/NAMESPACE/NAME``."""
    return f"client/{namespace}/{name}"


def namespace_scope(namespace: str) -> str:
    """Return the scope of the sidecars of a namespace: ``ns/NAMESPACE``."""
    return f"ns/{namespace}"


def gateway_scope(name: str) -> str:
    """Return the scope of a gateway: ``gw/NAME``."""
    return f"gw/{name}"


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, to which a credential is bound; total."""
    scheme, _, rest = url.partition("://")
    authority = rest.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]
    return f"{scheme.lower()}://{authority}"
