"""What a policy that says nothing of resilience does for a stream whose first token is late."""

import pytest

from fakes.gateway import said
from fakes.policies import snapshot
from fakes.timed import Play, TimedStage, TimedUpstream, streams
from fakes.worlds import GATEWAY, keyring, read_world
from switchboard_policy import ir
from switchboard_policy.compiler.compile import Compiler

WORLD = """
kind: ModelBackend
metadata: {name: slow, namespace: ai}
spec: {model: m, external: {provider: openai-compatible, url: "https://slow.test/v1"}}
---
kind: ModelBackend
metadata: {name: ready, namespace: ai}
spec: {model: m, external: {provider: openai-compatible, url: "https://ready.test/v1"}}
---
kind: RoutingPolicy
metadata: {name: chat, namespace: ai}
spec:
  models: [chat]
  rules:
  - name: default
    route:
      tiers:
      - {name: first, backends: [{name: slow}]}
      - {name: second, backends: [{name: ready}]}
"""
ROLE = said(delta={"role": "assistant", "content": ""})


def compiled() -> list[ir.Entry]:
    """The entries of this world, as the operator publishes them."""
    _, world = read_world(WORLD)
    compilation = Compiler(GATEWAY, keyring()).compile(world)
    return [encoded.entry for encoded in compilation.policy.values()]


@pytest.mark.parametrize(
    "slow",
    [
        streams(20.0, "late"),
        streams(20.0, "late", head_s=20.0),
        Play(0.0, (ROLE, 5.0, b": still here\n\n", 15.0, said("late"), said(finish_reason="stop"))),
    ],
    ids=["after the head", "with the head", "after a role and a comment"],
)
async def test_a_first_token_after_20_s_is_answered_by_another_within_12(slow: Play) -> None:
    stage = TimedStage(
        TimedUpstream({"slow": [slow], "ready": [streams(1.0, "ready")]}), snapshot(*compiled())
    )
    caller, outcome = await stage.serve()
    assert b'"ready"' in caller.body
    assert b'"late"' not in caller.body
    assert outcome.ttft_s is not None
    assert outcome.ttft_s < 12.0
    assert caller.told["x-switchboard-backend"] == "ai/ready"
