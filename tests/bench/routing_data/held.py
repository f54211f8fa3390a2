"""A share of strong answers, or a quality, that a policy declares: how well each is held.

Over the nine-set mix with one small and one large model, by the gain that a router predicts which
``switchboard train`` made of a few labelled rows; every answer is rated.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routing_data.bandit import Setting, settings_of
from routing_data.experiments import MIX_STRONG, MIX_WEAK
from routing_data.tables import Doubles, Sets
from switchboard_dataplane.signals.thresholds import QualityTarget, ShareTracker

DRAWS: Final = 12
#: Requests until what is declared is to be held, after the first and after a shift of traffic.
SETTLED: Final = 500
SETTLED_AGAIN: Final = 600
#: What is counted is the mean of so many requests after that.
COUNTED: Final = 500
SHARES: Final = (0.1, 0.3, 0.5)
#: How much of the gap between the two models is declared.
RECOVERED: Final = (0.25, 0.5, 0.75)


def held(sets: Sets, draws: int = DRAWS) -> dict[str, Any]:
    """Return by how much shares and qualities are off, over some draws of the mix."""
    settings = settings_of(sets, draws)
    return {
        "draws": draws,
        "share": {f"{share:g}": _shares(settings, share) for share in SHARES},
        "quality": {f"{part:g}": _qualities(settings, part) for part in RECOVERED},
    }


def _shares(settings: list[Setting], share: float) -> dict[str, float]:
    first, again = [], []
    for setting in settings:
        gains, (one, other) = _gains(setting), _kinds(setting)
        tracker = ShareTracker(share)
        first.append(_off(setting, tracker, gains[setting.rng.choice(one, 3 * COUNTED)], SETTLED))
        rows = setting.rng.choice(other, 3 * COUNTED)
        again.append(_off(setting, tracker, gains[rows], SETTLED_AGAIN))
    return {
        "off_p95": round(float(np.quantile(first, 0.95)), 4),
        "after_a_shift_off_p95": round(float(np.quantile(again, 0.95)), 4),
    }


def _off(setting: Setting, tracker: ShareTracker, gains: Doubles, settled: int) -> float:
    strong: list[bool] = []
    for gain in gains.tolist():
        tracker.take(gain)
        strong.append(tracker.threshold().is_strong(gain, float(setting.rng.random())))
    return abs(float(np.mean(strong[settled : settled + COUNTED])) - tracker.share)


def _qualities(settings: list[Setting], part: float) -> dict[str, float]:
    """Declare a part of the gap; report what was reached, and with how many strong answers."""
    off, strong = [], []
    for setting in settings:
        gains, rows = _gains(setting), setting.asked
        weak, large = (setting.outcomes.column(model) for model in (MIX_WEAK, MIX_STRONG))
        wanted = float(weak.mean() + part * (large.mean() - weak.mean()))
        target, got, taken = QualityTarget(wanted), list[float](), list[bool]()
        for row in rows.tolist():
            chance = float(setting.rng.random())
            taken.append(target.is_strong(float(gains[row]), chance, count=True))
            got.append(float((large if taken[-1] else weak)[row]))
            target.take(got[-1])
        off.append(abs(float(np.mean(got[SETTLED:])) - wanted))
        strong.append(float(np.mean(taken[SETTLED:])))
    return {
        "off_mean": round(float(np.mean(off)), 4),
        "off_worst": round(max(off), 4),
        "strong_share": round(float(np.mean(strong)), 3),
        "strong_share_at_random": part,
    }


def _gains(setting: Setting) -> Doubles:
    models = setting.outcomes.models
    expected = setting.expected
    gains: Doubles = expected[:, models.index(MIX_STRONG)] - expected[:, models.index(MIX_WEAK)]
    return gains


def _kinds(setting: Setting) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return requests of the tasks of the first half of all, by name, and of the second."""
    tasks = np.array(setting.outcomes.tasks)[setting.asked]
    first = np.isin(tasks, sorted(set(tasks.tolist()))[::2])
    return setting.asked[first], setting.asked[~first]
