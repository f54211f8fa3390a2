"""What an endpoint of a ModelBackend takes at a time, and what waits when that is used up."""

from typing import Annotated, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import Duration, Model

#: One process does not serve more at a time.
IN_FLIGHT_MAX: Final = 100_000
#: Each holds its body in memory, in each data plane.
WAITING_MAX: Final = 10_000


class Queue(Model):
    """Who waits for an endpoint that is below its limit, in each data plane."""

    max_waiting: Annotated[int, Field(ge=1, le=WAITING_MAX)] = Field(
        default=100,
        description=(
            "Requests that wait at a time, at most; more get 503 with Retry-After. Who waits with "
            "a negative x-switchboard-priority makes room for who comes with a higher one."
        ),
    )
    max_wait: Duration = Field(
        default="10s",
        description="How long a request waits, at most; its deadline may be shorter. At most 1h.",
    )


class Capacity(Model):
    """Limits of one endpoint."""

    max_in_flight: Annotated[int, Field(ge=1, le=IN_FLIGHT_MAX)] = Field(
        description="Requests that one endpoint answers at a time, at most."
    )
    queue: Queue | None = Field(
        default=None,
        description=(
            "Who waits while every endpoint that may serve is at maxInFlight; without it such "
            "requests get 503 at once."
        ),
    )


class Wake(Model):
    """What becomes of requests while a Service has no endpoints."""

    hold: Duration = Field(
        default="30s",
        description=(
            "How long a request waits for the first endpoint before it goes to the next tier; its "
            "deadline may be shorter. At most 1h."
        ),
    )
