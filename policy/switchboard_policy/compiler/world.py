"""The world as the operator knows it: what the compiler reads, and all that it reads.

Objects are immutable and replaced, never changed, so that the identity of an object says whether
it is new: that is what the compiler's memo goes by.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.parse import Problem
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec

SpecT = TypeVar("SpecT")


class Name(NamedTuple):
    """A namespaced name; ``str()`` gives ``namespace/name``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class CustomResource(Generic[SpecT]):
    """One of our objects as it is now.

    ``problems`` are those of the object itself; ``spec`` is None if there are any. ``last_good``
    is then what stays in force: the newest spec that had none, if there ever was one.
    """

    name: Name
    uid: str
    generation: int
    spec: SpecT | None
    problems: tuple[Problem, ...] = ()
    last_good: SpecT | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def effective(self) -> SpecT | None:
        """The spec in force."""
        return self.spec if self.spec is not None else self.last_good


BackendObject = CustomResource[ModelBackendSpec]
PolicyObject = CustomResource[RoutingPolicySpec]


@dataclass(frozen=True, slots=True)
class Service:
    """The ports of a Service: name ("" if unnamed) to number."""

    name: Name
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One endpoint of an EndpointSlice; absent conditions are read as Kubernetes says."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A slice of a Service's endpoints; ``ports`` is port name ("" if unnamed) to number."""

    name: Name
    service: str
    ports: Mapping[str, int]
    endpoints: tuple[SliceEndpoint, ...]


@dataclass(frozen=True, slots=True)
class Secret:
    """A labelled Secret; ``created`` is its time of creation as the API server writes it.

    ``is_client`` says that it is labelled as the key of a client.
    """

    name: Name
    uid: str
    resource_version: str
    data: Mapping[str, bytes] = field(repr=False)
    created: str = ""
    is_client: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """What an administrator says of a gateway (operator settings, never a custom resource).

    ``admit`` is Same (the gateway's own ``namespace``), All, or Selector (``selector`` over the
    namespaces' labels). ``order`` lists namespaces from the strongest; those not listed come
    after. ``platform_namespace`` may hold platform guardrails; "" for none. ``clients_from`` says
    as ``admit`` does in which namespaces client Secrets are keys of this gateway.
    """

    name: str
    namespace: str
    admit: Literal["Same", "Selector", "All"] = "All"
    selector: Mapping[str, str] = field(default_factory=dict[str, str])
    order: tuple[str, ...] = ()
    platform_namespace: str = ""
    clients_from: Literal["Same", "Selector", "All"] = "Same"
    clients_selector: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a compilation depends on; ``slices`` is by the Service's name.

    ``clients`` are those of the ``secrets`` that are labelled as keys of clients.
    """

    backends: Mapping[Name, BackendObject]
    policies: Mapping[Name, PolicyObject]
    services: Mapping[Name, Service] = field(default_factory=dict[Name, Service])
    slices: Mapping[Name, Mapping[str, EndpointSlice]] = field(
        default_factory=dict[Name, Mapping[str, EndpointSlice]]
    )
    secrets: Mapping[Name, Secret] = field(default_factory=dict[Name, Secret])
    namespaces: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )
    clients: Mapping[Name, Secret] = field(default_factory=dict[Name, Secret])
