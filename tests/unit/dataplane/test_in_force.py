"""What is in force: built in slices, swapped at once, with no more work than an update brings."""

import asyncio
import gc
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from fakes.policies import KEY, SCOPE, backend, endpoints, keyed, keyring, policy, rule, service
from fakes.policies import tier as one_tier
from switchboard_dataplane.claims import ClaimIndex
from switchboard_dataplane.in_force import FREEZE_OBJECTS_MIN, SLICE_S, InForce
from switchboard_dataplane.process import collected_later
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.state import Update
from switchboard_policy import ir
from switchboard_policy.names import origin
from switchboard_policy.seal import read_keyring, write_key_file
from switchboard_policy.store import Channel, Revision

MANY = 40


class Work:
    """Time that passes with work alone: each look at the clock takes a fifth of a slice."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def clock(self) -> float:
        self.now_s += SLICE_S / 5
        return self.now_s


def in_force(clock: Callable[[], float]) -> InForce:
    return InForce(SnapshotBuilder(keyring()), keyring=keyring, live_pods=lambda: 1, clock=clock)


def named(number: int) -> ir.Policy:
    return policy(f"p{number}", rule("r", one_tier("t", "a")), models=(f"m{number}",))


def update(sequence: int, *entries: ir.Entry, full: bool = False) -> Update:
    revisions: dict[Channel, Revision] = {
        "policy": Revision(1, sequence),
        "endpoints": Revision(1, sequence),
    }
    return Update(keyed(entries), frozenset(), revisions, full=full)


def other_than(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [name for name in now if now[name] is not before.get(name)]


async def turns_during(work: asyncio.Task[Any]) -> int:
    """Count how often somebody else had the event loop."""
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_a_large_update_gives_way_to_requests_slice_by_slice() -> None:
    running = in_force(Work().clock)
    ring = keyring()
    running.keyring = lambda: ring
    entries: list[ir.Entry] = [backend("a"), *map(named, range(MANY))]
    applying = asyncio.create_task(running.apply(update(1, *entries, full=True)))
    assert await turns_during(applying) > MANY / 5
    assert running.snapshot is not None
    assert len(running.snapshot.policies) == MANY


async def test_nobody_sees_a_half_built_update() -> None:
    running = in_force(Work().clock)
    await running.apply(update(1, backend("a"), named(0)))
    before = running.snapshot
    applying = asyncio.create_task(running.apply(update(2, *map(named, range(MANY)))))
    refreshing = asyncio.create_task(running.refresh())
    seen = set[tuple[str, int]]()
    while not applying.done():
        await asyncio.sleep(0)
        assert running.snapshot is not None
        seen.add((str(running.revision), len(running.snapshot.policies)))
    await refreshing
    assert before is not running.snapshot
    assert seen == {("1-1", 1), ("1-2", MANY)}


async def test_other_keys_are_taken_in_slice_by_slice() -> None:
    specs = [backend(f"b{n}", credential=f"credential/ai/b{n}") for n in range(MANY)]
    old, new = keyring(), read_keyring(SCOPE, write_key_file("k2", {"k1": KEY, "k2": KEY}))
    sealed = [
        ir.Credential(
            backend=spec.name,
            key_id=old.current,
            sealed=old.seal(b"sk", spec.uid, origin(spec.url)),
        )
        for spec in specs
    ]
    running = in_force(Work().clock)
    running.keyring = lambda: old
    await running.apply(update(1, *specs, *sealed))
    running.keyring = lambda: new
    assert await turns_during(asyncio.create_task(running.refresh())) > MANY / 5
    assert running.snapshot is not None
    assert all(one.api_key == "sk" for one in running.snapshot.backends.values())


async def test_what_endpoints_are_gone_is_looked_up_slice_by_slice() -> None:
    running = in_force(Work().clock)
    ring = keyring()
    running.keyring = lambda: ring
    services = [service(f"s{number}") for number in range(MANY)]
    addresses = [endpoints(f"s{number}", "10.0.0.1:1") for number in range(MANY)]
    await running.apply(update(1, *services, *addresses, full=True))
    assert await turns_during(asyncio.create_task(running.refresh())) > MANY / 5


async def test_small_steps_do_not_add_up_to_a_long_one() -> None:
    """The slice is of all that an update does: three parts of half a slice are not one of 1.5."""
    running = in_force(Work().clock)
    ring = keyring()
    running.keyring = lambda: ring
    services = [service(f"s{number}") for number in range(2)]
    addresses = [endpoints(f"s{number}", "10.0.0.1:1") for number in range(2)]
    everything: list[ir.Entry] = [*services, *addresses, named(0)]
    applying = asyncio.create_task(running.apply(update(1, *everything, full=True)))
    assert await turns_during(applying) > 1


async def test_an_edit_and_a_change_of_endpoints_rebuild_one_object_each() -> None:
    running = in_force(Work().clock)
    services = [service(f"s{number}") for number in range(MANY)]
    addresses = [endpoints(f"s{number}", "10.0.0.1:1") for number in range(MANY)]
    everything: list[ir.Entry] = [*services, *addresses, *map(named, range(MANY))]
    await running.apply(update(1, *everything, full=True))
    first = running.snapshot
    assert first is not None

    await running.apply(update(2, endpoints("s7", "10.0.0.2:1")))
    second = running.snapshot
    assert second is not None
    assert other_than(first.backends, second.backends) == ["ai/s7"]
    assert not other_than(first.policies, second.policies)
    assert second.exact is first.exact

    await running.apply(update(3, named(3)))
    third = running.snapshot
    assert third is not None
    assert other_than(second.policies, third.policies) == ["ai/p3"]
    assert not other_than(second.backends, third.backends)
    assert third.exact is first.exact


async def test_an_update_of_many_objects_is_kept_out_of_later_collections() -> None:
    running = in_force(lambda: 0.0)
    frozen = gc.get_freeze_count()
    try:
        await running.apply(update(1, backend("a"), named(0), full=True))
        assert gc.get_freeze_count() == frozen
        await running.apply(update(2, *map(named, range(FREEZE_OBJECTS_MIN))))
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_nothing_is_collected_while_much_is_made() -> None:
    assert gc.isenabled()
    with collected_later():
        assert not gc.isenabled()
        with collected_later():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def _strongest(policies: dict[str, ir.Policy]) -> dict[str, str]:
    """Return who has each exact name, as the API's rules say it."""
    holders: dict[str, ir.Policy] = {}
    for one in sorted(
        policies.values(), key=lambda each: (each.namespace_rank, -each.priority, each.name)
    ):
        for model in one.models:
            if not model.endswith("*"):
                holders.setdefault(model, one)
    return {model: one.name for model, one in holders.items()}


