"""Status patches: the latest edit first, at a bounded rate, and never twice the same."""

import asyncio
from typing import Any

from fakes.manifests import policy
from switchboard_operator.errors import ApiRefused, Conflict
from switchboard_operator.patcher import (
    CATCH_UP_PER_S,
    CATCH_UP_S,
    COUNTS_EVERY_S,
    STEADY_PER_S,
)
from switchboard_operator.resources import Kind
from switchboard_policy.compiler.world import Name
from unit.operator.bench import in_virtual_time
from unit.operator.patching import Patching, key, status


def test_the_same_status_is_not_written_twice() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        for _ in range(3):
            await bench.patcher.want(key("chat"), status())
            await bench.idle()
        assert bench.patched == ["chat"]
        await bench.patcher.want(key("chat"), status("other"))
        await bench.idle()
        assert bench.patched == ["chat", "chat"]

    in_virtual_time(scenario)


def test_what_the_object_carries_is_not_written_after_a_restart() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        bench.patcher.restart([key("chat")])
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.patched == ["chat"]

    in_virtual_time(scenario)


def test_patches_are_bounded_and_the_latest_goes_first() -> None:
    async def scenario() -> None:
        names = [f"p{number:03}" for number in range(200)]
        bench = Patching(*names)
        began = asyncio.get_running_loop().time()
        for name in names:
            await bench.patcher.want(key(name), status())
        await asyncio.sleep(1)
        assert len(bench.patched) <= STEADY_PER_S + 10
        await bench.patcher.want(key("p000"), status("edited just now"))
        here = len(bench.patched)
        await asyncio.sleep(0.2)
        assert "p000" in bench.patched[here : here + 10]
        await bench.idle()
        passed_s = asyncio.get_running_loop().time() - began
        assert 200 / STEADY_PER_S - 0.5 <= passed_s <= 200 / STEADY_PER_S + 1
        assert sorted(bench.patched) == names

    in_virtual_time(scenario)


def test_the_first_pass_is_faster_for_a_while() -> None:
    async def scenario() -> None:
        names = [f"p{number}" for number in range(400)]
        bench = Patching(*names)
        loop = asyncio.get_running_loop()
        bench.patcher.restart(map(key, names))
        began = loop.time()
        for name in names:
            await bench.patcher.want(key(name), status())
        await bench.idle()
        assert loop.time() - began <= len(names) / CATCH_UP_PER_S + 0.5
        bench.patcher.restart(map(key, names))
        await asyncio.sleep(CATCH_UP_S)
        began = loop.time()
        for name in names[:100]:
            await bench.patcher.want(key(name), status("again"))
        await bench.idle()
        assert loop.time() - began >= 100 / STEADY_PER_S - 0.5

    in_virtual_time(scenario)


def test_what_is_written_twice_in_the_first_pass_does_not_slow_its_end() -> None:
    async def scenario() -> None:
        names = [f"p{number:03}" for number in range(400)]
        bench = Patching(*names)
        loop = asyncio.get_running_loop()
        bench.patcher.restart(map(key, names))
        began = loop.time()
        for message in ("waiting", "fine"):
            for name in names[:200]:
                await bench.patcher.want(key(name), status(message))
            await bench.idle()
        for name in names[200:]:
            await bench.patcher.want(key(name), status())
            # The workers look for something to do each time, and mostly find nothing.
            await asyncio.sleep(0.001)
        await bench.idle()
        assert len(bench.patched) == 600
        assert loop.time() - began <= 600 / CATCH_UP_PER_S + 1

    in_virtual_time(scenario)


def test_counts_are_written_every_ten_seconds_at_most() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        for number in range(50):
            await bench.patcher.want(key("chat"), status(pods=f"{number}/50"))
            await asyncio.sleep(1)
            await bench.patcher.release_later()
        assert len(bench.patched) <= 50 / COUNTS_EVERY_S + 1
        assert len(bench.patched) >= 4

    in_virtual_time(scenario)


