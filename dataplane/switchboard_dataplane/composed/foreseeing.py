"""What it is foreseen to cost to ask a backend something after an answer is known."""

from collections.abc import Sequence
from typing import Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.judging.prompts import (
    ANSWER_CHARS_MAX,
    REPLY_TOKENS_MAX,
    SYSTEM_CHARS_MAX,
    TURN_CHARS_MAX,
)
from switchboard_dataplane.reading.texts import last_user_turn
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.wire.prompts import tokens_of
from switchboard_policy import ir

#: What a judge reads beside texts: its task, its rules, the marks.
FRAME_TOKENS: Final = 300
#: Another model may say so many times more than the one whose answer is known.
OUTPUT_TIMES: Final = 2


def again_picodollars(plan: Plan, name: str, view: RequestView, outcome: Outcome) -> float:
    """Return what asking a backend the same once more is foreseen to cost.

    By what the caller's own answer took and gave. A backend without prices costs nothing.
    """
    output_tokens = OUTPUT_TIMES * (outcome.output_tokens or 0)
    if view.max_tokens:
        output_tokens = min(output_tokens, view.max_tokens)
    return _picodollars(plan, name, outcome.input_tokens or view.tokens, output_tokens)


def judged_picodollars(
    plan: Plan, judge: ir.Asked, view: RequestView, answers: Sequence[str]
) -> float:
    """Return what a judge's reply is foreseen to cost that is shown these answers.

    A judge without prices costs nothing.
    """
    shown = [
        judge.instructions,
        view.system[:SYSTEM_CHARS_MAX],
        last_user_turn(view)[:TURN_CHARS_MAX],
        *(one[:ANSWER_CHARS_MAX] for one in answers),
    ]
    size_bytes = sum(len(one.encode(errors="replace")) for one in shown)
    input_tokens = FRAME_TOKENS + tokens_of(size_bytes)
    return _picodollars(plan, judge.backend, input_tokens, REPLY_TOKENS_MAX)


def _picodollars(plan: Plan, name: str, input_tokens: int, output_tokens: int) -> float:
    backend = plan.snapshot.backends.get(name)
    pricing = None if backend is None else backend.spec.pricing
    if pricing is None:
        return 0.0
    return input_tokens * pricing.input_picodollars + output_tokens * pricing.output_picodollars
