"""Whatever two attempts do, and whenever: one answer, and nothing is left of the rest."""

import asyncio
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.gateway import said
from fakes.timed import (
    EVER,
    Play,
    TimedCaller,
    TimedStage,
    answers,
    errs,
    refuses,
    staged_with,
    streams,
)
from fakes.virtual_time import VirtualTimeLoop
from switchboard_dataplane.errors import UpstreamConnect, UpstreamReset
from switchboard_dataplane.signals.marks import Mark
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_policy import ir

NAMES = ("one", "two", "three", "four")
FORBIDDEN = "four"
ATTEMPTS = 4
DEADLINE_S = 45.0
#: On a grid, so that things happen in the same turn of the loop; some just beside it.
TIMES = st.sampled_from(
    [0.0, 0.01, 0.5, 1.0, 2.0, 9.99, 10.0, 10.01, 10.5, 11.0, 15.0, 20.0, 20.02, 44.99, 45.0, EVER]
)


def of(name: str) -> st.SearchStrategy[Play]:
    """What a backend may do; its content is its name."""
    return st.one_of(
        TIMES.map(lambda at: streams(at, name)),
        TIMES.map(lambda at: streams(at, name, head_s=at)),
        TIMES.map(lambda at: answers(at, name)),
        TIMES.map(refuses),
        TIMES.map(lambda at: errs(at, code=500)),
        TIMES.map(lambda at: errs(at, code=400)),
        TIMES.map(lambda at: Play(at, (UpstreamReset("gone"),))),
        TIMES.map(lambda at: Play(0.0, (at, UpstreamReset("gone")))),
        TIMES.map(lambda at: Play(0.0, (at, said(name), 0.5, UpstreamReset("gone")))),
        TIMES.map(lambda at: refuses(at, status=503)),
        st.builds(
            lambda at, wait_s: refuses(at, 429, [("retry-after", wait_s)]),
            TIMES,
            st.sampled_from(["-1", "0", "1", "2.5", "7", "soon", "1e9", "99999999999"]),
        ),
        st.just(Play(UpstreamConnect("refused"))),
    )


HEDGES = st.none() | st.builds(
    ir.Hedge,
    after_ms=st.sampled_from([10, 500, 9_990, 10_000, 20_000]),
    budget_permille=st.just(1_000),
)


#: How long backends rest when the request comes, for what others were told.
RESTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.5, 2.0, 12.0, 900.0]))


@settings(max_examples=400, deadline=None)
@given(
    st.tuples(*(st.lists(of(name), min_size=1, max_size=2) for name in NAMES)),
    HEDGES,
    st.booleans(),
    st.none() | TIMES,
    st.sampled_from([0, 100]),
    st.sampled_from([0, 200]),
    RESTS,
)
def test_one_answer_and_nothing_left(
    plays: Sequence[Sequence[Play]],
    hedge: ir.Hedge | None,
    stream: bool,
    leaves_after_s: float | None,
    restart: int,
    retries: int,
    rests: Mapping[str, float],
) -> None:
    stage = staged_with(
        {
            "hedge": hedge,
            "attempts": ATTEMPTS,
            "deadline_ms": int(DEADLINE_S * 1_000),
            "restart_within_chars": restart,
            "retry_budget_permille": retries,
            "guardrails": (ir.Guardrail("no-four", "ai/chat", (f"ai/{FORBIDDEN}",)),),
        },
        ["one", "two"],
        ["three", "four"],
        **dict(zip(NAMES, plays, strict=True)),
    )
    caller = TimedCaller({"stream": stream})
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        come_at = runner.get_loop().time()
        for name, for_s in rests.items():
            stage.signals.marks.put(Mark(f"ai/{name}", "rate_limited", for_s), come_at)
        runner.run(stage.serve(caller, leaves_after_s=leaves_after_s))
    check(stage, caller, stage.outcomes[0])
    # What was only slower than another has not failed the request: it may be asked again.
    failed = [one.backend for one in stage.outcomes[0].attempts if one.failure != "lost"]
    assert retries or len(failed) == len(set(failed)), "without a budget nobody is asked twice"
    for name, at in stage.upstream.sent:
        assert at >= come_at + rests.get(name, 0.0)


def check(stage: TimedStage, caller: TimedCaller, outcome: Outcome) -> None:
    asked = [name for name, _ in stage.upstream.sent]
    assert FORBIDDEN not in asked
    assert stage.upstream.most <= 2
    # Each attempt is accounted for once, and so are those that were given up.
    assert sorted(one.backend for one in outcome.attempts) == sorted(f"ai/{one}" for one in asked)
    assert len(asked) <= ATTEMPTS
    assert sum(not one.failure for one in outcome.attempts) <= 1
    if outcome.caller_left:
        return
    assert caller.ended
    assert outcome.duration_s < DEADLINE_S + 2 * 0.5 * ATTEMPTS + 0.1
    if outcome.error:
        assert not outcome.answered or caller.body.endswith(b"\n\n")
        return
    assert outcome.answered
    assert caller.told["x-switchboard-attempts"] == str(len(outcome.attempts)) or outcome.breaks
    if caller.status == 200 and not outcome.breaks:
        # Nothing of a loser's goes out.
        names = [name for name in NAMES if f'"{name}"'.encode() in caller.body]
        assert names == [outcome.backend.removeprefix("ai/")]
    if outcome.races and outcome.races[-1].won == "second" and not outcome.breaks:
        assert caller.reason in {"raced", "hedged"}
