"""A decision that this pod still knows, by its id: what is remembered of it, and nothing more."""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.explaining import form
from switchboard_dataplane.learning.recent import Recent
from switchboard_dataplane.learning.recent import Remembered as Known

#: What would be needed to tell who else was there, and is not kept of any request.
FORGOTTEN: Final = (
    "the other candidates: what dropped each of them, and their scores",
    "the signals of endpoints as they were then, and what chance drew",
    "rules before the one that won, and which conditions of theirs were false",
    "the prompt and the answer; values of headers and metadata; session and user",
)
#: Vectors, which nobody can read.
_LEFT_OUT: Final = frozenset({"embedding", "context"})
_TEXTS: Final = frozenset({"prompt", "answer", "comment"})
_VALUES: Final = ("headers", "metadata")


def remembered_of(
    recent: Recent, decision: str, snapshot: Snapshot | None, now: float
) -> form.Remembered | None:
    """Return what is remembered of a decision; None where this pod does not know it."""
    known = recent.find(decision, now)
    if known is None:
        return None
    return form.Remembered(
        decision=_said(known),
        age_s=round(now - known.at, 3),
        now=_now(known, snapshot),
        readings={name: value for name, value in known.readings.items() if _is_plain(name, value)},
        ratings=tuple(_without_texts(one) for one in known.ratings),
        forgotten=FORGOTTEN,
    )


def _said(known: Known) -> Mapping[str, Any]:
    said = _without_texts(known.decision)
    inputs = said.get("inputs")
    if inputs:
        # The policy reads them by name: which of them were there says enough.
        there = {
            name: sorted(one for one, value in inputs[name].items() if value is not None)
            for name in _VALUES
            if name in inputs
        }
        said["inputs"] = {**inputs, **there}
    return said


def _now(known: Known, snapshot: Snapshot | None) -> form.Now:
    decided = known.decision
    policy = None if snapshot is None else snapshot.policies.get(decided.policy)
    rules = () if policy is None else policy.rules
    return form.Now(
        revision="" if snapshot is None else snapshot.revision,
        same_revision=snapshot is not None and snapshot.revision == decided.revision,
        policy=policy is not None,
        rule=any(one.name == decided.rule for one in rules),
        backend=snapshot is not None and decided.backend in snapshot.backends,
    )


def _is_plain(name: str, value: object) -> bool:
    return name not in _LEFT_OUT and isinstance(value, (str, bool, int, float, tuple))


def _without_texts(value: object) -> dict[str, Any]:
    said = cast("dict[str, Any]", msgspec.to_builtins(value))
    return {name: one for name, one in said.items() if name not in _TEXTS}
