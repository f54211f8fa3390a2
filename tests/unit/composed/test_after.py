"""What follows an answer, on a clock of its own: mirrors and reviews."""

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from fakes.gateway import said
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.timed import (
    EVER,
    PRICED,
    Play,
    TimedCaller,
    TimedStage,
    TimedUpstream,
    refuses,
    silent,
    streams,
)
from switchboard_dataplane.composed.background import REVIEWS_MAX, TASKS_MAX
from switchboard_dataplane.proxy import Proxy
from switchboard_policy import ir

WHOLE = {"stream": False}
MIRROR = ir.Mirror("ai/new", sample_permille=1_000, max_cost_picodollars=10**12)
#: What a mirror is foreseen to cost, in picodollars: the caller's prompt, and twice its answer.
FORESEEN = 11_000_000.0
REVIEW = ir.Review("https://reviews.example.com/new")


def whole(after_s: float, text: str, tokens: int = 4) -> Play:
    """A whole answer after so long."""
    said = {
        "choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": tokens},
    }
    return Play(after_s, (orjson.dumps(said),), media_type="application/json")


def stage(new: Play, *, live_pods: int = 1, **said: Any) -> TimedStage:
    """A model that answers after a second, and one that is tried."""
    plays = {"now": [whole(1.0, "The answer is 42")], "new": [new]}
    entries = [backend(name, pricing=PRICED) for name in plays]
    of = policy("chat", rule("default", tier("now", "now"), **said))
    return TimedStage(TimedUpstream(plays), snapshot(of, *entries, live_pods=live_pods))


async def serve(one: TimedStage, proxy: Proxy, times: int = 1, **fields: Any) -> None:
    """Serve so many callers one after another; what follows goes on."""
    for _ in range(times):
        await proxy.serve(TimedCaller(WHOLE | fields))


async def idle(proxy: Proxy) -> None:
    while len(proxy.composer.background):  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(1)


async def test_a_mirror_is_asked_when_the_caller_has_its_answer() -> None:
    one = stage(whole(5.0, "So the answer is 41"), mirror=MIRROR)
    async with one.settled():
        proxy = one.proxy()
        await serve(one, proxy)
        ended_at = asyncio.get_running_loop().time()
        await idle(proxy)
    (told,) = one.told.mirrored
    assert [name for name, _ in one.upstream.sent] == ["now", "new"]
    assert one.upstream.sent[1][1] == pytest.approx(ended_at)
    assert (told.result, told.agreement, told.better) == ("compared", 0.0, None)
    assert told.chars == (16, 19)
    assert list(told.took_s) == pytest.approx([1.0, 5.0])
    (aside,) = told.asides
    assert (aside.purpose, aside.backend, aside.cost_microdollars) == ("mirror", "ai/new", 7.0)
    assert told.ended.outcome.asides == ()


@pytest.mark.parametrize(
    ("new", "result"),
    [(refuses(1.0), "refused"), (silent(), "timeout"), (whole(1.0, ""), "compared")],
)
async def test_what_a_mirror_does_is_nobodys_loss(new: Play, result: str) -> None:
    one = stage(new, mirror=MIRROR)
    async with one.settled():
        proxy = one.proxy()
        await serve(one, proxy)
        await idle(proxy)
    assert [told.result for told in one.told.mirrored] == [result]
    assert one.outcomes[0].error == ""


async def test_live_pods_share_what_an_hour_may_cost() -> None:
    # Each is foreseen to cost 1 + 10 microdollars, and does.
    mirror = ir.Mirror("ai/new", 1_000, max_cost_picodollars=110_000_000)
    for live_pods, expected in ((1, 10), (2, 5), (20, 0)):
        one = stage(whole(0.1, "x", 8), mirror=mirror, live_pods=live_pods)
        async with one.settled():
            proxy = one.proxy()
            for _ in range(15):
                await serve(one, proxy, max_tokens=10)
                await idle(proxy)
        results = [told.result for told in one.told.mirrored]
        assert results == ["compared"] * expected + ["over_budget"] * (15 - expected)


async def test_an_hour_later_there_is_room_again() -> None:
    mirror = ir.Mirror("ai/new", 1_000, max_cost_picodollars=11_000_000)
    one = stage(whole(0.1, "x", 8), mirror=mirror)
    async with one.settled():
        proxy = one.proxy()
        for wait_s in (0.0, 1_750.0, 1_750.0, 200.0):
            await asyncio.sleep(wait_s)
            await serve(one, proxy, max_tokens=10)
            await idle(proxy)
    results = [told.result for told in one.told.mirrored]
    assert results == ["compared", "over_budget", "over_budget", "compared"]


async def test_mirrors_at_the_same_time_spend_no_more_than_is_said() -> None:
    # The caller's answers take 3 + 4; the mirror's as much as was foreseen, and no limit is said.
    mirror = ir.Mirror("ai/new", 1_000, max_cost_picodollars=10 * int(FORESEEN))
    one = stage(whole(5.0, "x", 8), mirror=mirror)
    async with one.settled():
        proxy = one.proxy()
        await asyncio.gather(*(serve(one, proxy) for _ in range(100)))
        await idle(proxy)
        spent = proxy.composer.mirrors.budgets["ai/chat default"].spent(0.0)
    results = Counter(told.result for told in one.told.mirrored)
    assert results == {"compared": 10, "over_budget": 90}
    assert spent == mirror.max_cost_picodollars


