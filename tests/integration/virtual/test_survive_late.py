"""Through real sockets, with the timeouts that a backend has if it says nothing of them."""

import pytest

from fakes.gateway import chat, failover, fakes, gateway
from fakes.policies import backend
from fakes.upstreams import nothing_left

pytestmark = pytest.mark.usefixtures("each_front")


@pytest.mark.parametrize("tiers", [["slow", "ready"], [["slow", "ready"]]], ids=["tiers", "one"])
async def test_a_first_token_after_20_s_is_answered_by_a_model_that_is_ready(
    tiers: list[str | list[str]],
) -> None:
    async with nothing_left(), fakes({"ttft_ms": 20_000}, {"ttft_ms": 1_000}) as (slow, ready):
        entries = [
            backend(name, url=f"{model.url}/v1", model="fake-model")
            for name, model in (("slow", slow), ("ready", ready))
        ]
        async with gateway(failover(*tiers), *entries) as gw:
            for number in range(4):
                reply = await gw.send(chat(stream=True))
                assert reply.text.startswith("This is b")
                outcome = await gw.outcome(number)
                assert outcome.ttft_s is not None
                assert outcome.ttft_s < 12.0
            assert {one.backend for one in gw.outcomes} == {"ai/ready"}
