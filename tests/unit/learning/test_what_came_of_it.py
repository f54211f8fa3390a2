"""What callers do next, errors and a cascade's checks rate answers without a word of anyone."""

import asyncio
from typing import Any

import pytest

from fakes.learning_pods import Pod, ended, logged, running
from fakes.stores import SCOPE, MemoryRig
from switchboard_dataplane.learning.journal import (
    CONTINUED,
    TURNS,
    TURNS_TOLD_MAX,
)
from switchboard_dataplane.learning.noting import Noted
from switchboard_dataplane.learning.regenerations import WITHIN_S
from switchboard_dataplane.telemetry.outcome import Aside, Attempt


async def test_a_turn_that_another_pod_is_asked_again_rates_the_first_answer(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1", turn=7)
        two.answer("d2", turn=8)
        await asyncio.sleep(3)
        two.answer("d3", turn=7)
        await asyncio.sleep(3)
        assert one.learned == [("d1", "regeneration", 0.0)]
        assert two.learned == []
        one.answer("d4", turn=7)
        await asyncio.sleep(3)
        assert two.learned == [("d3", "regeneration", 0.0)]
        assert one.learned == [("d1", "regeneration", 0.0)]


async def test_who_goes_on_at_whichever_pod_was_content_with_the_answer_before(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1", turn=7)
        two.answer("d2", turn=8)
        await asyncio.sleep(3)
        two.answer("d3", turn=9, continued=7)
        two.answer("d4", turn=10, continued=8)
        await asyncio.sleep(3)
        assert one.learned == [("d1", "continuation", 1.0)]
        assert two.learned == [("d2", "continuation", 1.0)]
        two.answer("d5", turn=11, continued=7)
        await asyncio.sleep(3)
        assert len(one.learned) == 1, "an answer is gone on from once"


@pytest.mark.parametrize(
    ("fields", "wait_s"),
    [
        ({"error": "upstream_reset", "caller_left": True}, 3.0),
        ({}, WITHIN_S + 1),
    ],
)
async def test_who_goes_on_from_half_an_answer_or_much_later_says_nothing(
    rig: MemoryRig, fields: dict[str, Any], wait_s: float
) -> None:
    pod = Pod("one", rig.reader())
    pod.answer("d1", turn=7, **fields)
    await asyncio.sleep(wait_s)
    pod.answer("d2", turn=8, continued=7)
    assert pod.learned == []


async def test_an_answer_that_was_made_anew_is_not_the_one_that_is_gone_on_from(
    rig: MemoryRig,
) -> None:
    pod = Pod("one", rig.reader())
    for decision, turn, continued in (("d1", 7, 0), ("d2", 7, 0), ("d3", 8, 7)):
        pod.answer(decision, turn=turn, continued=continued)
        await asyncio.sleep(1)
    assert pod.learned == [("d1", "regeneration", 0.0), ("d2", "continuation", 1.0)]


async def test_answers_to_the_same_that_were_written_side_by_side_are_no_regenerations(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1", turn=7, duration_s=5.0)
        one.answer("d2", turn=7, duration_s=5.0)
        two.answer("d3", turn=7, duration_s=5.0)
        await asyncio.sleep(3)
    assert one.learned == two.learned == []


async def test_a_crowd_of_turns_is_one_bounded_word(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        for turn in range(1, TURNS_TOLD_MAX + 100):
            one.answer(f"d{turn}", turn=turn, continued=turn + 10_000)
        await asyncio.sleep(1)
        for topic in (TURNS, CONTINUED):
            words = rig.store.pods(SCOPE).words.values()
            (word,) = [said for said in words if said.topic == topic]
            assert len(word.body) == TURNS_TOLD_MAX * 12


def failed(code: str) -> dict[str, Any]:
    return {
        "status": 502,
        "error": code,
        "attempts": (Attempt("ai/small", "ai/small@0", "small", "server_error", 0.1),),
    }


@pytest.mark.parametrize(
    ("fields", "rated"),
    [
        ({}, []),
        (failed("upstream_server_error"), [("error", 0.0, "")]),
        ({**failed("upstream_reset"), "status": 200}, [("error", 0.0, "")]),
        ({**failed("upstream_server_error"), "caller_left": True}, []),
        ({**failed("shutting_down"), "status": 503}, []),
        ({"status": 503, "error": "no_candidate"}, []),
        ({"status": 400}, []),
        ({"judged": (("small", "accepted"),)}, [("acceptance", 1.0, "")]),
        ({"judged": (("other", "accepted"),)}, [("acceptance", 1.0, "other")]),
        ({"judged": (("small", "unjudged"),)}, []),
        (
            {"judged": (("small", "regex"), ("large", "upstream_server_error"))},
            [("escalation", 0.0, "")],
        ),
        (
            {
                "tier": "large",
                "judged": (("small", "regex"), ("middle", "low_score"), ("large", "accepted")),
            },
            [
                ("escalation", 0.0, "small"),
                ("escalation", 0.0, "middle"),
                ("acceptance", 1.0, ""),
            ],
        ),
        *(
            (
                {"tier": "large", "judged": (("small", why), ("large", "unjudged"))},
                [("escalation", 0.0, "small")],
            )
            for why in ("low_confidence", "condition", "schema", "not_json", "disagreement")
        ),
        *(
            ({"tier": "large", "judged": (("small", why), ("large", "unjudged"))}, [])
            for why in (
                "no_logprobs",
                "condition_error",
                "held_too_long",
                "judge_forbidden",
                "judge_timeout",
                "judge_unreadable",
                "agreement_forbidden",
                "upstream_server_error",
                "context_overflow",
            )
        ),
    ],
)
async def test_what_came_of_a_request_rates_who_answered_it(
    rig: MemoryRig, fields: dict[str, Any], rated: list[tuple[str, float, str]]
) -> None:
    pod = Pod("one", rig.reader())
    pod.answer("d1", **fields)
    known = pod.journal.recent.find("d1", asyncio.get_running_loop().time())
    assert known is not None
    assert [(one.source, one.value, one.tier) for one in known.ratings] == rated
    assert len(pod.learned) == len(rated)


async def test_a_decision_counts_all_that_was_asked_for_it(rig: MemoryRig) -> None:
    pod = Pod("one", rig.reader())
    broken = Attempt("ai/small", "ai/small@0", "small", "reset", 0.1)
    broken.input_tokens, broken.output_tokens, broken.cost_microdollars = 10, 1, 2.0
    judge = Aside("judge", "ai/judge", "", 0.2)
    judge.input_tokens, judge.output_tokens, judge.cost_microdollars = 100, 2, 4.0
    judge.attempts = (
        Attempt("ai/judge", "ai/judge@0", "judge", "server_error", 0.1),
        Attempt("ai/judge", "ai/judge@1", "judge", "", 0.1),
    )
    pod.answer(
        "d1",
        attempts=(broken, Attempt("ai/small", "ai/small@1", "small", "", 0.1)),
        asides=(judge,),
        input_tokens=10,
        output_tokens=20,
        cost_microdollars=1.0,
        readings={"task": "code", "complexity": 0.5, "context": (1, 0.5), "pii": ["email"]},
    )
    known = pod.journal.recent.find("d1", asyncio.get_running_loop().time())
    assert known is not None
    said = known.decision
    assert (said.input_tokens, said.output_tokens, said.cost_microdollars) == (120, 23, 7.0)
    assert [(one.purpose, one.backend) for one in said.asides] == [("judge", "ai/judge")]
    assert (said.task, said.complexity, said.context) == ("code", 0.5, (1.0, 0.5))
    assert (said.attempts, said.failures) == (4, ("server_error", "reset"))
    assert "email" not in repr(said)


@pytest.mark.parametrize(("status", "reason"), [(0, "caller_left"), (200, "cascade:accepted")])
async def test_the_reason_of_a_request_whose_caller_left_before_an_answer_says_so(
    rig: MemoryRig, status: int, reason: str
) -> None:
    pod = Pod("one", rig.reader())
    noted = Noted("d1", texts=False, judged=False)
    noted.reason = "cascade:accepted" if status else "primary"
    pod.journal.fold([ended(noted, status=status, caller_left=True)])
    known = pod.journal.recent.find("d1", asyncio.get_running_loop().time())
    assert known is not None
    assert known.decision.reason == reason


@pytest.mark.parametrize(("gain", "told"), [(-0.25, 0.0), (0.25, 0.25), (1.5, 1.0)])
async def test_complexity_is_told_between_0_and_1(rig: MemoryRig, gain: float, told: float) -> None:
    pod = Pod("one", rig.reader())
    pod.answer("d1", readings={"complexity": gain})
    known = pod.journal.recent.find("d1", asyncio.get_running_loop().time())
    assert known is not None
    assert known.decision.complexity == told


async def test_a_request_whose_policy_does_not_learn_leaves_nothing(rig: MemoryRig) -> None:
    pod = Pod("one", rig.reader())
    async with running(pod):
        pod.journal.fold([ended(None)] * 3)
        await asyncio.sleep(2)
    assert len(pod.journal.recent) == 0
    assert logged(rig) == []


async def test_a_learner_that_fails_keeps_no_other_from_learning(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture
) -> None:
    pod = Pod("one", rig.reader())

    def fails(*said: object) -> None:
        raise ArithmeticError("no luck")

    pod.journal.learners.insert(0, fails)
    pod.answer("d1")
    pod.journal.rate("d1", 1.0, "judge")
    assert pod.learned == [("d1", "judge", 1.0)]
    assert "no luck" in caplog.text


async def test_ratings_are_counted_by_whose_they_are(rig: MemoryRig) -> None:
    pod = Pod("one", rig.reader())
    pod.answer("d1", judged=(("small", "regex"),), tier="large", backend="ai/large", arm="b")
    pod.journal.rate("d1", 1.0, "judge")
    (rating,) = [one for one in pod.choices.instruments if one.name == "switchboard.rating"]
    assert sorted(rating.read()) == [
        ("", "ai/chat", "default", "escalation", "small", "b"),
        ("ai/large", "ai/chat", "default", "judge", "large", "b"),
    ]
