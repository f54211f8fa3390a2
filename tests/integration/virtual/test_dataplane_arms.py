"""Arms over real sockets: the caller keeps its arm, hears of it, and is counted by it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from fakes.gateway import Gateway, chat, external, fakes, gateway
from fakes.policies import policy, rule, tier
from switchboard_cli.__main__ import main
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

HEADER = "x-switchboard-arm"
SESSIONS = [f"session-{number}" for number in range(40)]


def compared(**weights: int) -> ir.Policy:
    """Callers on the arm cheap get the small model, all others the large one; all is logged."""
    cheap = rule("cheap", tier("small", "small"), match=ir.Match(arms=("cheap",)))
    arms = tuple(ir.Arm(name, weight) for name, weight in weights.items())
    default = rule("default", tier("large", "large"))
    return policy("chat", cheap, default, arms=arms, learning=ir.Learning())


@asynccontextmanager
async def comparing(**weights: int) -> AsyncGenerator[tuple[Gateway, tuple[ir.Backend, ...]]]:
    async with fakes({}, {}) as (small, large):
        price = ir.Pricing(input_picodollars=1_000_000, output_picodollars=1_000_000)
        backends = (
            external("small", small.url, pricing=price),
            external("large", large.url, pricing=ir.Pricing(10_000_000, None, 10_000_000)),
        )
        async with gateway(compared(**weights), *backends) as gw:
            yield gw, backends


async def arms_of(gw: Gateway) -> list[str]:
    """The arms of the sessions, each asked twice: whole, and as a stream."""
    found: list[str] = []
    for session in SESSIONS:
        headers = {"x-switchboard-session": session}
        whole = await gw.send(chat(), **headers)
        stream = await gw.send(chat(stream=True), **headers)
        assert whole.headers[HEADER] == stream.headers[HEADER]
        assert whole.headers["x-switchboard-tier"] == (
            "small" if whole.headers[HEADER] == "cheap" else "large"
        )
        found.append(whole.headers[HEADER])
    return found


async def test_a_session_keeps_its_arm_and_a_change_of_weights_moves_callers_one_way() -> None:
    async with comparing(control=3, cheap=1) as (gw, backends):
        before = await arms_of(gw)
        assert set(before) == {"control", "cheap"}
        await gw.publish(compared(control=1, cheap=1), *backends)
        moved = {pair for pair in zip(before, await arms_of(gw), strict=True) if len({*pair}) > 1}
        assert moved == {("control", "cheap")}


async def test_the_arm_is_in_the_outcome_and_in_the_metrics_and_no_caller_chooses_it() -> None:
    async with comparing(control=1, cheap=0) as (gw, _):
        reply = await gw.send(chat(), **{HEADER: "cheap"})
        assert reply.headers[HEADER] == "control"
        outcome = await gw.outcome()
        assert (outcome.arm, outcome.rule) == ("control", "default")
        where = 'backend="ai/large",policy="ai/chat",rule="default",tier="large",arm="control"'
        page = (await gw.admin("/metrics")).body.decode()
        assert f"switchboard_decisions_total{{{where}}} 1.0" in page


async def test_an_error_tells_the_arm_too() -> None:
    async with comparing(control=1, cheap=0) as (gw, backends):
        await gw.publish(compared(control=1, cheap=0), backends[0])
        reply = await gw.send(chat())
        assert (reply.status, reply.headers[HEADER]) == (503, "control")


async def test_without_arms_there_is_neither_header_nor_label() -> None:
    async with comparing() as (gw, _):
        assert HEADER not in (await gw.send(chat())).headers
        await gw.outcome()
        assert b"arm=" not in (await gw.admin("/metrics")).body


async def test_a_report_of_the_log_compares_the_arms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Callers of the large model like every answer, those of the small one every other one."""
    async with comparing(control=1, cheap=1) as (gw, _):
        answers = [
            await gw.send(chat(), **{"x-switchboard-session": f"caller-{number}"})
            for number in range(120)
        ]
        await gw.outcome(119)
        for number, answer in enumerate(answers):
            likes = answer.headers[HEADER] == "control" or number % 2 == 0
            said = {"decision": answer.headers["x-switchboard-decision"], "rating": float(likes)}
            assert (await gw.send(said, "/v1/feedback")).status == 202
        exported = tmp_path / "export.jsonl"
        exported.write_bytes((await gw.admin("/decisions")).body)
        page = (await gw.admin("/metrics")).body.decode()
    assert main(["report", str(exported), "--json", "--resamples", "200"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    (policy_report,) = told["policies"]
    arms = {one["arm"]: one for one in policy_report["arms"]}
    assert sum(one["requests"] for one in arms.values()) == 120
    assert arms["control"]["figures"]["quality"]["value"] == 1.0
    assert 0.2 < arms["cheap"]["figures"]["quality"]["value"] < 0.8
    (found,) = policy_report["comparisons"]
    assert (found["arm"], found["baseline"], found["verdict"]) == ("cheap", "control", "trades")
    differences = found["differences"]
    assert differences["quality"]["judgement"] == "worse"
    assert differences["cost"]["judgement"] == "better"
    assert differences["cost"]["value"] == pytest.approx(-0.9, abs=0.01)
    where = 'policy="ai/chat",rule="default",source="feedback",tier="large",arm="control"'
    likes = arms["control"]["requests"]
    assert f'switchboard_rating_sum{{backend="ai/large",{where}}} {likes}.0' in page
