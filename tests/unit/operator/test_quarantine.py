"""What is kept of bad edits, whoever settles it and whatever the API server refuses."""

import asyncio

import pytest

from fakes.manifests import policy
from fakes.worlds import parser
from switchboard_operator.errors import ApiAway, Forbidden
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.quarantine import Quarantine
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from unit.operator.kube_fakes import Cluster, Json

NAMESPACES = ("a", "b", "c")


class Kept:
    """Policies that were good and then badly edited, one a namespace."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.inventory = Inventory(parser(), decode_secret=decode_data)
        self.quarantine = Quarantine(self.cluster, self.inventory)
        for namespace in NAMESPACES:
            self.edit(namespace)
            self.edit(namespace, when="request.nope == 1")

    def edit(self, namespace: str, *, name: str = "chat", **fields: str) -> None:
        manifest: Json = dict(policy(name, "a", **fields))
        manifest["metadata"] = {**manifest["metadata"], "namespace": namespace}
        uid = f"uid-{namespace}-{name}"
        self.inventory.take(Kind.POLICY, self.cluster.put(Kind.POLICY, manifest, uid=uid))
        self.quarantine.touch([ObjectKey(Kind.POLICY, Name(namespace, name))])

    async def settle(self) -> set[str]:
        """Settle; return the namespaces that something is kept in."""
        await self.quarantine.settle(lambda: True)
        return {name.namespace for name in self.cluster.kept}


async def test_two_that_settle_at_once_drop_what_is_kept_once() -> None:
    bench = Kept()
    assert await bench.settle() == set(NAMESPACES)
    dropped, drop = list[Name](), bench.cluster.drop_last_good

    async def slow(name: Name) -> None:
        await asyncio.sleep(0)
        dropped.append(name)
        await drop(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.cluster, "drop_last_good", slow)
        for namespace in NAMESPACES:
            bench.edit(namespace)
        await asyncio.gather(bench.settle(), bench.settle())
    assert not bench.cluster.kept
    assert len(dropped) == len(NAMESPACES)


async def test_a_namespace_that_may_not_be_written_keeps_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Kept()
    bench.edit("b", name="more")
    bench.edit("b", name="more", when="request.nope == 1")
    tried, keep = list[str](), bench.cluster.keep_last_good

    async def refuse(of: ObjectKey, *, uid: str, generation: int, spec: object) -> None:
        tried.append(of.name.namespace)
        if of.name.namespace == "b":
            raise Forbidden(403, "cannot create controllerrevisions")
        await keep(of, uid=uid, generation=generation, spec=spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.cluster, "keep_last_good", refuse)
        assert await bench.settle() == {"a", "c"}
        assert tried.count("b") == 1
        assert caplog.text.count("403") == 1
    # It stays due.
    assert await bench.settle() == set(NAMESPACES)


async def test_an_api_server_that_is_away_is_asked_once() -> None:
    bench, tried = Kept(), list[ObjectKey]()

    async def away(of: ObjectKey, **_: object) -> None:
        tried.append(of)
        raise ApiAway("nobody answers")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.cluster, "keep_last_good", away)
        assert await bench.settle() == set()
        assert len(tried) == 1
    assert await bench.settle() == set(NAMESPACES)


async def test_an_edit_amid_the_calls_is_settled_as_well() -> None:
    bench = Kept()
    keep = bench.cluster.keep_last_good

    async def heal(of: ObjectKey, *, uid: str, generation: int, spec: object) -> None:
        await keep(of, uid=uid, generation=generation, spec=spec)
        bench.edit(of.name.namespace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.cluster, "keep_last_good", heal)
        assert await bench.settle() == set(NAMESPACES)
    assert await bench.settle() == set()
