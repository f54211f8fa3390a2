"""The first lists try until they succeed; audits find the deletions that no watch has shown."""

import asyncio

from fakes.manifests import policy
from fakes.virtual_time import eventually
from fakes.worlds import parser
from switchboard_operator.errors import Forbidden, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.listing import AUDIT_EVERY_S, Listing
from switchboard_operator.resources import Kind
from switchboard_policy.compiler.world import Name
from unit.operator.bench import in_virtual_time
from unit.operator.kube_fakes import AWAY, Cluster


class Watched:
    """A listing of a cluster with two policies."""

    def __init__(self, *namespaces: str) -> None:
        self.cluster = Cluster()
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
            listed.listing.relisted(Kind.POLICY)
        await eventually(lambda: listed.changes == 1, within_s=2)
        assert list(listed.inventory.world.policies) == [Name("ai", "two")]
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
        assert listed.restarts == 1
        assert listed.inventory.world.policies[Name("ai", "one")].generation == 2
        running.cancel()

    in_virtual_time(scenario)


def test_an_event_that_is_only_late_restarts_nothing() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        body = listed.cluster.put(Kind.POLICY, policy("one", "b"))
        listed.listing.relisted(Kind.POLICY)
        await asyncio.sleep(2)
        listed.inventory.take(Kind.POLICY, body)
        await asyncio.sleep(10)
        assert listed.restarts == 0
        running.cancel()

    in_virtual_time(scenario)


def test_a_new_watch_that_shows_nothing_of_a_kind_begins_anew() -> None:
    async def scenario() -> None:
        listed = Watched()
        await listed.listing.load()
        running = asyncio.create_task(listed.listing.run())
        listed.listing.watch_began()
        listed.listing.relisted(Kind.NAMESPACE)
        await asyncio.sleep(20)
        assert listed.restarts == 1
        listed.listing.watch_began()
        for kind in (Kind.NAMESPACE, Kind.POLICY):
            listed.listing.relisted(kind)
        await asyncio.sleep(20)
        assert listed.restarts == 1
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
