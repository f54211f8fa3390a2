"""Client Secrets in a running operator: published, refused alone, told of, gone at once."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from fakes.manifests import client_secret, external, policy
from fakes.virtual_time import eventually
from fakes.worlds import parser
from switchboard_operator.client_secrets import ClientSecrets, count_clients
from switchboard_operator.credentials import secret_name
from switchboard_operator.events import Transition
from switchboard_operator.inventory import Inventory
from switchboard_operator.kept import ROTATE_ANNOTATION
from switchboard_operator.kube import decode_data
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.summary import ClientCount
from switchboard_policy.codec import decode
from switchboard_policy.compiler.assemble import Compilation
from switchboard_policy.compiler.clients import INVALID, NOT_ADMITTED, Refusal
from switchboard_policy.compiler.world import Name
from switchboard_policy.ir import Client
from unit.operator.bench import SCOPE, Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

KEY = "sk-sb-0123456789"
SUMMARY = Name("system", "switchboard-status-default")
BAD = Name("system", "bad")
REFUSAL = Refusal("uid", INVALID, "data.api-key: is missing")
FOREIGN = Refusal("uid", NOT_ADMITTED, "it is elsewhere")


def new_cluster(*secrets: Mapping[str, Any]) -> Cluster:
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    for each in secrets:
        cluster.put(Kind.SECRET, each)
    cluster.put(Kind.BACKEND, external("a", 1))
    cluster.put(Kind.POLICY, policy("chat", "a"))
    return cluster


async def started(*secrets: Mapping[str, Any]) -> Bench:
    bench = Bench(new_cluster(*secrets), new_store())
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def clients(bench: Bench) -> set[str]:
    return {key for key in bench.in_store() if key.startswith("client/")}


def end(bench: Bench, name: Name) -> None:
    if bench.inventory.take(Kind.SECRET, bench.cluster.delete(Kind.SECRET, name), deleted=True):
        bench.reconciler.mark()


def unlabelled(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = {"switchboard.dev/secret": "true"}
    return {**secret, "metadata": {**secret["metadata"], "labels": labels}}


def test_a_client_is_published_by_its_hash_and_gone_as_soon_as_its_secret_is() -> None:
    async def scenario() -> None:
        bench = await started(client_secret("cart", KEY), client_secret("shop", KEY[::-1]))
        assert clients(bench) == {"client/system/cart", "client/system/shop"}
        assert KEY.encode() not in b"".join(bench.store.channel(SCOPE, "policy").entries.values())
        end(bench, Name("system", "cart"))
        await asyncio.sleep(0.1)
        assert clients(bench) == {"client/system/shop"}
        bench.apply(Kind.SECRET, unlabelled(client_secret("shop", KEY[::-1])))
        await asyncio.sleep(0.1)
        assert clients(bench) == set()
        await bench.stop()

    in_virtual_time(scenario)


def test_a_wrong_secret_is_refused_alone_and_told_of_once() -> None:
    async def scenario() -> None:
        bench = await started(client_secret("cart", KEY), client_secret("bad", "short"))
        assert clients(bench) == {"client/system/cart"}
        assert "policy/ai/chat" in bench.in_store()
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(15)
        ((reason, message),) = [each for each in bench.cluster.events if "Client" in each[0]]
        assert reason == INVALID
        assert "data.api-key" in message
        assert "short" not in message
        summary = bench.cluster.config_maps[SUMMARY]
        assert (summary["clients"], summary["clientsRefused"]) == ("1", "1")
        text = bench.telemetry.render({}).decode()
        assert 'switchboard_operator_clients{scope="gw/default",state="refused"} 1.0' in text
        await bench.stop()

    in_virtual_time(scenario)


def test_a_secret_that_is_mended_is_told_of_and_one_that_is_deleted_is_not() -> None:
    async def scenario() -> None:
        bench = await started(client_secret("one", "short"), client_secret("two", "short"))
        await asyncio.sleep(5)
        bench.cluster.events.clear()
        bench.apply(Kind.SECRET, client_secret("one", KEY))
        end(bench, Name("system", "two"))
        await asyncio.sleep(5)
        assert [reason for reason, _ in bench.cluster.events] == ["ClientAccepted"]
        assert clients(bench) == {"client/system/one"}
        await bench.stop()

    in_virtual_time(scenario)


def test_a_rotation_of_the_scope_key_hashes_every_client_anew() -> None:
    async def scenario() -> None:
        bench = await started(client_secret("cart", KEY))
        plane = DataPlane(bench.store, "pod-1")
        first = bench.keys.keyring().current
        record = bench.cluster.secrets[secret_name("system", "default")]
        record.annotations[ROTATE_ANNOTATION] = "now"
        await eventually(lambda: len(bench.keys.keyring().ids) == 2, within_s=900)
        plane.key_ids = bench.keys.keyring().ids
        await eventually(lambda: bench.keys.keyring().current != first, within_s=900)
        await asyncio.sleep(1)
        parts, keyring = bench.store.channel(SCOPE, "policy"), bench.keys.keyring()
        digest = parts.fields["client/system/cart"].digest
        found = decode(parts.entries[digest], digest=digest)
        assert isinstance(found, Client)
        assert found.key_id == keyring.current
        assert found.digest == keyring.hash_key(keyring.current, KEY.encode())
        await bench.stop()

    in_virtual_time(scenario)


def test_a_client_secret_counts_without_a_backend_that_names_it() -> None:
    inventory, cluster = Inventory(parser(), decode_secret=decode_data), Cluster()
    made = client_secret("cart", KEY)
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, made))
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, made))
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, client_secret("cart", KEY * 2)))
    name = Name("system", "cart")
    assert inventory.world.clients[name].created == "2026-01-01T00:00:00Z"
    assert inventory.world.secrets[name].is_client
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, unlabelled(made)))
    assert not inventory.world.clients
    assert not inventory.world.secrets[name].is_client
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, unlabelled(made)))
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, made))
    gone = cluster.delete(Kind.SECRET, name)
    assert inventory.take(Kind.SECRET, gone, deleted=True)
    assert not inventory.world.clients


class Told:
    """What was told, by the name of the Secret."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.subject = ClientSecrets(self._announce)

    def report(self, *refused: Mapping[Name, Refusal]) -> list[tuple[str, str]]:
        self.events.clear()
        found = [Compilation({}, {}, {}, 0, each) for each in refused]
        self.subject.report(found, {BAD})
        return list(self.events)

    def _announce(self, key: ObjectKey, uid: str, what: Transition) -> None:
        assert key.kind is Kind.SECRET
        self.events.append((str(key.name), what.reason))


def test_a_foreign_secret_is_told_of_where_no_gateway_takes_it() -> None:
    told = Told()
    assert told.report({BAD: FOREIGN}, {}) == []
    assert told.report({BAD: FOREIGN}, {BAD: FOREIGN}) == [(str(BAD), NOT_ADMITTED)]
    assert told.report({BAD: FOREIGN}, {BAD: REFUSAL}) == [(str(BAD), INVALID)]
    assert told.report({BAD: FOREIGN}, {BAD: REFUSAL}) == []


def test_a_new_leader_tells_anew(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with caplog.at_level(logging.WARNING):
        assert told.report({BAD: REFUSAL}) == [(str(BAD), INVALID)]
    assert "Secret system/bad: ClientInvalid" in caplog.text
    told.subject.restart()
    assert told.report({BAD: REFUSAL}) == [(str(BAD), INVALID)]


def test_a_foreign_secret_is_none_of_the_gateways_refused() -> None:
    refused = {BAD: REFUSAL, Name("x", "y"): FOREIGN}
    assert count_clients(Compilation({}, {}, {}, 3, refused)) == ClientCount(3, 1)
