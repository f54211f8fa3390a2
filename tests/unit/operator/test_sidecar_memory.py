"""What sidecars leave behind in the store and in the operator, which live for long: nothing."""

import asyncio

from fakes.virtual_time import eventually
from fakes.worlds import policy, put, rule
from switchboard_operator.publication import COLLECT_EVERY_S, UNREFERENCED_MS
from switchboard_policy.store.writer import LedgerWriter
from unit.operator.sidecar_stage import LINGER_S, SECRET, Replica, Stage, on_a_stage

SCOPE = "ns/app"


def edit(stage: Stage, number: int) -> None:
    chat = policy("chat", "app", models=["chat"], rules=[rule(f"r{number}", ["app/a"])])
    put(stage.world, chat)


def remembered(replica: Replica) -> set[str]:
    """The scopes that a replica's writer knows anything of."""
    writer = replica.writer
    assert isinstance(writer, LedgerWriter)
    return {at.scope for at in (*writer._known, *writer._published, *writer._locks)}


@on_a_stage
async def test_what_edits_leave_in_a_scope_is_collected_in_time(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    held = stage.store.channel(SCOPE, "policy")
    for number in range(5):
        edit(stage, number)
        await asyncio.sleep(10)
    assert len(held.entries) == len(held.fields) + 5
    await asyncio.sleep(UNREFERENCED_MS / 1000 - COLLECT_EVERY_S / 2)
    # A sidecar that is behind still finds them.
    assert len(held.entries) == len(held.fields) + 5
    await asyncio.sleep(2 * COLLECT_EVERY_S)
    assert held.entries.keys() == {field.digest for field in held.fields.values()}
    assert held.retired == {}


@on_a_stage
async def test_a_scope_that_goes_is_forgotten_and_goes_on_should_it_come_again(
    stage: Stage,
) -> None:
    replica = stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    edit(stage, 1)
    await asyncio.sleep(10)
    assert remembered(replica) == {SCOPE}
    before = stage.store.channel(SCOPE, "policy").revision
    stage.label("app", inject=False)
    await asyncio.sleep(2 * LINGER_S)
    assert SECRET not in stage.cluster.secrets
    assert remembered(replica) == set()
    # As the store's users do when they erase it.
    stage.store.flush()
    stage.label("app", inject=True)
    await eventually(lambda: "policy/app/chat" in stage.published())
    # A sidecar that was ahead would refuse anything older.
    assert stage.store.channel(SCOPE, "policy").revision > before


@on_a_stage
async def test_who_does_not_lead_any_more_remembers_no_scope(stage: Stage) -> None:
    replica = stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    replica.leads = False
    await eventually(lambda: not remembered(replica))
    replica.leads = True
    edit(stage, 1)
    await eventually(lambda: remembered(replica) == {SCOPE})
    replica.check()
