"""How a route chooses among its tiers by what a request asks for and what backends are good at."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.ir import Task
from switchboard_policy.v1alpha1.common import (
    ATOMIC,
    CelRule,
    Label,
    ListType,
    Model,
    PositiveShare,
    Share,
)

#: One for each kind of task.
TASKS_MAX: Final = 11
#: One fewer than the tiers of a route.
THRESHOLDS_MAX: Final = 7


def _only_by(by: str, field: str) -> CelRule:
    return CelRule(
        rule=f"!has(self.{field}) || self.by == '{by}'",
        message=f"{field} is read only where by is {by}, and it is %s",
        values=("self.by",),
        fix=f"remove {field}, or write by: {by}",
        field=f".{field}",
        reason="FieldValueForbidden",
    )


class TaskTier(Model):
    """The tier for one kind of task."""

    task: Task = Field(description="The kind of task, as the signal signals.task names it.")
    tier: Label = Field(description="The tier of the route that takes it.")


class Select(Model):
    """Which tier a request starts with; the tiers stand from the weakest to the strongest."""

    cel: ClassVar = (
        CelRule(
            rule="self.by != 'Complexity' || has(self.thresholds) != has(self.strongShare)",
            message="by: Complexity has not just one of thresholds and strongShare",
            fix='write thresholds: ["0.6"], or strongShare: "0.3"; one of the two',
        ),
        CelRule(
            rule="self.by != 'Quality' || has(self.maxQualityLoss)",
            message="by: Quality has no maxQualityLoss",
            fix='write how much quality may be lost for cost, for instance maxQualityLoss: "0.02"',
            field=".maxQualityLoss",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.by != 'Task' || has(self.tasks)",
            message="by: Task has no tasks",
            fix="write tasks, for instance [{task: code, tier: large}]",
            field=".tasks",
            reason="FieldValueRequired",
        ),
        _only_by("Complexity", "thresholds"),
        _only_by("Complexity", "strongShare"),
        _only_by("Quality", "maxQualityLoss"),
        _only_by("Task", "tasks"),
    )

    by: Literal["Complexity", "Quality", "Task"] = Field(
        description=(
            "Complexity: by how hard the request looks. Quality: the cheapest tier whose predicted "
            "quality (spec.quality of its backends) comes near the best's. Task: by a table."
        )
    )
    thresholds: (
        Annotated[
            list[PositiveShare],
            Field(min_length=1, max_length=THRESHOLDS_MAX),
            ATOMIC,
            CelRule(
                rule=(
                    "[0, 1, 2, 3, 4, 5].all(i, i + 1 >= size(self)"
                    " || double(self[i]) < double(self[i + 1]))"
                ),
                message="the thresholds do not rise",
                fix="write them from the smallest to the largest, each once",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "With by: Complexity, one fewer than tiers: a request whose complexity is at or above "
            "the i-th starts with the tier after it."
        ),
    )
    strong_share: PositiveShare | None = Field(
        default=None,
        description=(
            "With by: Complexity and two tiers, in place of thresholds: the share of requests that "
            "starts with the second; each data plane finds the threshold from its own requests."
        ),
    )
    max_quality_loss: Share | None = Field(
        default=None,
        description="With by: Quality, how far below the best tier's the chosen one's may be.",
    )
    tasks: (
        Annotated[
            list[TaskTier], Field(min_length=1, max_length=TASKS_MAX), ListType("map", ("task",))
        ]
        | None
    ) = Field(
        default=None, description="With by: Task, the tier of each task; others take the first."
    )
    when_unsure: Literal["Stronger", "Weaker"] = Field(
        default="Stronger",
        description="Which tier takes a request that is within margin of a threshold.",
    )
    margin: Share = Field(
        default="0.02", description="How near to a threshold a request has no clear tier."
    )
    downgrade: Literal["Allow", "Deny"] = Field(
        default="Allow",
        description=(
            "Whether a weaker tier than the chosen one may serve once that and all stronger ones "
            "have failed."
        ),
    )
    sticky: Literal["Session", "None"] = Field(
        default="Session",
        description=(
            "Session: a conversation (header x-switchboard-session) stays with its tier for ten "
            "minutes after its last request, unless it needs a stronger one."
        ),
    )


class Quality(Model):
    """How good the answers are, from 0 to 1, by task: from your own tests, or a benchmark's."""

    default: Share = Field(description="On every task that is not named.")
    code: Share | None = Field(default=None, description="Writing and mending programs.")
    math: Share | None = Field(default=None, description="Calculation and proof.")
    reasoning: Share | None = Field(default=None, description="Conclusions in several steps.")
    extraction: Share | None = Field(default=None, description="Finding facts in a given text.")
    translation: Share | None = Field(default=None, description="From one language to another.")
    summarisation: Share | None = Field(default=None, description="Shortening a given text.")
    creative: Share | None = Field(default=None, description="Stories, poems, advertisements.")
    chat: Share | None = Field(default=None, description="Conversation.")
    factual: Share | None = Field(default=None, description="Questions about the world.")
    classification: Share | None = Field(default=None, description="One of given labels.")
    tools: Share | None = Field(default=None, description="Calling the tools that are offered.")
