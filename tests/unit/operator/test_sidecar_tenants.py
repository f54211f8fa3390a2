"""What people of a namespace may do to what is theirs, and what others must not notice of it."""

import asyncio
import json

import pytest

from fakes.virtual_time import eventually
from fakes.worlds import policy, put, rule
from switchboard_operator.sidecar_login import URL_KEY
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import SIDECAR_LABEL, SIDECAR_SECRET
from unit.operator.kube_fakes import HeldSecret
from unit.operator.sidecar_stage import SECRET, USER, Stage, on_a_stage

ODD_URLS = (
    b"redis://[",
    b"redis://u:p@[::1/",
    "redis://u:p@ho\u2100st/".encode(),
    b"\xff\xfe",
    b"redis://u:%00%0a@x",
    b"",
)


def rotation(at: str) -> bytes:
    return json.dumps({"created": {"k": at}, "in_use_since": at}).encode()


ODD_ROTATIONS = (
    rotation("2026-01-01T00:00:00"),
    rotation("9999-12-31T23:59:59.999999Z"),
    rotation("0001-01-01T00:00:00Z"),
    b"[]",
    b"{",
)


@pytest.mark.parametrize("odd", ODD_URLS, ids=repr)
def test_whatever_a_secret_says_of_the_store_is_put_right(odd: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        stage.replica()
        await eventually(lambda: USER in stage.users.held)
        stage.cluster.secrets[SECRET].data[URL_KEY] = odd
        stage.users.held.clear()
        await eventually(lambda: USER in stage.users.held)
        assert await stage.replica(seed=2).scopes.admit("app") == ""
        assert stage.url.startswith(f"redis://{USER}:")
        assert stage.url.endswith("@redis:6379/0")

    on_a_stage(scenario)()


@pytest.mark.parametrize("odd", ODD_ROTATIONS, ids=repr)
def test_whatever_a_secret_says_of_its_rotation_stops_nobody_else(odd: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        replica = stage.replica()
        stage.label("other", inject=True)
        await eventually(lambda: "policy/app/chat" in stage.published())
        held = stage.cluster.secrets[SECRET]
        held.data["scope-key.json"] = held.data["scope-key.json"].replace(
            json.loads(held.data["scope-key.json"])["current"].encode(), b"k"
        )
        held.data["rotation.json"] = odd
        held.annotations["switchboard.dev/rotate"] = "now"
        await asyncio.sleep(60)
        replica.check()
        other = Name("other", SIDECAR_SECRET)
        before = stage.cluster.secrets[other].data["scope-key.json"]
        stage.cluster.secrets[other].annotations["switchboard.dev/rotate"] = "now"
        await eventually(lambda: stage.cluster.secrets[other].data["scope-key.json"] != before)

    on_a_stage(scenario)()


@on_a_stage
async def test_what_one_scope_answers_amiss_keeps_no_other_waiting(stage: Stage) -> None:
    replica = stage.replica()
    stage.label("other", inject=True)
    await eventually(lambda: "policy/switchboard/gateway" in stage.published("other"))
    await eventually(lambda: "policy/app/chat" in stage.published())
    replica.refused_scope = "ns/app"
    stage.world.namespaces["late"] = dict(stage.world.namespaces["app"])  # type: ignore[index]
    put(stage.world, policy("own", "other", models=["own"], rules=[rule("r", ["other/b"])]))
    await eventually(lambda: "policy/switchboard/gateway" in stage.published("late"))
    other = Name("other", SIDECAR_SECRET)
    before = stage.cluster.secrets[other].data["scope-key.json"]
    stage.cluster.secrets[other].annotations["switchboard.dev/rotate"] = "now"
    await eventually(lambda: stage.cluster.secrets[other].data["scope-key.json"] != before)


@on_a_stage
async def test_a_secret_that_lost_its_label_has_it_again_and_its_scope_stays_one(
    stage: Stage,
) -> None:
    replica = stage.replica()
    await eventually(lambda: USER in stage.users.held)
    stage.cluster.secrets[SECRET].labels.clear()
    await eventually(lambda: SIDECAR_LABEL in stage.cluster.secrets[SECRET].labels)
    await asyncio.sleep(10)
    passes = replica.passes
    await asyncio.sleep(60)
    assert replica.passes == passes


@on_a_stage
async def test_secrets_that_people_make_bring_no_more_scopes_than_may_be(stage: Stage) -> None:
    replica = stage.replica(scopes_max=2)
    await eventually(lambda: "policy/app/chat" in stage.published())
    for number in range(4):
        name = Name(f"made-{number}", SIDECAR_SECRET)
        stage.cluster.secrets[name] = HeldSecret({}, labels={SIDECAR_LABEL: "true"})
        stage.cluster.secrets[name].data |= stage.cluster.secrets[SECRET].data
    await asyncio.sleep(30)
    assert replica.scopes.counts()["scopes"] == 2
    assert len(stage.users.held) == 2


@on_a_stage
async def test_a_store_that_does_not_answer_holds_up_one_pod_and_not_each(stage: Stage) -> None:
    replica = stage.replica(scopes_max=20)
    replica.leads = False
    stage.users.trouble, stage.users.takes_s = ConnectionError("timed out"), 2.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    told = await asyncio.gather(*(replica.scopes.admit(f"team-{n}") for n in range(10)))
    assert told == [""] * 10
    assert loop.time() - began < 4
