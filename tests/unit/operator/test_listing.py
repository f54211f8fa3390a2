"""The first lists try until they succeed; audits find the deletions that no watch has shown."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from fakes.manifests import policy
from fakes.virtual_time import eventually
from fakes.worlds import parser
from switchboard_operator.errors import Forbidden, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.listing import (
    AUDIT_AFTER_LIST_S,
    AUDIT_EVERY_S,
    FIRST_EVENTS_S,
    LOST_AFTER_S,
    Listing,
)
from switchboard_operator.resources import WATCHED, Kind, Listed, Resource
from switchboard_policy.compiler.world import Name
from unit.operator.bench import in_virtual_time
from unit.operator.kube_fakes import AWAY, Cluster, Json


class AskedCluster(Cluster):
    """A cluster that counts the lists of names."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Counter[Resource]()

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        self.asked[resource] += 1
        return await super().names(resource, namespace)


class Watched:
    """A listing of a cluster with two policies."""

    def __init__(self, *namespaces: str) -> None:
        self.cluster = AskedCluster()
        for name in ("one", "two"):
            self.cluster.put(Kind.POLICY, policy(name, "a"))
        self.cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai", "labels": {"team": "a"}}})
        self.inventory = Inventory(parser(), decode_secret=decode_data)
        self.changes = self.restarts = 0
        self.listing = Listing(
            self.cluster,
            self.inventory,
            namespaces,
            changed=self._count_change,
            stalled=self._count_restart,
        )

    def body(self, name: str) -> Json:
        """A policy as the API server has it."""
        return self.cluster.objects[Kind.POLICY][Name("ai", name)]

    def show_all(self) -> None:
        """Have new watches list what there is."""
        for kind, found in self.cluster.objects.items():
            for body in found.values():
                self.listing.shown(kind, None, body)

    def _count_change(self) -> None:
        self.changes += 1

    def _count_restart(self) -> None:
        self.restarts += 1


def test_nothing_is_complete_before_every_kind_was_listed() -> None:
    async def scenario() -> None:
        listed = Watched()
        listed.cluster.trouble = Forbidden(403, "cannot list secrets")
        loading = asyncio.create_task(listed.listing.load())
        await asyncio.sleep(3)
        assert listed.listing.obstacle == (
            "403: cannot list secrets; give the operator's Role this right, as the chart does"
        )
        listed.cluster.trouble = NotFound(404, "no such kind")
        await asyncio.sleep(12)
        assert "install the CustomResourceDefinitions" in listed.listing.obstacle
        listed.cluster.trouble = None
        await loading
        assert listed.listing.obstacle == ""
        assert len(listed.inventory.world.policies) == 2
        assert listed.inventory.world.namespaces == {"ai": {"team": "a"}}

    in_virtual_time(scenario)


def test_a_deletion_that_no_watch_showed_is_found_after_a_relist() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.delete(Kind.POLICY, Name("ai", "one"))
        for _ in range(20):
            listed.listing.shown(Kind.POLICY, None, listed.body("two"))
        await eventually(lambda: listed.changes == 1, within_s=2)
        assert list(listed.inventory.world.policies) == [Name("ai", "two")]
        running.cancel()

    in_virtual_time(scenario)


def test_a_list_that_is_shown_slowly_is_audited_once_at_its_end() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        for _ in range(20):
            listed.listing.shown(Kind.POLICY, None, listed.body("two"))
            await asyncio.sleep(AUDIT_AFTER_LIST_S / 2)
        assert not listed.cluster.asked
        await asyncio.sleep(2 * AUDIT_AFTER_LIST_S)
        assert listed.cluster.asked == {WATCHED[Kind.POLICY]: 1}
        running.cancel()

    in_virtual_time(scenario)


def test_the_deletion_of_the_last_object_is_found_by_the_regular_audit() -> None:
    async def scenario() -> None:
        listed = Watched("ai")
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        for name in ("one", "two"):
            listed.cluster.delete(Kind.POLICY, Name("ai", name))
        await eventually(lambda: not listed.inventory.world.policies, within_s=AUDIT_EVERY_S + 5)
        running.cancel()

    in_virtual_time(scenario)


def test_a_watch_that_lists_again_and_again_keeps_no_other_kind_from_its_audit() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        for name in ("one", "two"):
            listed.cluster.delete(Kind.POLICY, Name("ai", name))
        for _ in range(3):
            await asyncio.sleep(AUDIT_EVERY_S / 2)
            listed.listing.shown(
                Kind.NAMESPACE, None, listed.cluster.objects[Kind.NAMESPACE][Name("", "ai")]
            )
        assert not listed.inventory.world.policies
        running.cancel()

    in_virtual_time(scenario)


def test_the_labels_of_given_namespaces_are_read_by_the_audit() -> None:
    async def scenario() -> None:
        listed = Watched("ai", "gone")
        await listed.listing.load()
        assert listed.inventory.world.namespaces == {"ai": {"team": "a"}}
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai", "labels": {"team": "b"}}})
        await eventually(lambda: listed.changes == 1, within_s=AUDIT_EVERY_S + 5)
        assert listed.inventory.world.namespaces == {"ai": {"team": "b"}}
        running.cancel()

    in_virtual_time(scenario)


