"""What the routing benchmark measures: each experiment returns the figures of one table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from routing_data.tables import Doubles, Outcomes, Sets
from routing_data.transfer import FAMILIES, general, pooled, without
from routing_data.trials import (
    Method,
    Rows,
    Split,
    at_random,
    by_length,
    figures,
    folds,
    labels,
    learned,
    length,
    lexical,
    mean_figures,
    task_known,
)
from switchboard_cli.train.evaluate import (
    Recovery,
    aiq,
    calibration_error,
    choose_by_price,
    cost_saved,
    recovery,
)

LABELS: Final = 1_531
RESAMPLES: Final = 8
FOLDS: Final = 5
REPEATS: Final = 5
BOOTSTRAPS: Final = 200
RANDOM_DRAWS: Final = 20
#: A gap below this is mostly noise, and so is any share of it.
GAP_MIN: Final = 0.05

FLASH: Final = "gemini-1.5-flash-002"
PRO: Final = "gemini-1.5-pro-002"
CASCADE_WEAK: Final = "Meta-Llama-3.1-8B-Instruct"
CASCADE_CHECK: Final = "gemma-2-9b-it"
CASCADE_STRONG: Final = "claude-3-5-sonnet-20241022"
MIX_WEAK: Final = "llama-3.1-8b-instruct"
MIX_STRONG: Final = "llama-3.1-nemotron-51b-instruct"

BASELINES: Final[Mapping[str, Method]] = {
    "random": at_random,
    "length": by_length,
    "lexical": lexical,
    "task_known": task_known,
}


class Ranked(NamedTuple):
    """One test: by what its prompts were ranked, and what the strong model gained on each."""

    scores: Doubles
    gains: Doubles


def pair(outcomes: Outcomes, weak: str, strong: str) -> Outcomes:
    """Return the rows on which both models were measured, with these two alone."""
    columns = [outcomes.models.index(weak), outcomes.models.index(strong)]
    two = outcomes._replace(models=(weak, strong), qualities=outcomes.qualities[:, columns])
    return two.only(np.flatnonzero(np.isfinite(two.qualities).all(axis=1)))


def gains_of(outcomes: Outcomes) -> Doubles:
    """Return what the second model gains over the first on each prompt."""
    return outcomes.qualities[:, 1] - outcomes.qualities[:, 0]


def measure_pair(outcomes: Outcomes, splits: Sequence[Split]) -> dict[str, Any]:
    """Route the test part of each split by each method; return figures, baselines and errors."""
    ranked: dict[str, list[Ranked]] = {name: [] for name in ("learned", *BASELINES)}
    said_of: list[tuple[Doubles, Doubles]] = []
    for split in splits:
        train, test = outcomes.only(split.train), outcomes.only(split.test)
        gains = gains_of(test)
        for name, method in {"learned": learned, **BASELINES}.items():
            if name == "length":
                ranked[name].append(Ranked(length(test), gains))
                continue
            if name == "random":
                ranked[name].extend(_at_random(gains))
                continue
            said = method(train, test)
            ranked[name].append(Ranked(said[:, 1] - said[:, 0], gains))
            if name == "learned":
                said_of.append((said, test.qualities))
    ours = ranked.pop("learned")
    return {
        **summary(ours),
        "interval_95": interval(ours),
        "all_thresholds": summary(ours, quantiles=None),
        "calibration_error": _calibration(*map(np.concatenate, zip(*said_of, strict=True))),
        "baselines": {name: summary(one) for name, one in ranked.items()},
        "curve": _curve(ours),
        "tested": int(np.mean([len(split.test) for split in splits])),
    }


def _at_random(gains: Doubles) -> list[Ranked]:
    """Rank at random, so often that what comes of it is no accident."""
    rng = np.random.default_rng(1)
    return [Ranked(rng.random(len(gains)), gains) for _ in range(RANDOM_DRAWS)]


def mmlu(sets: Sets, count: int = LABELS) -> dict[str, Any]:
    """Learn from 1,531 questions, route the rest; eight draws."""
    return measure_pair(sets.mmlu, [labels(sets.mmlu, count, draw) for draw in range(RESAMPLES)])


def gsm8k(sets: Sets) -> dict[str, Any]:
    """Five folds, cut in five ways."""
    return measure_pair(
        sets.gsm8k, [split for cut in range(REPEATS) for split in folds(sets.gsm8k, FOLDS, cut)]
    )


def mmlu_pro(sets: Sets) -> dict[str, Any]:
    """Gemini 1.5 Flash as the weak model, Pro as the strong one; five folds."""
    outcomes = pair(sets.mmlu_pro, FLASH, PRO)
    return measure_pair(outcomes, list(folds(outcomes, FOLDS)))


def cascade(sets: Sets) -> dict[str, Any]:
    """Ask the small model and another; where they disagree, ask the large one, best gains first.

    The set says who was right, not what was answered. Two right answers agree, a right and a wrong
    one do not. Two wrong ones count as different here; ``wrong_agree`` has them always the same.
    """
    outcomes = pair(sets.zeroeval, CASCADE_WEAK, CASCADE_STRONG)
    check = _on_rows(sets.zeroeval, CASCADE_CHECK, outcomes)
    weak = outcomes.qualities[:, 0]
    said = out_of_fold(outcomes, learned)
    gain = said[:, 1] - said[:, 0]
    tie_break = np.argsort(np.argsort(gain)) / len(gain)
    gains = gains_of(outcomes)
    doubted = {"differ": weak * check == 0.0, "agree": weak != check}
    ranked = {name: Ranked(doubt + tie_break, gains) for name, doubt in doubted.items()}
    baselines = {"length": Ranked(length(outcomes), gains), "learned": Ranked(gain, gains)}
    for name in ("lexical", "task_known"):
        alone = out_of_fold(outcomes, BASELINES[name])
        baselines[name] = Ranked(alone[:, 1] - alone[:, 0], gains)
    return {
        **summary([ranked["differ"]]),
        "interval_95": interval([ranked["differ"]]),
        "wrong_agree": summary([ranked["agree"]]),
        "second_calls_share": 1.0,
        "escalated_share": round(float(doubted["differ"].mean()), 4),
        "baselines": {
            "random": summary(_at_random(gains)),
            **{name: summary([one]) for name, one in baselines.items()},
        },
        "curve": _curve([ranked["differ"]]),
    }


def _on_rows(whole: Outcomes, model: str, part: Outcomes) -> Doubles:
    """Return how a model did on the prompts of a part of a set; unknown counts as wrong."""
    found = dict(zip(whole.prompts, np.nan_to_num(whole.column(model)).tolist(), strict=True))
    return np.array([found[prompt] for prompt in part.prompts])


def out_of_fold(outcomes: Outcomes, method: Method) -> Doubles:
    """Return predictions for every row by what was learned from the other folds."""
    said = np.zeros(outcomes.qualities.shape)
    for split in folds(outcomes, FOLDS):
        said[split.test] = method(outcomes.only(split.train), outcomes.only(split.test))
    return said


def mix9(sets: Sets) -> dict[str, Any]:
    """Nine models of three prices; five folds. A call's cost is its model's price."""
    outcomes = sets.mix9
    prices = np.array([sets.prices[model] for model in outcomes.models])
    said = {name: out_of_fold(outcomes, method) for name, method in BASELINES.items()}
    ours = out_of_fold(outcomes, learned)
    every = np.arange(len(ours))
    rng = np.random.default_rng(1)
    draws = [
        _priced(outcomes, prices, ours, rng.integers(0, len(ours), len(ours)))
        for _ in range(BOOTSTRAPS // 4)
    ]
    names = ("aiq", "cost_saved", "quality_gain")
    return {
        **_priced(outcomes, prices, ours, every),
        "interval_95": {
            name: np.quantile([draw[name] for draw in draws], (0.025, 0.975)).round(4).tolist()
            for name in names
        },
        "calibration_error": {
            "quality": round(calibration_error(ours.ravel(), outcomes.qualities.ravel()), 4)
        },
        "baselines": {name: _priced(outcomes, prices, one, every) for name, one in said.items()},
        "curves": {
            name: _cost_curve(outcomes, prices, one)
            for name, one in {"learned": ours, **said}.items()
            if name != "random"
        },
        "pair": measure_pair(two := pair(outcomes, MIX_WEAK, MIX_STRONG), list(folds(two, FOLDS))),
    }


def _priced(outcomes: Outcomes, prices: Doubles, said: Doubles, rows: Rows) -> dict[str, float]:
    qualities = outcomes.qualities[rows]
    choice = choose_by_price(said[rows], np.tile(prices, (len(rows), 1)), qualities)
    best = int(outcomes.qualities.mean(axis=0).argmax())
    always = float(qualities[:, best].mean())
    return {
        "aiq": round(aiq(choice, cheapest=prices.min(), dearest=prices.max()), 4),
        "cost_saved": round(cost_saved(choice, cost=float(prices[best]), quality=always), 4),
        # Who can always take the best model need never do worse.
        "quality_gain": round(max(0.0, float(choice.qualities.max()) / always - 1), 4),
    }


def _cost_curve(outcomes: Outcomes, prices: Doubles, said: Doubles) -> list[list[float]]:
    """Return points of cost and quality, both as shares of always calling the best model."""
    costs = np.tile(prices, (len(said), 1))
    choice = choose_by_price(said, costs, outcomes.qualities)
    means = outcomes.qualities.mean(axis=0)
    best = int(means.argmax())
    points = {
        (round(cost / float(prices[best]), 3), round(quality / float(means[best]), 4))
        for cost, quality in zip(*map(np.ndarray.tolist, choice), strict=True)
    }
    return [list(point) for point in sorted(points)]


def zero_shot(sets: Sets) -> dict[str, Any]:
    """Route families of tasks, and pairs of models, of which nothing was learned.

    By the complexity of a router that is made of the rest as the one that ships is made of all.
    """
    pool = pooled(sets)
    tests: dict[str, tuple[Outcomes, Sequence[str]]] = {
        "mmlu": (sets.mmlu, FAMILIES["exams"]),
        "mmlu_pro": (pair(sets.mmlu_pro, FLASH, PRO), FAMILIES["exams"]),
        "gsm8k": (sets.gsm8k, FAMILIES["word_problems"]),
        "zeroeval": (
            pair(sets.zeroeval, CASCADE_WEAK, CASCADE_STRONG),
            FAMILIES["word_problems"],
        ),
    }
    mix = pair(sets.mix9, MIX_WEAK, MIX_STRONG)
    tests["mix9"] = (mix, sorted({task for task in pool.tasks if task.startswith("mix9/")}))
    for family, tasks in FAMILIES.items():
        inside = np.isin([f"mix9/{task}" for task in mix.tasks], list(tasks))
        tests[f"mix9_{family}"] = (mix.only(np.flatnonzero(inside)), tasks)
    return {
        name: _transfer(without(pool, tasks, test), test)
        for name, (test, tasks) in tests.items()
        if len(test.prompts) and abs(gains_of(test).mean()) >= GAP_MIN
    }


def _transfer(train: Outcomes, test: Outcomes) -> dict[str, float]:
    router, gains = general(train), gains_of(test)
    scores = {
        "apgr": np.array([router.complexity(read) for read in test.reads]),
        "length": length(test),
    }
    return {name: round(figures(one, gains, None).apgr, 4) for name, one in scores.items()}


def _calibration(said: Doubles, observed: Doubles) -> dict[str, float]:
    """Return how far gains are from what came of them, and complexities, which have limits."""
    gains, gained = said[:, 1] - said[:, 0], observed[:, 1] - observed[:, 0]
    gain = calibration_error(gains, gained)
    complexity = calibration_error(np.clip(gains, 0.0, 1.0), gained)
    return {"gain": round(gain, 4), "complexity": round(complexity, 4)}


def summary(ranked: Iterable[Ranked], quantiles: int | None = 10) -> dict[str, float]:
    """Return the mean figures of some tests."""
    return mean_figures([figures(*one, quantiles) for one in ranked]).rounded()


def interval(ranked: Sequence[Ranked]) -> dict[str, list[float]]:
    """Return 95 % intervals: the questions of each test drawn again with replacement."""
    rng = np.random.default_rng(1)
    draws: list[list[float]] = []
    for _ in range(BOOTSTRAPS):
        drawn = []
        for one in ranked:
            rows = rng.integers(0, len(one.scores), len(one.scores))
            # A small test drawn again may have no gap: there is nothing to have a share of.
            if one.gains[rows].sum() > 0:
                drawn.append(figures(one.scores[rows], one.gains[rows], None))
        if drawn:
            draws.append(list(mean_figures(drawn)))
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    scales = (1.0, 100.0, 100.0)
    return {
        name: [round(scale * float(low[place]), 4), round(scale * float(high[place]), 4)]
        for place, (name, scale) in enumerate(zip(("apgr", "cpt50", "cpt80"), scales, strict=True))
    }


def _curve(ranked: Sequence[Ranked]) -> list[list[float]]:
    """Return 21 points of share and recovered gap, the mean of all tests."""
    shares = np.linspace(0.0, 1.0, 21)
    found: list[Recovery] = [recovery(*one) for one in ranked]
    mean = np.mean([np.interp(shares, one.shares, one.recovered) for one in found], axis=0)
    return [[round(float(x), 3), round(float(y), 4)] for x, y in zip(shares, mean, strict=True)]
