"""What a rule does with its requests beside sending them to a tier, drawn at random."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final, TypeVar

from switchboard_policy import ir

T = TypeVar("T")

_SCHEMA: Final = '{"type": "object", "required": ["score"]}'


def draw_composition(rng: Random, names: Sequence[str], tiers: int) -> dict[str, Any]:
    """Draw a select, a cascade or an ensemble, or none, and a mirror and a review beside it."""
    fields: dict[str, Any] = {}
    drawn = rng.random()
    if tiers > 1 and drawn < 0.25:
        fields["select"] = _select(rng, names, tiers)
    elif tiers > 1 and drawn < 0.5:
        fields["cascade"] = _cascade(rng, names)
    elif drawn < 0.65:
        fields["ensemble"] = _ensemble(rng, names)
    if rng.random() < 0.2:
        fields["mirror"] = _mirror(rng, names)
    if rng.random() < 0.1:
        fields["review"] = ir.Review("https://people.example/new", texts=rng.random() < 0.5)
    return fields


def draw_learning(rng: Random, names: Sequence[str]) -> ir.Learning | None:
    """Draw what a policy learns by: a judge of a sample, mostly."""
    if rng.random() < 0.7:
        return None
    return ir.Learning(
        texts=rng.random() < 0.3,
        judge=maybe(rng, _asked(rng, names), often=0.8),
        judge_sample_permille=rng.choice((300, 1_000)),
        judge_max_cost_picodollars=rng.choice((0, 10**15)),
    )


def maybe(rng: Random, value: T, *, often: float = 0.4) -> T | None:
    """Return the value, or None."""
    return value if rng.random() < often else None


def _select(rng: Random, names: Sequence[str], tiers: int) -> ir.Select:
    fields: dict[str, Any] = {
        "by": rng.choice(
            ("Complexity", "Quality", "Task", "Classifier", "Neighbours", "Bandit", "Bandit")
        ),
        "downgrade": rng.random() < 0.7,
        "sticky": rng.random() < 0.7,
        "max_quality_loss_permille": rng.choice((0, 100)),
        "tasks": (("chat", rng.randrange(tiers)), ("math", rng.randrange(tiers))),
    }
    if fields["by"] == "Classifier":
        fields["classifier"] = _asked(rng, names)
    if rng.random() < 0.3:
        fields["router"] = "sha256:" + "0" * 64
    if fields["by"] == "Complexity" and tiers == 2 and rng.random() < 0.5:
        share = rng.choice((0, 300, 1_000, None))
        target = 800 if share is None else None
        return ir.Select(strong_share_permille=share, target_quality_permille=target, **fields)
    if fields["by"] in ("Quality", "Neighbours") and rng.random() < 0.3:
        fields["target_cost_picodollars"] = rng.choice((1, 10**10))
    cuts = tuple(sorted(rng.sample(range(100, 900, 50), tiers - 1)))
    return ir.Select(thresholds_permille=cuts, **fields)


def _cascade(rng: Random, names: Sequence[str]) -> ir.Cascade:
    judge = ir.Judge(_asked(rng, names), min_permille=rng.choice((1, 600, 1_000)))
    checks: dict[str, Any] = {
        "confidence_permille": rng.choice((1, 600)),
        "agreement": _named(rng, names),
        "when": rng.choice(("!answer.empty", "answer.text.contains('answer')")),
        "regex": "[0-9]",
        "json_schema": _SCHEMA,
        "judge": judge,
    }
    few = rng.sample([*checks], rng.choice((1, 1, 2)))
    return ir.Cascade(
        **{name: checks[name] for name in few},
        hold_chars=rng.choice((1, 10, 16_000)),
        hold_ms=rng.choice((500, 30_000)),
        send_unjudged=rng.random() < 0.5,
    )


def _ensemble(rng: Random, names: Sequence[str]) -> ir.Ensemble:
    return ir.Ensemble(
        candidates=rng.randint(2, 4),
        judge=maybe(rng, _asked(rng, names), often=0.5),
        max_cost_picodollars=maybe(rng, rng.choice((1, 10**12)), often=0.2),
    )


def _mirror(rng: Random, names: Sequence[str]) -> ir.Mirror:
    return ir.Mirror(
        _named(rng, names),
        sample_permille=rng.choice((300, 1_000)),
        max_cost_picodollars=rng.choice((0, 10**15)),
        judge=maybe(rng, _asked(rng, names)),
    )


def _asked(rng: Random, names: Sequence[str]) -> ir.Asked:
    return ir.Asked(_named(rng, names), timeout_ms=rng.choice((300, 5_000)))


def _named(rng: Random, names: Sequence[str]) -> str:
    return f"ai/{rng.choice(names)}"