def test_an_audit_that_fails_is_repeated() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.delete(Kind.POLICY, Name("ai", "one"))
        listed.cluster.trouble = Forbidden(403, "for a while")
        await asyncio.sleep(AUDIT_EVERY_S + 5)
        listed.cluster.trouble = None
        await eventually(lambda: listed.changes == 1, within_s=AUDIT_EVERY_S + 5)
        running.cancel()

    in_virtual_time(scenario)


def test_an_edit_that_no_watch_showed_is_read_and_the_watches_begin_anew() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.put(Kind.POLICY, policy("one", "b"))
        await eventually(lambda: listed.changes == 1, within_s=AUDIT_EVERY_S + 10)
        assert listed.inventory.world.policies[Name("ai", "one")].generation == 2
        assert listed.restarts == 0
        await asyncio.sleep(LOST_AFTER_S + 1)
        assert listed.restarts == 1
        running.cancel()

    in_virtual_time(scenario)


def test_an_event_that_is_only_late_restarts_nothing() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        for late_s in (2, 15):
            body = listed.cluster.put(Kind.POLICY, policy("one", f"after-{late_s}"))
            listed.listing.shown(Kind.POLICY, None, listed.body("two"))
            await asyncio.sleep(late_s)
            listed.listing.shown(Kind.POLICY, "MODIFIED", body)
            listed.inventory.take(Kind.POLICY, body)
            await asyncio.sleep(3 * LOST_AFTER_S)
        assert listed.restarts == 0
        # What the second one told was read before it came.
        assert listed.changes == 1
        running.cancel()

    in_virtual_time(scenario)


def test_what_is_deleted_while_it_is_read_again_does_not_come_back() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.put(Kind.POLICY, policy("one", "b"))
        pages = listed.cluster.pages

        async def slow(resource: Resource, namespace: str = "") -> AsyncIterator[list[Json]]:
            async for page in pages(resource, namespace):
                gone = listed.cluster.delete(Kind.POLICY, Name("ai", "two"))
                listed.listing.shown(Kind.POLICY, "DELETED", gone)
                listed.inventory.take(Kind.POLICY, gone, deleted=True)
                yield page

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listed.cluster, "pages", slow)
            await eventually(lambda: listed.changes == 1, within_s=AUDIT_EVERY_S + 10)
        assert list(listed.inventory.world.policies) == [Name("ai", "one")]
        running.cancel()

    in_virtual_time(scenario)


def test_a_kind_whose_first_object_comes_after_its_list_is_not_silent() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.listing.watch_began()
        listed.show_all()
        body = listed.cluster.put(Kind.SERVICE, {"metadata": {"name": "first"}})
        listed.listing.shown(Kind.SERVICE, "ADDED", body)
        listed.inventory.take(Kind.SERVICE, body)
        await asyncio.sleep(2 * FIRST_EVENTS_S)
        assert listed.restarts == 0
        running.cancel()

    in_virtual_time(scenario)


def test_the_deletion_of_the_last_object_while_the_watches_begin_anew_is_found_soon() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.delete(Kind.POLICY, Name("ai", "one"))
        listed.listing.watch_began()
        await asyncio.sleep(2 * AUDIT_AFTER_LIST_S)
        assert list(listed.inventory.world.policies) == [Name("ai", "two")]
        # Before a slow watch has listed.
        listed.cluster.delete(Kind.POLICY, Name("ai", "two"))
        listed.show_all()
        await asyncio.sleep(FIRST_EVENTS_S)
        assert not listed.inventory.world.policies
        assert listed.restarts == 0
        running.cancel()

    in_virtual_time(scenario)


def test_a_new_watch_that_shows_nothing_of_a_kind_begins_anew() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.listing.watch_began()
        body = listed.cluster.objects[Kind.NAMESPACE][Name("", "ai")]
        listed.listing.shown(Kind.NAMESPACE, None, body)
        await asyncio.sleep(20)
        assert listed.restarts == 1
        listed.listing.watch_began()
        listed.show_all()
        await asyncio.sleep(20)
        assert listed.restarts == 1
        running.cancel()

    in_virtual_time(scenario)


def test_watches_that_a_busy_machine_delays_get_ever_more_time_to_list() -> None:
    async def scenario() -> None:
        listed, restarted_at, loop = Watched(), list[float](), asyncio.get_running_loop()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        for _ in range(6):
            began_at, before = loop.time(), listed.restarts
            listed.listing.watch_began()
            await eventually(lambda: listed.restarts > before, within_s=100)  # noqa: B023
            restarted_at.append(loop.time() - began_at)
        assert [round(each) for each in restarted_at] == [10, 20, 40, 80, 80, 80]
        running.cancel()

    in_virtual_time(scenario)


def test_a_watch_is_not_blamed_for_an_api_server_that_is_away() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.cluster.trouble = AWAY
        listed.listing.watch_began()
        await asyncio.sleep(30)
        assert listed.restarts == 0
        listed.cluster.trouble = None
        await asyncio.sleep(20)
        assert listed.restarts == 1
        running.cancel()

    in_virtual_time(scenario)
