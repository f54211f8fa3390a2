"""The inventory takes what is new, ignores what is not, and knows what cannot matter."""

from collections.abc import Mapping
from typing import Any

from fakes.manifests import endpoint_slice, external, policy, secret, served, service
from fakes.worlds import parser
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.resources import Kind, Listed, ObjectKey
from switchboard_policy.compiler.world import Name
from unit.operator.kube_fakes import Cluster

CHAT = ObjectKey(Kind.POLICY, Name("ai", "chat"))


def new_inventory() -> Inventory:
    return Inventory(parser(), decode_secret=decode_data)


def bad_policy(name: str) -> Mapping[str, Any]:
    return policy(name, "a", when="request.nope == 1")


def test_an_object_is_parsed_and_an_edit_replaces_it() -> None:
    inventory, cluster = new_inventory(), Cluster()
    assert inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "a")))
    first = inventory.world.policies[CHAT.name]
    assert first.spec is not None
    assert inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "b")))
    second = inventory.world.policies[CHAT.name]
    assert second is not first
    assert second.generation == 2
    assert inventory.edited() == {CHAT}
    assert inventory.edited() == set()


def test_events_that_come_twice_or_late_change_nothing() -> None:
    inventory, cluster = new_inventory(), Cluster()
    old = cluster.put(Kind.POLICY, policy("chat", "a"))
    new = cluster.put(Kind.POLICY, policy("chat", "b"))
    assert inventory.take(Kind.POLICY, new)
    held = inventory.get(CHAT)
    assert not inventory.take(Kind.POLICY, new)
    assert not inventory.take(Kind.POLICY, old)
    assert inventory.get(CHAT) is held


def test_our_own_status_patch_changes_nothing_but_the_status() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.POLICY, policy("chat", "a"))
    inventory.take(Kind.POLICY, body)
    held = inventory.get(CHAT)
    meta = {**body["metadata"], "resourceVersion": "999"}
    assert not inventory.take(Kind.POLICY, {**body, "metadata": meta, "status": {"pods": "1/1"}})
    assert inventory.get(CHAT) is held
    assert inventory.status(CHAT) == {"pods": "1/1"}


def test_the_answer_to_a_write_does_not_bring_a_deleted_object_back() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.POLICY, policy("chat", "a"))
    inventory.take(Kind.POLICY, body)
    inventory.take(Kind.POLICY, cluster.delete(Kind.POLICY, CHAT.name), deleted=True)
    answer = {**body, "metadata": {**body["metadata"], "resourceVersion": "999"}}
    assert not inventory.update(Kind.POLICY, answer)
    assert inventory.get(CHAT) is None
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "b"), uid="another"))
    assert not inventory.update(Kind.POLICY, answer)
    assert inventory.version(CHAT) != 999


def test_a_status_that_a_watch_shows_first_is_another_writers() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.POLICY, policy("chat", "a"))
    inventory.take(Kind.POLICY, body)

    def now(version: str, pods: str) -> Mapping[str, Any]:
        meta = {**body["metadata"], "resourceVersion": version}
        return {**body, "metadata": meta, "status": {"pods": pods}}

    inventory.update(Kind.POLICY, now("998", "1/1"))
    inventory.take(Kind.POLICY, now("998", "1/1"))
    assert inventory.rewritten() == set()
    inventory.take(Kind.POLICY, now("999", "by hand"))
    assert inventory.rewritten() == {CHAT}
    assert inventory.rewritten() == set()


def test_new_labels_are_an_edit() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.BACKEND, external("a", 1))
    inventory.take(Kind.BACKEND, body)
    meta = {**body["metadata"], "resourceVersion": "999", "labels": {"team": "eu"}}
    assert inventory.take(Kind.BACKEND, {**body, "metadata": meta})
    assert inventory.world.backends[Name("ai", "a")].labels == {"team": "eu"}


def test_a_deletion_counts_only_for_the_object_that_is_there() -> None:
    inventory, cluster = new_inventory(), Cluster()
    first = cluster.put(Kind.POLICY, policy("chat", "a"))
    inventory.take(Kind.POLICY, first)
    gone = cluster.delete(Kind.POLICY, CHAT.name)
    second = cluster.put(Kind.POLICY, policy("chat", "b"), uid="another")
    inventory.take(Kind.POLICY, second)
    assert not inventory.take(Kind.POLICY, gone, deleted=True)
    assert inventory.get(CHAT) is not None
    gone = cluster.delete(Kind.POLICY, CHAT.name)
    assert inventory.take(Kind.POLICY, gone, deleted=True)
    assert inventory.get(CHAT) is None
    assert not inventory.take(Kind.POLICY, gone, deleted=True)


