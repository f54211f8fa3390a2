"""A rotation through all parts of the operator: what is signed, sealed, published, and when."""

import asyncio

from fakes.manifests import external, policy, secret
from fakes.virtual_time import eventually
from switchboard_operator.credentials import secret_name
from switchboard_operator.kept import ROTATE_ANNOTATION
from switchboard_operator.resources import Kind
from switchboard_policy.codec import decode
from switchboard_policy.ir import Credential
from switchboard_policy.seal import key_id_of
from switchboard_policy.store import CHANNELS
from unit.operator.bench import SCOPE, Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

NAME = secret_name("system", "default")
ROTATED_S = 900
CREDENTIAL = "credential/ai/a"


def keyed_cluster() -> Cluster:
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    cluster.put(Kind.SECRET, secret("keys", "sk-1"))
    cluster.put(Kind.BACKEND, external("a", 1, credentials={"apiKey": {"secretName": "keys"}}))
    cluster.put(Kind.POLICY, policy("chat", "a"))
    return cluster


async def started(bench: Bench) -> Bench:
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def signers(bench: Bench) -> set[str]:
    """The keys that signed anything that the store holds."""
    macs: set[str] = set()
    for channel in CHANNELS:
        parts = bench.store.channel(SCOPE, channel)
        assert parts.head is not None
        macs |= {parts.head.mac, *(field.mac for field in parts.fields.values())}
    return {key_id_of(mac) for mac in macs}


def sealer(bench: Bench) -> str:
    """The key that sealed the credential that is in force."""
    parts = bench.store.channel(SCOPE, "policy")
    digest = parts.fields[CREDENTIAL].digest
    found = decode(parts.entries[digest], digest=digest)
    assert isinstance(found, Credential)
    return found.key_id


def holds(bench: Bench, *planes: DataPlane) -> None:
    """Have data planes hold what the Secret holds, as if it were mounted there."""
    for plane in planes:
        plane.key_ids = bench.keys.keyring().ids


async def ids(bench: Bench, count: int) -> tuple[str, ...]:
    await eventually(lambda: len(bench.keys.keyring().ids) == count, within_s=ROTATED_S)
    return bench.keys.keyring().ids


def test_a_rotation_signs_and_seals_all_anew_once_every_data_plane_can_read_it() -> None:
    async def scenario() -> None:
        bench = await started(Bench(keyed_cluster(), new_store()))
        planes = [DataPlane(bench.store, "pod-1"), DataPlane(bench.store, "pod-2")]
        (first,) = bench.keys.keyring().ids
        holds(bench, *planes)
        bench.cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "now"
        _, second = await ids(bench, 2)
        assert (signers(bench), sealer(bench)) == ({first}, first)
        holds(bench, planes[0])
        await eventually(lambda: bench.keys.waiting_for == ("pod-2",), within_s=60)
        assert (signers(bench), sealer(bench)) == ({first}, first)
        holds(bench, planes[1])
        await eventually(lambda: signers(bench) == {second}, within_s=60)
        assert sealer(bench) == second
        assert await ids(bench, 1) == (second,)
        text = bench.telemetry.render({}).decode()
        assert 'switchboard_operator_scope_keys{scope="gw/default"} 1.0' in text
        assert 'switchboard_operator_scope_key_overruled_total{scope="gw/default"} 0.0' in text
        await bench.stop()

    in_virtual_time(scenario)


def test_a_rotation_moves_credentials_and_no_status_of_what_needs_none() -> None:
    async def scenario() -> None:
        cluster = keyed_cluster()
        cluster.put(Kind.BACKEND, external("open", 1))
        cluster.put(Kind.POLICY, policy("plain", "open"))
        bench = await started(Bench(cluster, new_store()))
        plane = DataPlane(bench.store, "pod-1")
        holds(bench, plane)
        await eventually(
            lambda: bench.condition(Kind.POLICY, "plain", "Programmed").get("status") == "True"
        )
        before = dict(bench.store.channel(SCOPE, "policy").fields)
        patches = bench.patches_of("plain")
        bench.cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "now"
        await ids(bench, 2)
        holds(bench, plane)
        await ids(bench, 1)
        after = bench.store.channel(SCOPE, "policy").fields
        assert {key for key in after if after[key].revision != before[key].revision} == {CREDENTIAL}
        assert bench.patches_of("plain") == patches
        await bench.stop()

    in_virtual_time(scenario)


def test_a_new_leader_signs_with_the_keys_of_the_secret_and_not_with_those_of_its_start() -> None:
    async def scenario() -> None:
        store, cluster = new_store(), keyed_cluster()
        leader = await started(Bench(cluster, store))
        standby = Bench(cluster, store, name="standby")
        await standby.start()
        cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "now"
        await ids(leader, 2)
        second = (await ids(leader, 1))[0]
        assert standby.keys.keyring().ids != (second,)
        await leader.stop()
        await eventually(standby.reconciler.published.is_set, within_s=60)
        assert standby.keys.keyring().ids == (second,)
        assert (signers(standby), sealer(standby)) == ({second}, second)
        await standby.stop()

    in_virtual_time(scenario)


def test_a_leader_that_cannot_read_the_keys_publishes_nothing_until_it_can() -> None:
    async def scenario() -> None:
        store, cluster = new_store(), keyed_cluster()
        leader = await started(Bench(cluster, store))
        standby = Bench(cluster, store, name="standby")
        await standby.start()
        good, cluster.secrets[NAME].data = cluster.secrets[NAME].data, {}
        await leader.stop()
        await eventually(lambda: standby.leadership.epoch, within_s=60)
        await asyncio.sleep(30)
        assert not standby.reconciler.published.is_set()
        cluster.secrets[NAME].data = good
        await eventually(standby.reconciler.published.is_set, within_s=60)
        await standby.stop()

    in_virtual_time(scenario)


def test_an_edit_that_meets_a_flush_mends_both_channels_before_the_next_upkeep() -> None:
    async def scenario() -> None:
        bench = await started(Bench(keyed_cluster(), new_store()))
        bench.store.flush()
        bench.apply(Kind.POLICY, policy("new", "a"))
        await eventually(lambda: "policy/ai/new" in bench.in_store(), within_s=1)
        await eventually(
            lambda: bench.store.channel(SCOPE, "endpoints").head is not None, within_s=1
        )
        parts = bench.store.channel(SCOPE, "policy")
        assert {field.digest for field in parts.fields.values()} <= parts.entries.keys()
        await bench.stop()

    in_virtual_time(scenario)
