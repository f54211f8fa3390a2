"""How a route chooses among its tiers by what a request asks for and what backends are good at."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.ir import Task
from switchboard_policy.v1alpha1.asked import Asked
from switchboard_policy.v1alpha1.common import (
    ATOMIC,
    CelRule,
    DecimalString,
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


#: The digest of a router that ``switchboard train`` has written.
ROUTER_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"
#: What each pattern asks for, in words.
PATTERN_WORDS: Final = {
    ROUTER_PATTERN: "the digest that switchboard train printed: sha256: and 64 hexadecimal digits",
}


def _only_by(field: str, *by: str) -> CelRule:
    listed = " or ".join(by)
    return CelRule(
        rule=f"!has(self.{field}) || self.by in {list(by)}",
        message=f"{field} is read only where by is {listed}, and it is %s",
        values=("self.by",),
        fix=f"remove {field}, or write by: {by[0]}",
        field=f".{field}",
        reason="FieldValueForbidden",
    )


class TaskTier(Model):
    """The tier for one kind of task."""

    task: Task = Field(description="The kind of task, as the signal signals.task names it.")
    tier: Label = Field(description="The tier of the route that takes it.")


class Bandit(Model):
    """How a select by Bandit learns: the worth of a tier is its quality less its weighted cost."""

    explore: Share = Field(
        default="0.05",
        description="The share of requests that may take another tier than the best known one.",
    )
    cost_weight: Share = Field(
        default="0.02",
        description="How much quality the cost of the dearest tier is worth; others in proportion.",
    )
    min_quality: Share = Field(
        default="0", description="A tier that is known to answer worse is not taken."
    )


class Select(Model):
    """Which tier a request starts with; the tiers stand from the weakest to the strongest."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "self.by != 'Complexity' || (has(self.thresholds) ? 1 : 0)"
                " + (has(self.strongShare) ? 1 : 0) + (has(self.targetQuality) ? 1 : 0) == 1"
            ),
            message="by: Complexity has not just one of thresholds, strongShare and targetQuality",
            fix='write one of them: thresholds: ["0.2"], strongShare: "0.3", targetQuality: "0.9"',
        ),
        CelRule(
            rule=(
                "!(self.by in ['Quality', 'Neighbours'])"
                " || has(self.maxQualityLoss) != has(self.targetCost)"
            ),
            message="by: %s has not just one of maxQualityLoss and targetCost",
            values=("self.by",),
            fix='write how much quality may be lost, for instance maxQualityLoss: "0.02", or what a'
            ' request may cost in dollars, for instance targetCost: "0.002"',
        ),
        CelRule(
            rule="self.by != 'Classifier' || (has(self.classifier) && has(self.thresholds))",
            message="by: Classifier lacks its classifier, or thresholds for when that is silent",
            fix='write classifier: {backend: {name: NAME}} and, for instance, thresholds: ["0.2"]',
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.by != 'Task' || has(self.tasks)",
            message="by: Task has no tasks",
            fix="write tasks, for instance [{task: code, tier: large}]",
            field=".tasks",
            reason="FieldValueRequired",
        ),
        _only_by("thresholds", "Complexity", "Classifier"),
        _only_by("strongShare", "Complexity"),
        _only_by("targetQuality", "Complexity"),
        _only_by("maxQualityLoss", "Quality", "Neighbours"),
        _only_by("targetCost", "Quality", "Neighbours"),
        _only_by("tasks", "Task"),
        _only_by("classifier", "Classifier"),
        _only_by("bandit", "Bandit"),
        _only_by("router", "Complexity", "Classifier", "Bandit"),
    )

    by: Literal["Complexity", "Quality", "Task", "Neighbours", "Classifier", "Bandit"] = Field(
        description=(
            "Complexity: by how much better a stronger tier is expected to answer. Quality: the "
            "cheapest tier whose predicted quality (spec.quality of its backends) comes near the "
            "best's. Task: by a table. "
            "Neighbours: as Quality, by the ratings of requests like it. Classifier: a model is "
            "asked. Bandit: by what the ratings so far say that each tier is worth."
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
            "With by: Complexity, one fewer than tiers: a request whose complexity (how much more "
            "of the answer a large model is expected to get right than a small one, 0 to 1) is at "
            "or above the i-th starts with the tier after it. Most are below 0.3."
        ),
    )
    strong_share: PositiveShare | None = Field(
        default=None,
        description=(
            "With by: Complexity and two tiers, in place of thresholds: the share of requests that "
            "starts with the second; each data plane finds the threshold from its own requests."
        ),
    )
    target_quality: PositiveShare | None = Field(
        default=None,
        description=(
            "With by: Complexity and two tiers, in place of thresholds: the mean rating of the "
            "answers to be held with as few of the second's as possible; needs learning."
        ),
    )
    max_quality_loss: Share | None = Field(
        default=None,
        description=(
            "With by: Quality or Neighbours, how far below the best tier's the chosen one's may be."
        ),
    )
    target_cost: DecimalString | None = Field(
        default=None,
        description=(
            "With by: Quality or Neighbours, in place of maxQualityLoss: the best tier that is "
            "foreseen to cost at most so many US dollars a request, or else the cheapest."
        ),
    )
    tasks: (
        Annotated[
            list[TaskTier], Field(min_length=1, max_length=TASKS_MAX), ListType("map", ("task",))
        ]
        | None
    ) = Field(
        default=None, description="With by: Task, the tier of each task; others take the first."
    )
    classifier: Asked | None = Field(
        default=None,
        description=(
            "With by: Classifier, the model that names a tier; where it does not in its timeout, "
            "thresholds decide."
        ),
    )
    bandit: Bandit | None = Field(
        default=None, description="With by: Bandit, how it learns and what it may try."
    )
    router: Annotated[str, Field(pattern=ROUTER_PATTERN, min_length=71, max_length=71)] | None = (
        Field(
            default=None,
            description=(
                "The learned router, by the digest that switchboard train printed; data planes "
                "find it in their folder --routers. Without it the one that ships."
            ),
        )
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
