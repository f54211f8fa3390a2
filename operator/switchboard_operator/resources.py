"""The kinds of objects that the operator reads, and where the API server serves them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from switchboard_policy.compiler.world import Name
from switchboard_policy.names import GROUP, SECRET_LABEL, SIDECAR_LABEL, VERSION

Raw = Mapping[str, Any]
"""An object of the API server, or a part of one, as JSON has it."""

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"

#: The ControllerRevisions that keep a last good spec; the value is the kind of its object.
LAST_GOOD_LABEL: Final = f"{GROUP}/last-good"


class Kind(StrEnum):
    """What is watched."""

    BACKEND = "ModelBackend"
    POLICY = "RoutingPolicy"
    SERVICE = "Service"
    SLICE = "EndpointSlice"
    SECRET = "Secret"  # noqa: S105 - a kind, not a password
    NAMESPACE = "Namespace"


class ObjectKey(NamedTuple):
    """One object of a kind, whichever uid it has at the moment."""

    kind: Kind
    name: Name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Listed(NamedTuple):
    """An object in a list of names."""

    name: Name
    uid: str
    version: int


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the objects of a kind are: group, version, plural; ``selector`` limits every list."""

    group: str
    version: str
    plural: str
    namespaced: bool = True
    selector: str = ""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the URL path of the collection, or of one object; no namespace means all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{quote(namespace, '')}" if namespace and self.namespaced else ""
        return f"{root}{within}/{self.plural}" + (f"/{quote(name, '')}" if name else "")


WATCHED: Final[Mapping[Kind, Resource]] = {
    Kind.NAMESPACE: Resource("", "v1", "namespaces", namespaced=False),
    Kind.SECRET: Resource("", "v1", "secrets", selector=SECRET_LABEL),
    Kind.SERVICE: Resource("", "v1", "services"),
    Kind.SLICE: Resource("discovery.k8s.io", "v1", "endpointslices", selector=SERVICE_NAME_LABEL),
    Kind.BACKEND: Resource(GROUP, VERSION, "modelbackends"),
    Kind.POLICY: Resource(GROUP, VERSION, "routingpolicies"),
}
"""In the order of the first lists: what is referred to before what refers."""

OURS: Final = (Kind.BACKEND, Kind.POLICY)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
CONTROLLER_REVISIONS: Final = Resource(
    "apps", "v1", "controllerrevisions", selector=LAST_GOOD_LABEL
)
EVENTS: Final = Resource("", "v1", "events")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
PODS: Final = Resource("", "v1", "pods")
SECRETS: Final = Resource("", "v1", "secrets")
TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", namespaced=False
)
MUTATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", namespaced=False
)
#: The Secrets that sidecars mount, one a namespace.
SIDECAR_SECRETS: Final = Resource("", "v1", "secrets", selector=SIDECAR_LABEL)


def part(of: Raw, name: str) -> Raw:
    """Return the map at a key; an empty one where it is absent or null."""
    found: Raw | None = of.get(name)
    return found if found is not None else {}


def parts(of: Raw, name: str) -> Sequence[Raw]:
    """Return the list of maps at a key; an empty one where it is absent or null."""
    found: Sequence[Raw] | None = of.get(name)
    return found if found is not None else ()
