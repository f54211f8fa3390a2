"""What a RoutingPolicy does about failures: attempts, time, repeats, and streams that break."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.common import (
    CelRule,
    Duration,
    Model,
    P95OrDuration,
    PositiveShare,
    Share,
    WaitDuration,
)

#: More repeats only prolong an outage.
ATTEMPTS_MAX: Final = 10
#: A caller can be asked to see a paragraph twice, not a page; in characters.
RESTART_WITHIN_MAX: Final = 4_000


class Hedge(Model):
    """A second start beside an attempt that is slower than most: the first content wins."""

    after: P95OrDuration = Field(
        default="p95",
        description=(
            "How long an attempt may be silent: p95 is what one in twenty such requests of the "
            "tier has exceeded in the last minute, once 40 are known; else a duration up to 1m."
        ),
    )
    budget: PositiveShare = Field(
        default="0.02",
        description=(
            "The share of the policy's requests that may have a second start. It counts in each "
            "data plane, and saves up ten at most."
        ),
    )


class Resilience(Model):
    """Attempts over all tiers, and the time until content is committed."""

    cel: ClassVar = (
        CelRule(
            rule="!has(self.hedge) || self.attempts > 1",
            message="a hedge is an attempt, and attempts is %s",
            values=("self.attempts",),
            fix="write attempts: 2 or more, or remove hedge",
            field=".attempts",
        ),
    )

    attempts: Annotated[int, Field(ge=1, le=ATTEMPTS_MAX)] = Field(
        default=3, description="Attempts over all tiers, the first included."
    )
    deadline: Duration = Field(
        default="120s",
        description="Until content is committed, over all attempts; at most 1h.",
    )
    retry_budget: Share = Field(
        default="0.2",
        description=(
            "The share of requests that may be repeated at a backend that has failed them; 10 a "
            "second may be in any case, and none with 0. It counts in each data plane, over 10s."
        ),
    )
    max_retry_after_wait: WaitDuration = Field(
        default="3s",
        description=(
            "How long a request waits in all for a backend that asks for it (Retry-After) while "
            "its tier has no other; it goes on elsewhere where more is asked. 0s never waits."
        ),
    )
    max_ejected: Share = Field(
        default="0.5",
        description=(
            "The share of a tier's endpoints that may be left out while no later tier can serve. "
            "If more are ejected, all of them serve: the few that are left would fall too."
        ),
    )
    hedge: Hedge | None = Field(
        default=None,
        description=(
            "A second start, as an attempt of its own, before firstToken is over, and for "
            "requests that are not streamed; without it there is none."
        ),
    )


class Stream(Model):
    """What becomes of a streamed answer that breaks after its first content."""

    cel: ClassVar = (
        CelRule(
            rule="!has(self.restartWithin) || self.onBreak == 'Restart'",
            message="restartWithin is read only where onBreak is Restart, and it is %s",
            values=("self.onBreak",),
            fix="remove it, or write onBreak: Restart",
            field=".restartWithin",
            reason="FieldValueForbidden",
        ),
    )

    on_break: Literal["Error", "Restart"] = Field(
        default="Error",
        description=(
            "Error: the stream ends with an error event. Restart: another candidate answers "
            "anew in the same stream, after the comment ': switchboard restart', unless more than "
            "restartWithin was sent or a tool call was begun; then as Error."
        ),
    )
    restart_within: Annotated[int, Field(ge=1, le=RESTART_WITHIN_MAX)] | None = Field(
        default=None,
        description=(
            "With onBreak: Restart, the characters of content up to which a stream is restarted; "
            "200 if not given. The new answer is sent from its beginning, so a caller may get that "
            "many characters twice, or in other words."
        ),
    )
