"""The statuses of both kinds: what the operator reports, and what its schema allows."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.common import ListType, Model
from switchboard_policy.v1alpha1.conditions import ACCEPTED, READY, Reason

#: Kubernetes' own bounds of a condition (meta/v1).
TYPE_LENGTH_MAX: Final = 316
REASON_LENGTH_MAX: Final = 1024
MESSAGE_LENGTH_MAX: Final = 32_768
#: We write eight; others may add theirs.
CONDITIONS_MAX: Final = 32

_TYPE_PATTERN: Final = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
_REASON_PATTERN: Final = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


class Condition(Model):
    """A condition, as in Kubernetes (meta/v1)."""

    type: Annotated[str, Field(max_length=TYPE_LENGTH_MAX, pattern=_TYPE_PATTERN)] = Field(
        description="What the condition is about, in CamelCase."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The metadata.generation that the condition speaks of."
    )
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="When status last changed."
    )
    reason: Annotated[
        str, Field(min_length=1, max_length=REASON_LENGTH_MAX, pattern=_REASON_PATTERN)
    ] = Field(description="Why, in one CamelCase word for programs.")
    message: Annotated[str, Field(max_length=MESSAGE_LENGTH_MAX)] = Field(
        description="Why, in a sentence for people."
    )


Conditions = Annotated[
    list[Condition], Field(max_length=CONDITIONS_MAX), ListType("map", ("type",))
]


class EndpointCounts(Model):
    """The endpoints of a backend."""

    ready: Annotated[int, Field(ge=0)] = Field(description="Those that can serve.")
    total: Annotated[int, Field(ge=0)] = Field(description="All of them.")


class RoutingPolicyStatus(Model):
    """What became of a RoutingPolicy."""

    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="The metadata.generation that all of this speaks of: an older one is stale.",
    )
    conditions: Conditions | None = Field(
        default=None, description="What holds of it; Ready sums up."
    )
    revision: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="The revision at which its compiled form last changed."
    )
    pods: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Pods that have that revision in force, of all: 2/3."
    )
    propagation: Annotated[str, Field(max_length=32)] | None = Field(
        default=None,
        description="From the operator's seeing the change until the last pod had it: 41ms.",
    )


class ModelBackendStatus(RoutingPolicyStatus):
    """What became of a ModelBackend."""

    endpoints: EndpointCounts | None = Field(
        default=None, description="The endpoints of the backend."
    )


def pending_status() -> dict[str, Any]:
    """Return the status of a new object that no operator has seen, as the API server sets it."""
    return {
        "conditions": [
            {
                "type": condition,
                "status": "Unknown",
                "reason": Reason.PENDING.value,
                "message": "Waiting for the operator",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }
            for condition in (ACCEPTED, READY)
        ]
    }