def test_a_bad_edit_keeps_the_last_good_spec_through_further_bad_edits() -> None:
    inventory, cluster = new_inventory(), Cluster()
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "a")))
    good = inventory.world.policies[CHAT.name].spec
    for _ in range(2):
        inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, bad_policy("chat")))
        cluster.objects[Kind.POLICY][CHAT.name]["spec"] = None
        found = inventory.world.policies[CHAT.name]
        assert found.spec is None
        assert found.problems
        assert found.last_good is good
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "b")))
    healed = inventory.world.policies[CHAT.name]
    assert (healed.problems, healed.last_good) == ((), None)


def test_a_recreated_object_has_no_past() -> None:
    inventory, cluster = new_inventory(), Cluster()
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "a")))
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, bad_policy("chat"), uid="another"))
    assert inventory.world.policies[CHAT.name].last_good is None


def test_a_kept_spec_is_the_last_good_one_after_a_restart() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.POLICY, bad_policy("chat"))
    inventory.keep(body["metadata"]["uid"], policy("chat", "a")["spec"])
    inventory.take(Kind.POLICY, body)
    assert inventory.world.policies[CHAT.name].last_good is not None


def test_endpoints_of_a_service_that_no_backend_names_mean_no_compilation() -> None:
    inventory, cluster = new_inventory(), Cluster()
    assert not inventory.take(Kind.SERVICE, cluster.put(Kind.SERVICE, service("vllm", 80)))
    body = cluster.put(Kind.SLICE, endpoint_slice("vllm-1", "vllm", 80, "10.0.0.1"))
    assert not inventory.take(Kind.SLICE, body)
    assert inventory.take(Kind.BACKEND, cluster.put(Kind.BACKEND, served("a", "vllm")))
    body = cluster.put(Kind.SLICE, endpoint_slice("vllm-1", "vllm", 80, "10.0.0.2"))
    assert inventory.take(Kind.SLICE, body)
    body = cluster.put(Kind.SLICE, endpoint_slice("other-1", "other", 80, "10.0.0.2"))
    assert not inventory.take(Kind.SLICE, body)
    slices = inventory.world.slices[Name("ai", "vllm")]
    assert slices["vllm-1"].endpoints[0].addresses == ("10.0.0.2",)
    gone = cluster.delete(Kind.SLICE, Name("ai", "vllm-1"))
    assert inventory.take(Kind.SLICE, gone, deleted=True)
    assert Name("ai", "vllm") not in inventory.world.slices


def test_a_slice_that_moves_to_another_service_leaves_the_first() -> None:
    inventory, cluster = new_inventory(), Cluster()
    inventory.take(Kind.BACKEND, cluster.put(Kind.BACKEND, served("a", "vllm")))
    inventory.take(
        Kind.SLICE, cluster.put(Kind.SLICE, endpoint_slice("one", "vllm", 80, "10.0.0.1"))
    )
    moved = cluster.put(Kind.SLICE, endpoint_slice("one", "other", 80, "10.0.0.1"))
    assert inventory.take(Kind.SLICE, moved)
    assert Name("ai", "vllm") not in inventory.world.slices


def test_a_slice_written_again_without_a_change_means_no_compilation() -> None:
    inventory, cluster = new_inventory(), Cluster()
    inventory.take(Kind.BACKEND, cluster.put(Kind.BACKEND, served("a", "vllm")))
    manifest = endpoint_slice("one", "vllm", 80, "10.0.0.1")
    assert inventory.take(Kind.SLICE, cluster.put(Kind.SLICE, manifest))
    assert not inventory.take(Kind.SLICE, cluster.put(Kind.SLICE, manifest))


def test_absent_endpoint_conditions_are_read_as_kubernetes_says() -> None:
    inventory, cluster = new_inventory(), Cluster()
    manifest = endpoint_slice("one", "vllm", 80)
    manifest["endpoints"] = [
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "zone": "z"},
        {"addresses": ["10.0.0.3"], "conditions": {"serving": True, "terminating": True}},
    ]
    inventory.take(Kind.SLICE, cluster.put(Kind.SLICE, manifest))
    found = inventory.world.slices[Name("ai", "vllm")]["one"].endpoints
    assert [(each.ready, each.serving, each.terminating) for each in found] == [
        (True, True, False),
        (False, False, False),
        (True, True, True),
    ]
    assert found[1].zone == "z"


