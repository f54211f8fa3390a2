"""How a ModelBackend tells that one of its endpoints is unwell."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import (
    PATH_PATTERN,
    CelRule,
    ConnectDuration,
    Duration,
    IntervalDuration,
    Model,
    PositiveShare,
    StartDuration,
)

#: Probes in a row; more would tell of an outage when it is over.
PROBES_MAX: Final = 100
#: Failures in a row; with more a breaker is as good as none.
FAILURES_MAX: Final = 1_000


class Probe(Model):
    """What every data plane asks each endpoint, to see whether it is well."""

    cel: ClassVar = (
        CelRule(
            rule="duration(self.timeout) <= duration(self.interval)",
            message="the timeout %s is longer than the interval %s",
            values=("self.timeout", "self.interval"),
            fix="shorten the timeout or lengthen the interval",
            field=".timeout",
        ),
    )

    path: Annotated[str, Field(pattern=PATH_PATTERN, min_length=1, max_length=256)] = Field(
        default="/health",
        description=(
            "The path of a GET, from the root of the endpoint, not below service.path. It is "
            "asked without the API key; 200 to 399 is well, and so are 401, 403 and 429."
        ),
    )
    interval: IntervalDuration = Field(
        default="5s", description="Between two probes of an endpoint by one data plane; 1s to 1h."
    )
    timeout: ConnectDuration = Field(
        default="2s", description="For one probe; at most the interval, and 1m."
    )
    unhealthy_after: Annotated[int, Field(ge=1, le=PROBES_MAX)] = Field(
        default=3, description="Failed probes in a row after which an endpoint is ejected."
    )
    healthy_after: Annotated[int, Field(ge=1, le=PROBES_MAX)] = Field(
        default=1, description="Probes in a row that must succeed before it serves again."
    )


class Breaker(Model):
    """When the failures of an endpoint eject it, and for how long."""

    consecutive_failures: Annotated[int, Field(ge=1, le=FAILURES_MAX)] = Field(
        default=5, description="Failures in a row that eject an endpoint."
    )
    failure_rate: PositiveShare = Field(
        default="0.5",
        description=(
            "The share of failures that ejects it, over the last 5 to 10 seconds with at least 20 "
            "answers."
        ),
    )
    open_for: Duration = Field(
        default="10s",
        description=(
            "How long it is left out, or up to a fifth less; then one request tries it. At most 1h."
        ),
    )


class Health(Model):
    """How it is told that an endpoint is unwell."""

    probe: Probe | None = Field(
        default=None, description="A probe of each endpoint; without it there is none."
    )
    breaker: Breaker = Field(
        default=Breaker(), description="When the failures of an endpoint eject it."
    )
    slow_start: StartDuration = Field(
        default="30s",
        description=(
            "In how long an endpoint that is new, or well again, comes from a tenth of its share "
            "of the requests to all of it; at most 15m, and 0s at once."
        ),
    )
