"""Selects that learn, over real sockets: ratings move requests, and pods learn together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fakes.gateway import SCOPE, Gateway, chat, external, fakes, gateway, until
from fakes.policies import keyring, policy, rule, tier
from fakes.routers import fitted, rows
from switchboard_cli.train.store import store_fit
from switchboard_dataplane import app
from switchboard_dataplane.choosing.artifact import digest_of
from switchboard_dataplane.choosing.context import context_of
from switchboard_dataplane.choosing.routers import file_name
from switchboard_dataplane.signals.learned import Offer
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

CODE = "Write a Python function that reverses a linked list, with unit tests."
TALK = "Which mountains are there in Nepal, and which of them is the highest?"
BANDIT = ir.Select("Bandit", bandit=ir.Bandit(explore_permille=0))
ROUTER = store_fit(fitted().fit, rows())
DIGEST = digest_of(ROUTER)
SMALL = {"pricing": ir.Pricing(input_picodollars=10**8, output_picodollars=10**8)}
LARGE = {"pricing": ir.Pricing(input_picodollars=10**9, output_picodollars=10**9)}


@asynccontextmanager
async def selecting(
    select: ir.Select | None, *rules: ir.Rule, settings: dict[str, Any] | None = None
) -> AsyncGenerator[Gateway]:
    """A gateway before a small and a large model, whose policy learns."""
    async with fakes({}, {}) as (small, large):
        default = rule("default", tier("small", "small"), tier("large", "large"), select=select)
        said = policy("chat", *rules, default, learning=ir.Learning())
        backends = external("small", small.url, **SMALL), external("large", large.url, **LARGE)
        async with gateway(said, *backends, pod_name="one", **(settings or {})) as gw:
            yield gw


async def tier_of(gw: Gateway, text: str, **headers: str) -> str:
    reply = await gw.send(chat(text), **headers)
    assert reply.status == 200, reply.body
    return reply.headers["x-switchboard-tier"]


async def ask_and_rate(gw: Gateway, text: str, ratings: dict[str, float]) -> str:
    """Ask, and rate the answer by the tier that gave it; return that."""
    reply = await gw.send(chat(text))
    took = reply.headers["x-switchboard-tier"]
    said = {"decision": reply.headers["x-switchboard-decision"], "rating": ratings[took]}
    assert (await gw.send(said, "/v1/feedback")).status == 202
    return took


async def test_a_bandit_leaves_a_tier_that_callers_do_not_like() -> None:
    async with selecting(BANDIT) as gw:
        assert await tier_of(gw, TALK) == "small"
        for _ in range(12):
            await ask_and_rate(gw, TALK, {"small": 0.0, "large": 1.0})
        (bandit,) = gw.plane.beside.lessons.lessons.bandits().values()
        await until(lambda: sum(told.sums.seen for told in bandit.told().values()) == 12)
        assert await tier_of(gw, TALK) == "large"


async def test_an_answer_that_fails_is_a_bad_one_to_a_bandit() -> None:
    async with fakes({"faults": [{"kind": "status", "status": 500}]}, {}) as (small, large):
        tiers = tier("small", "small"), tier("large", "large")
        said = policy(
            "chat", rule("default", *tiers, select=BANDIT), learning=ir.Learning(), attempts=1
        )
        async with gateway(said, external("small", small.url), external("large", large.url)) as gw:
            statuses = [(await gw.send(chat(TALK))).status for _ in range(60)]
    assert statuses[0] == 502
    assert statuses[-1] == 200


async def test_neighbours_tell_requests_apart_by_what_they_are_about() -> None:
    select = ir.Select("Neighbours", max_quality_loss_permille=50)
    async with selecting(select) as gw:
        for _ in range(15):
            for text, good in ((CODE, 0.0), (TALK, 1.0)):
                await ask_and_rate(gw, text, {"small": good, "large": 1.0})
        known = gw.plane.beside.lessons.lessons._neighbours
        await until(lambda: sum(map(len, known.values())) == 30)
        code = await tier_of(gw, "Write a Python function that sorts a linked list, with tests.")
        talk = await tier_of(gw, "Which mountains are there in Peru, and how high are they?")
    assert (code, talk) == ("large", "small")


async def test_a_declared_quality_moves_the_share_of_the_strong_tier() -> None:
    select = ir.Select("Complexity", target_quality_permille=900)
    async with selecting(select) as gw:
        targets = gw.plane.in_force.signals.targets
        for _ in range(40):
            await ask_and_rate(gw, TALK, {"small": 0.0, "large": 0.0})
        await until(lambda: [one.share for one in targets.values()] == [1.0])
        assert await tier_of(gw, TALK) == "large"


async def test_a_policy_names_a_router_of_its_own(tmp_path: Path) -> None:
    (tmp_path / file_name(DIGEST)).write_bytes(ROUTER)
    select = ir.Select("Complexity", thresholds_permille=(280,), margin_permille=0, router=DIGEST)
    async with selecting(select, settings={"routers": str(tmp_path)}) as gw:
        hard = await tier_of(gw, "Tell me about the theorem integral of it.")
        easy = await tier_of(gw, "Tell me about the capital colour of it.")
        assert not gw.plane.follower.state().refused
    assert (hard, easy) == ("large", "small")


async def test_a_policy_that_names_a_router_that_is_not_there_is_told_of_by_name(
    tmp_path: Path,
) -> None:
    select = ir.Select("Complexity", thresholds_permille=(280,), router=DIGEST)
    async with selecting(select, settings={"routers": str(tmp_path)}) as gw:
        # It has no form that is good: the router that ships stands in.
        assert await tier_of(gw, "Hi") in {"small", "large"}
        assert gw.plane.follower.state().refused == {
            "policy/ai/chat": f"its router {DIGEST} is not in --routers: "
            "the one that ships takes its place"
        }
        (tmp_path / file_name(DIGEST)).write_bytes(ROUTER)
        gw.plane.beside.lessons.lessons.routers.look()
        await until(lambda: not gw.plane.follower.state().refused, within_s=20)


async def test_what_a_conversation_has_cost_and_who_answered_last_are_facts() -> None:
    spent = rule("spent", tier("spent", "large"), when="signals.sessionCost > 0.05")
    again = rule("again", tier("again", "large"), when='signals.lastModel == "ai/small"')
    async with selecting(None, spent, again) as gw:
        said = {"x-switchboard-session": "s-1"}
        first = await tier_of(gw, TALK, **said)
        await until(lambda: gw.outcomes[0].cost_microdollars is not None if gw.outcomes else False)
        second = await tier_of(gw, TALK, **said)
        later = [await tier_of(gw, TALK, **said) for _ in range(3)]
        other = await tier_of(gw, TALK, **{"x-switchboard-session": "s-2"})
        nobody = await tier_of(gw, TALK)
        cost = gw.outcomes[0].spent_microdollars / 1e6
    assert 0.0 < cost < 0.05
    assert (first, second, other, nobody) == ("small", "again", "small", "small")
    # From then on the large one answers, until it has cost too much.
    assert set(later) <= {"small", "spent", "again"}
    assert later[-1] == "spent"


async def test_pods_learn_together() -> None:
    async with selecting(BANDIT) as gw, aiohttp.ClientSession() as session:
        keys = keyring(SCOPE)
        settings = replace(gw.plane.settings, pod_name="two")
        other = app.build(
            settings,
            source=gw.store.reader(SCOPE),
            keyring=lambda: keys,
            clock=gw.plane.in_force.clock,
        )
        async with app.serving(other):
            peer = Gateway(other, session, gw.store)
            await until(lambda: other.follower.state().synced)
            assert await tier_of(peer, TALK) == "small"
            for _ in range(12):
                await ask_and_rate(gw, TALK, {"small": 0.0, "large": 1.0})
            (bandit,) = other.beside.lessons.lessons.bandits().values()
            offer = Offer(0, "small", 0.5)
            await until(lambda: bandit.estimate(context_of("factual", 70), [offer])[0] < 0.2)
            assert await tier_of(peer, TALK) == "large"