async def test_a_long_answer_is_foreseen_to_be_long_again() -> None:
    mirror = ir.Mirror("ai/new", 1_000, max_cost_picodollars=30_000_000_000)
    one = stage(whole(5.0, "x", 9_000), mirror=mirror)
    one.upstream.plays = {**one.upstream.plays, "now": [whole(1.0, "x", 5_000)]}
    async with one.settled():
        proxy = one.proxy()
        await asyncio.gather(*(serve(one, proxy) for _ in range(20)))
        await idle(proxy)
    spent = sum(aside.cost_microdollars or 0 for told in one.told.mirrored for aside in told.asides)
    assert spent == 2 * 9_003


async def test_what_finds_no_room_is_dropped_and_costs_nothing() -> None:
    one = stage(silent(EVER), mirror=MIRROR)
    async with one.settled():
        proxy = one.proxy()
        await asyncio.gather(*(serve(one, proxy) for _ in range(TASKS_MAX + 10)))
        mirrors = proxy.composer.background.mirrors
        assert (len(mirrors), mirrors.dropped) == (TASKS_MAX, 10)
        # What is foreseen of the others is not spent.
        spent = proxy.composer.mirrors.budgets["ai/chat default"].spent(0.0)
        assert spent == TASKS_MAX * FORESEEN
        await proxy.composer.background.close(1.0)
    results = Counter(told.result for told in one.told.mirrored)
    assert results == {"cancelled": TASKS_MAX, "dropped": 10}


async def test_a_webhook_that_hangs_stops_no_mirror_and_a_dropped_review_is_not_pending() -> None:
    one = stage(whole(0.1, "x"), mirror=MIRROR, review=REVIEW)
    one.told.statuses = [OSError("gone")]
    callers = [TimedCaller(WHOLE) for _ in range(REVIEWS_MAX + 10)]
    async with one.settled():
        proxy = one.proxy()
        await asyncio.gather(*(proxy.serve(caller) for caller in callers[:-10]))
        await asyncio.gather(*(proxy.serve(caller) for caller in callers[-10:]))
        assert len(proxy.composer.background.mirrors) == 10
        await proxy.composer.background.close(60.0)
    said = Counter(caller.told["x-switchboard-review"] for caller in callers)
    assert said == {"pending": REVIEWS_MAX, "dropped": 10}
    assert Counter(one.told.reviewed) == {"failed": REVIEWS_MAX, "dropped": 10}
    assert [told.result for told in one.told.mirrored[-10:]] == ["compared"] * 10


async def test_a_caller_that_leaves_gives_back_the_place_of_its_review() -> None:
    one = stage(whole(1.0, "x"), review=REVIEW)
    one.upstream.plays = {**one.upstream.plays, "now": [Play(0.0, (said("It is"), EVER))]}
    async with one.settled():
        proxy = one.proxy()
        for _ in range(REVIEWS_MAX + 1):
            caller = TimedCaller({"stream": True})
            serving = asyncio.create_task(proxy.serve(caller))
            await asyncio.sleep(0.01)
            assert caller.told["x-switchboard-review"] == "pending"
            serving.cancel()
            await asyncio.wait({serving})
    assert one.told.reviewed == []


async def test_a_mirror_that_is_cut_off_is_accounted_for() -> None:
    one = stage(silent(EVER), mirror=MIRROR)
    async with one.settled():
        proxy = one.proxy()
        await serve(one, proxy)
        await asyncio.sleep(1)
        await proxy.composer.background.close(1.0)
    (told,) = one.told.mirrored
    assert told.result == "cancelled"
    (aside,) = told.asides
    assert (aside.failure, aside.input_tokens) == ("cancelled", 1)


async def test_a_webhook_is_tried_three_times_and_then_given_up() -> None:
    one = stage(whole(1.0, "x"), review=REVIEW)
    one.told.statuses = [500, OSError("gone"), 404]
    async with one.settled():
        proxy = one.proxy()
        await serve(one, proxy)
        began_at = asyncio.get_running_loop().time()
        await idle(proxy)
        assert asyncio.get_running_loop().time() - began_at == pytest.approx(6.0, abs=1.1)
    assert [url for url, _ in one.told.posted] == [REVIEW.webhook] * 3
    assert one.told.reviewed == ["failed"]


async def test_a_review_that_is_cut_off_is_told() -> None:
    one = stage(whole(1.0, "x"), review=REVIEW)
    one.told.statuses = [500]
    async with one.settled():
        proxy = one.proxy()
        await serve(one, proxy)
        await proxy.composer.background.close(0.5)
    assert one.told.reviewed == ["failed"]


async def test_a_caller_that_leaves_in_the_middle_has_no_sequel() -> None:
    one = stage(whole(1.0, "x"), mirror=MIRROR, review=REVIEW)
    one.upstream.plays = {**one.upstream.plays, "now": [streams(1.0)]}
    caller, outcome = await one.serve(leaves_after_s=0.5)
    assert outcome.caller_left
    assert (one.told.mirrored, one.told.posted, caller.status) == ([], [], 0)