def test_an_object_that_is_gone_or_another_by_now_is_left_alone() -> None:
    async def scenario() -> None:
        bench = Patching("gone", "recreated")
        bench.cluster.delete(Kind.POLICY, Name("ai", "gone"))
        bench.cluster.put(Kind.POLICY, policy("recreated", "a"), uid="another")
        for name in ("gone", "recreated"):
            await bench.patcher.want(key(name), status())
        await bench.idle()
        assert bench.outcomes == ["gone", "gone"]
        assert bench.patched == []

    in_virtual_time(scenario)


def test_a_status_that_the_server_refuses_is_not_sent_again_and_again() -> None:
    async def scenario() -> None:
        bench = Patching("chat", "other")
        bench.cluster.trouble = ApiRefused(422, "too long")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.outcomes == ["failed"]
        bench.cluster.trouble = None
        await bench.patcher.want(key("chat"), status("shorter"))
        await bench.idle()
        assert bench.patched == ["chat"]

    in_virtual_time(scenario)


def test_a_conflict_is_no_failure() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        bench.cluster.trouble = Conflict(409, "uid")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.outcomes == ["gone"]

    in_virtual_time(scenario)


def test_a_replica_that_lost_the_lead_writes_nothing() -> None:
    async def scenario() -> None:
        bench = Patching("chat", leads=False)
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.patched == []

    in_virtual_time(scenario)


def test_an_edit_that_only_the_answer_to_a_patch_shows_is_taken_up() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        bench.cluster.put(Kind.POLICY, policy("chat", "b"))
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.outcomes == ["written", "changed"]
        found = bench.inventory.get(key("chat"))
        assert found is not None
        assert found.generation == 2

    in_virtual_time(scenario)


def test_a_status_is_replaced_at_the_version_that_is_known_and_else_patched() -> None:
    async def scenario() -> None:
        bench = Patching("known", "labelled")
        labelled = policy("labelled", "a")
        labelled["metadata"]["labels"] = {"team": "a"}
        bench.cluster.put(Kind.POLICY, labelled)
        for name in ("known", "labelled"):
            await bench.patcher.want(key(name), status())
        await bench.idle()
        assert sorted(bench.patched) == ["known", "labelled"]
        assert bench.cluster.replaced == [key("known")]
        # The answers told the versions, so no echo of a watch is needed for the next ones.
        for name in ("known", "labelled"):
            await bench.patcher.want(key(name), status("other"))
        await bench.idle()
        assert len(bench.patched) == 4
        assert sorted(bench.cluster.replaced[1:]) == [key("known"), key("labelled")]

    in_virtual_time(scenario)


def test_what_changed_is_told_once_it_is_written() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        bench.cluster.trouble = ApiRefused(422, "too long")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.written == []
        bench.cluster.trouble = None
        await bench.patcher.want(key("chat"), status("other"))
        await bench.idle()
        assert bench.written == ["chat"]

    in_virtual_time(scenario)


def test_a_leader_that_was_deposed_in_between_overwrites_nothing_of_the_next() -> None:
    async def scenario() -> None:
        bench = Patching("chat")

        async def replaced(*_: Any, **__: Any) -> None:
            # It slept meanwhile; the next leader wrote, and the Lease is no longer its own.
            bench.leads = False
            raise Conflict(409, "it changed")

        bench.cluster.replace_status = replaced  # type: ignore[assignment]
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.patched == []
        assert bench.outcomes == ["gone"]

    in_virtual_time(scenario)


def test_objects_that_need_no_patch_do_not_keep_the_first_pass_open() -> None:
    async def scenario() -> None:
        names = [f"p{number:03}" for number in range(200)]
        bench = Patching(*names)
        loop = asyncio.get_running_loop()
        for name in names:
            await bench.patcher.want(key(name), status())
        await bench.idle()
        bench.patcher.restart(map(key, names))
        for name in names:
            await bench.patcher.want(key(name), status())
        began = loop.time()
        for name in names:
            await bench.patcher.want(key(name), status("an edit"))
        await bench.idle()
        assert loop.time() - began >= 200 / STEADY_PER_S - 0.5

    in_virtual_time(scenario)
