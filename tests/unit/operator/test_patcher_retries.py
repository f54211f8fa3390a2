"""Status patches that fail, come too late, or are overwritten by somebody else."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from switchboard_operator.errors import ApiRefused, KubeError
from switchboard_operator.patcher import (
    COUNTS_EVERY_S,
    WORKERS,
)
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from unit.operator.bench import in_virtual_time
from unit.operator.patching import Patching, key, status


class Refusing:
    """An API server that refuses the writes to some objects, as one with a failing webhook."""

    def __init__(self, bench: Patching, names: Iterable[str], error: KubeError) -> None:
        self._names, self._error = frozenset(names), error
        self._replace = bench.cluster.replace_status
        self.tries = Counter[str]()
        bench.cluster.replace_status = self.replace_status  # type: ignore[method-assign]

    async def replace_status(self, key: ObjectKey, **fields: Any) -> Any:
        if key.name.name in self._names:
            self.tries[key.name.name] += 1
            raise self._error
        return await self._replace(key, **fields)


def test_objects_that_always_fail_keep_no_other_one_waiting() -> None:
    async def scenario() -> None:
        bad = [f"bad-{number}" for number in range(3 * WORKERS)]
        good = [f"good-{number}" for number in range(20)]
        bench = Patching(*bad, *good)
        refusing = Refusing(bench, bad, ApiRefused(500, "a webhook fails"))
        for name in (*good[:10], *bad):
            await bench.patcher.want(key(name), status())
        await asyncio.sleep(2)
        assert sorted(bench.patched) == sorted(good[:10])
        for seconds in range(120):
            await bench.patcher.release_later()
            await asyncio.sleep(1)
            if seconds == 100:
                for name in good[10:]:
                    await bench.patcher.want(key(name), status())
            if seconds == 101:
                assert sorted(bench.patched) == sorted(good)
        assert all(4 <= refusing.tries[name] <= 12 for name in bad)

    in_virtual_time(scenario)


def test_what_failed_is_tried_again_behind_all_that_is_new() -> None:
    async def scenario() -> None:
        names = [f"p{number:03}" for number in range(100)]
        bench = Patching("bad", *names)
        Refusing(bench, ["bad"], ApiRefused(500, "a webhook fails"))
        await bench.patcher.want(key("bad"), status())
        await asyncio.sleep(3)
        del bench.cluster.replace_status
        for name in names:
            await bench.patcher.want(key(name), status())
        await bench.patcher.release_later()
        await bench.idle()
        assert bench.patched[-1] == "bad"

    in_virtual_time(scenario)


class Slow:
    """An API server that takes a second for each status."""

    def __init__(self, bench: Patching) -> None:
        self._replace = bench.cluster.replace_status
        self.error: KubeError | None = None
        bench.cluster.replace_status = self.replace_status  # type: ignore[method-assign]

    async def replace_status(self, key: ObjectKey, **fields: Any) -> Any:
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        return await self._replace(key, **fields)


def test_a_status_that_is_taken_back_while_it_is_written_does_not_stay() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status("first"))
        await bench.idle()
        Slow(bench)
        await bench.patcher.want(key("chat"), status("second"))
        await asyncio.sleep(0.5)
        await bench.patcher.want(key("chat"), status("first"))
        await asyncio.sleep(5)
        assert bench.patcher.held(key("chat")) == status("first")

    in_virtual_time(scenario)


def test_what_failed_is_not_tried_again_once_something_else_is_wanted() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status("first"))
        await bench.idle()
        slow = Slow(bench)
        slow.error = ApiRefused(500, "a webhook fails")
        await bench.patcher.want(key("chat"), status("second"))
        await asyncio.sleep(0.5)
        await bench.patcher.want(key("chat"), status("first"))
        await asyncio.sleep(1)
        slow.error = None
        for _ in range(60):
            await bench.patcher.release_later()
            await asyncio.sleep(1)
        assert bench.patched == ["chat"]

    in_virtual_time(scenario)


def overwrite(bench: Patching, message: str) -> None:
    """Have somebody write another status, and the watch show it."""
    found = bench.cluster.objects[Kind.POLICY][Name("ai", "chat")]
    conditions = [{**each, "message": message} for each in found["status"]["conditions"]]
    bench.cluster.objects[Kind.POLICY][Name("ai", "chat")] = {
        **found,
        "status": {**found["status"], "conditions": conditions},
    }
    bench.inventory.take(
        Kind.POLICY, bench.cluster.put(Kind.POLICY, {**found, "metadata": {"name": "chat"}})
    )


def test_a_status_that_somebody_overwrote_is_written_again() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        bench.patcher.restart([key("chat")])
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert len(bench.patched) == 1
        overwrite(bench, "by hand")
        assert bench.patcher.said(key("chat")) == status()
        await bench.patcher.release_later()
        await bench.idle()
        assert len(bench.patched) == 2
        assert bench.patcher.held(key("chat")) == status()

    in_virtual_time(scenario)


def test_two_writers_who_disagree_do_not_keep_the_server_busy() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        for number in range(100):
            overwrite(bench, f"by hand {number}")
            await bench.patcher.want(key("chat"), status())
            await bench.patcher.release_later()
            await asyncio.sleep(1)
        assert 5 <= len(bench.patched) - 1 <= 100 / COUNTS_EVERY_S + 1
        await asyncio.sleep(COUNTS_EVERY_S)
        await bench.patcher.release_later()
        await bench.idle()
        assert bench.patcher.held(key("chat")) == status()

    in_virtual_time(scenario)


def test_a_replica_that_does_not_lead_leaves_the_words_of_the_leader_alone() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        bench.leads = False
        overwrite(bench, "by the leader")
        await bench.patcher.release_later()
        bench.leads = True
        await bench.patcher.release_later()
        await bench.idle()
        assert len(bench.patched) == 1
        assert bench.patcher.said(key("chat")) == status("by the leader")

    in_virtual_time(scenario)


def test_an_object_whose_end_comes_before_the_answer_to_a_patch_stays_gone() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        replace = bench.cluster.replace_status

        async def replaced(key: ObjectKey, **fields: Any) -> Any:
            answer = await replace(key, **fields)
            gone = bench.cluster.delete(Kind.POLICY, key.name)
            bench.inventory.take(Kind.POLICY, gone, deleted=True)
            return answer

        bench.cluster.replace_status = replaced  # type: ignore[method-assign]
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert bench.outcomes == ["written"]
        assert bench.inventory.get(key("chat")) is None
        assert bench.patcher._said == {}

    in_virtual_time(scenario)


def test_an_event_tells_what_changed_since_the_status_that_another_writer_left() -> None:
    async def scenario() -> None:
        bench = Patching("chat")
        told: list[object] = []
        bench.patcher._told = lambda key, uid, before, after: told.append(before)
        replace = bench.cluster.replace_status

        async def replaced(key: ObjectKey, **fields: Any) -> Any:
            # The leader before wrote the same; its event is here, and not what it was sent for.
            body = await bench.cluster.patch_status(key, uid=fields["uid"], status=fields["status"])
            bench.inventory.take(Kind.POLICY, body)
            return await replace(key, **fields)

        bench.cluster.replace_status = replaced  # type: ignore[method-assign]
        await bench.patcher.want(key("chat"), status())
        await bench.idle()
        assert told == [status()]

    in_virtual_time(scenario)


def test_what_is_known_of_an_object_goes_with_it() -> None:
    async def scenario() -> None:
        bench = Patching("chat", "failing")
        Refusing(bench, ["failing"], ApiRefused(500, "a webhook fails"))
        for name in ("chat", "failing"):
            await bench.patcher.want(key(name), status())
        await bench.idle()
        for name in ("chat", "failing"):
            gone = bench.cluster.delete(Kind.POLICY, Name("ai", name))
            bench.inventory.take(Kind.POLICY, gone, deleted=True)
            bench.patcher.forget(key(name))
            assert bench.patcher.said(key(name)) is None
        for _ in range(60):
            await bench.patcher.release_later()
            await asyncio.sleep(1)
        assert sorted(bench.outcomes) == ["failed", "written"]
        known = bench.patcher._said, bench.patcher._rests, bench.patcher._later
        assert not any(known)

    in_virtual_time(scenario)
