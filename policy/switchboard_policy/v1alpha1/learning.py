"""What a policy learns from: its decisions, ratings of them, and comparisons between arms."""

from typing import Annotated, Final

from pydantic import Field

from switchboard_policy.v1alpha1.asked import Asked
from switchboard_policy.v1alpha1.common import (
    CelRule,
    DecimalString,
    Label,
    Model,
    PositiveShare,
)

ARMS_MAX: Final = 8
#: Shares are compared, not summed to anything; a hundredth of a percent is the smallest.
ARM_WEIGHT_MAX: Final = 10_000


class Arm(Model):
    """One side of a comparison: rules tell it by match.arms, and metrics by its name."""

    name: Label = Field(description="Its name in match.arms, headers and metrics.")
    weight: Annotated[int, Field(ge=0, le=ARM_WEIGHT_MAX)] = Field(
        default=1, description="Its share of the callers, beside the weights of the others."
    )


class DecisionLog(Model):
    """What the log of decisions keeps."""

    texts: bool = Field(
        default=False,
        description="Whether it keeps the texts of requests and answers; without it, none.",
    )


class JudgeSample(Asked):
    """A model that rates a sample of the answers, off the path of requests."""

    sample: PositiveShare = Field(description="The share of the answers that it rates.")
    max_cost: DecimalString = Field(
        description="US dollars an hour that it may cost, in all data planes together."
    )


class Learning(Model):
    """Decisions are logged and can be rated; what selects by outcomes learns from the ratings."""

    log: DecisionLog = Field(default=DecisionLog(), description="What the log keeps.")
    judge: JudgeSample | None = Field(
        default=None, description="A model that rates a sample of the answers."
    )


#: The arms of a policy.
Arms = Annotated[
    list[Arm],
    Field(min_length=2, max_length=ARMS_MAX),
    CelRule(
        rule="self.exists(x, x.weight > 0)",
        message="all weights of the arms are 0",
        fix="give one arm a positive weight",
    ),
]
