"""When a tier of a RoutingPolicy is so busy that the next one takes its requests."""

from typing import ClassVar

from pydantic import Field

from switchboard_policy.v1alpha1.common import CelRule, Duration, Model, PositiveShare


class Spill(Model):
    """When a tier is busy enough for the next one to take its requests, before anything fails."""

    cel: ClassVar = (
        CelRule(
            rule="has(self.queueWait) || has(self.inFlight) || has(self.ttft)",
            message="the spill names no threshold",
            fix="set one of queueWait, inFlight and ttft, or remove spill",
            reason="FieldValueRequired",
        ),
    )

    queue_wait: Duration | None = Field(
        default=None,
        description=(
            "How long a request may have to wait in the queues of the tier's backends, by what is "
            "foreseen and in fact; up to that it waits although the next tier is free. At most 1h."
        ),
    )
    in_flight: PositiveShare | None = Field(
        default=None,
        description=(
            "The share of the maxInFlight of all its endpoints that is in use, by the engines' own "
            "numbers while they are fresh."
        ),
    )
    ttft: Duration | None = Field(
        default=None,
        description=(
            "The time to the first content of streams with such a prompt, as half of its endpoints "
            "show it; a slower one counts at once and fades. At most 1h."
        ),
    )