def test_a_secret_counts_where_a_backend_names_it() -> None:
    inventory, cluster = new_inventory(), Cluster()
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("openai", "sk-1")))
    keyed = external("a", 1, credentials={"apiKey": {"secretName": "openai"}})
    inventory.take(Kind.BACKEND, cluster.put(Kind.BACKEND, keyed))
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("openai", "sk-1")))
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("openai", "sk-2")))
    found = inventory.world.secrets[Name("ai", "openai")]
    assert found.data == {"api-key": b"sk-2"}
    assert "sk-2" not in repr(found)


def test_a_backend_that_names_another_secret_frees_the_first() -> None:
    inventory, cluster = new_inventory(), Cluster()
    for name in ("one", "two"):
        keyed = external("a", 1, credentials={"apiKey": {"secretName": name}})
        inventory.take(Kind.BACKEND, cluster.put(Kind.BACKEND, keyed))
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("one", "sk")))
    assert inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("two", "sk")))
    gone = cluster.delete(Kind.BACKEND, Name("ai", "a"))
    inventory.take(Kind.BACKEND, gone, deleted=True)
    assert not inventory.take(Kind.SECRET, cluster.put(Kind.SECRET, secret("two", "sk-2")))


def test_a_namespace_counts_by_its_labels() -> None:
    inventory, cluster = new_inventory(), Cluster()
    manifest = {"metadata": {"name": "ai", "labels": {"team": "a"}}}
    assert inventory.take(Kind.NAMESPACE, cluster.put(Kind.NAMESPACE, manifest))
    assert not inventory.take(Kind.NAMESPACE, cluster.put(Kind.NAMESPACE, manifest))
    assert inventory.world.namespaces == {"ai": {"team": "a"}}
    gone = cluster.delete(Kind.NAMESPACE, Name("", "ai"))
    assert inventory.take(Kind.NAMESPACE, gone, deleted=True)


def test_an_audit_drops_what_the_list_did_not_show_and_spares_what_came_later() -> None:
    inventory, cluster = new_inventory(), Cluster()
    for name in ("stays", "goes", "recreated"):
        inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy(name, "a")))
    listed_at = cluster.version
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("later", "a")))
    present = [
        Listed(Name("ai", "stays"), "RoutingPolicy-stays-1", 101),
        Listed(Name("ai", "recreated"), "another uid", 103),
    ]
    assert inventory.prune(Kind.POLICY, present, listed_at)
    assert {name.name for name in inventory.world.policies} == {"stays", "later"}
    assert not inventory.prune(Kind.POLICY, present, listed_at)


def test_an_audit_of_one_namespace_spares_the_others() -> None:
    inventory, cluster = new_inventory(), Cluster()
    elsewhere = policy("chat", "a")
    elsewhere["metadata"] = {"name": "chat", "namespace": "ml"}
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, elsewhere))
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "a")))
    assert inventory.prune(Kind.POLICY, [], cluster.version, "ai")
    assert list(inventory.world.policies) == [Name("ml", "chat")]


def test_the_world_is_the_same_while_its_maps_change() -> None:
    inventory, cluster = new_inventory(), Cluster()
    world = inventory.world
    inventory.take(Kind.POLICY, cluster.put(Kind.POLICY, policy("chat", "a")))
    assert inventory.world is world
    assert CHAT.name in world.policies
    assert inventory.counts()[Kind.POLICY] == 1


def test_what_a_list_shows_in_a_newer_form_was_missed() -> None:
    inventory, cluster = new_inventory(), Cluster()
    body = cluster.put(Kind.POLICY, policy("chat", "a"))
    inventory.take(Kind.POLICY, body)
    version = int(body["metadata"]["resourceVersion"])
    same = Listed(CHAT.name, body["metadata"]["uid"], version)
    newer = Listed(CHAT.name, body["metadata"]["uid"], version + 1)
    unknown = Listed(Name("ai", "other"), "uid", version - 1)
    assert inventory.missed(Kind.POLICY, [same, newer, unknown]) == {newer, unknown}