def test_claims_kept_edit_by_edit_are_those_of_all_policies_at_once() -> None:
    rng = Random(7)
    index, policies = ClaimIndex(), dict[str, ir.Policy]()
    names = ["x", "y", "z", "x*", "xy*", "*"]
    for _ in range(600):
        name = f"ai/p{rng.randrange(8)}"
        if rng.random() < 0.3:
            index.drop(name)
            policies.pop(name, None)
        else:
            made = policy(
                name.removeprefix("ai/"),
                rule("r", one_tier("t", "a")),
                models=tuple(rng.choices(names, k=rng.randint(1, 4))),
                priority=rng.randrange(2),
                namespace_rank=rng.randrange(2),
            )
            index.put(made)
            policies[name] = made
        index.settle()
        assert {model: one.policy for model, one in index.exact.items()} == _strongest(policies)
        claimed = {
            (model, one.name)
            for one in policies.values()
            for model in one.models
            if model.endswith("*")
        }
        assert {(f"{one.prefix}*", one.policy) for one in index.wildcards} == claimed
        orders = [one.order for one in index.wildcards]
        assert orders == sorted(orders)


def test_an_edit_that_claims_the_same_names_moves_no_claim() -> None:
    index = ClaimIndex()
    index.put(named(1))
    index.settle()
    before = index.exact
    index.put(named(1))
    index.settle()
    assert index.exact is before


def test_what_a_change_of_endpoints_replaces_is_freed_without_the_garbage_collector() -> None:
    builder = SnapshotBuilder(keyring())
    builder.apply(keyed([service("a"), named(0)]), (), revision="1-1")
    gc.collect()
    gc.disable()
    try:
        for change in range(MANY):
            entry = endpoints("a", f"10.0.0.{change}:1", f"10.0.1.{change}:1")
            builder.apply(keyed([entry]), (), revision=f"1-{change + 2}")
        assert gc.collect() < MANY
    finally:
        gc.enable()
