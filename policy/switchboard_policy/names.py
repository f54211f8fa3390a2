"""The strings that both planes agree on: API group, labels, headers, reasons, object keys."""

from typing import Final

GROUP: Final = "switchboard.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

#: The operator reads only Secrets that carry this label (a watch can select labels,
#: RBAC cannot select names that are not known yet).
SECRET_LABEL: Final = "switchboard.dev/secret"  # noqa: S105 - a label, not a secret

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


def gateway_scope(name: str) -> str:
    """Return the scope of a gateway: ``gw/NAME``."""
    return f"gw/{name}"


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, to which a credential is bound; total."""
    scheme, _, rest = url.partition("://")
    authority = rest.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]
    return f"{scheme.lower()}://{authority}"
