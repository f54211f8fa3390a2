"""The scopes of sidecars: made by whoever is asked first, kept by the leader, gone in time."""

import asyncio
from pathlib import Path

from fakes.virtual_time import eventually
from fakes.worlds import policy, put, rule
from switchboard_operator.errors import AddressUnfit, Forbidden, UsersRefused
from switchboard_operator.sidecar_login import URL_KEY, Logins
from switchboard_operator.sidecar_scopes import SUMMARY
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import SIDECAR_SECRET
from unit.operator.kube_fakes import Cluster
from unit.operator.sidecar_stage import LINGER_S, SECRET, USER, Stage, Users, on_a_stage


@on_a_stage
async def test_a_labelled_namespace_gets_a_secret_a_user_and_what_is_its_own(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    assert "backend/switchboard/gateway" in stage.published()
    password = stage.url.removeprefix(f"redis://{USER}:").removesuffix("@redis:6379/0")
    assert stage.users.held == {USER: ("ns/app", password)}
    assert "secret" not in stage.url
    assert {name.namespace for name in stage.cluster.secrets} == {"app"}


@on_a_stage
async def test_any_replica_lets_a_pod_in_and_the_leader_finds_the_scope(stage: Stage) -> None:
    leader, standby = stage.replica(), stage.replica(seed=2)
    standby.leads = False
    assert await standby.scopes.admit("other") == ""
    made = dict(stage.cluster.secrets[Name("other", SIDECAR_SECRET)].data)
    await eventually(lambda: "policy/switchboard/gateway" in stage.published("other"))
    assert leader.passes
    assert stage.cluster.secrets[Name("other", SIDECAR_SECRET)].data == made


@on_a_stage
async def test_replicas_that_are_asked_at_once_agree_on_the_password(stage: Stage) -> None:
    replicas = [stage.replica(seed=seed) for seed in (1, 2, 3)]
    assert await asyncio.gather(*(each.scopes.admit("app") for each in replicas)) == ["", "", ""]
    ((_, password),) = stage.users.held.values()
    assert password in stage.url


@on_a_stage
async def test_a_store_that_refuses_users_has_pods_denied_until_it_does_not(stage: Stage) -> None:
    stage.users.trouble = UsersRefused("NOPERM this user has no permissions to run 'acl|setuser'")
    replica = stage.replica()
    told = await replica.scopes.admit("app")
    assert told.startswith("the store refuses a user for the sidecars of namespace app: NOPERM")
    await eventually(lambda: bool(stage.cluster.events))
    assert [reason for reason, _ in stage.cluster.events] == ["StoreUserRefused"]
    stage.users.trouble = None
    assert await replica.scopes.admit("app") == ""
    await eventually(lambda: "policy/app/chat" in stage.published())


@on_a_stage
async def test_a_store_that_is_away_keeps_no_pod_out_and_gets_the_user_later(stage: Stage) -> None:
    stage.users.trouble = ConnectionError("refused")
    replica = stage.replica()
    assert await replica.scopes.admit("app") == ""
    await eventually(lambda: SECRET in stage.cluster.secrets)
    assert stage.users.held == {}
    stage.users.trouble = None
    await eventually(lambda: USER in stage.users.held)


@on_a_stage
async def test_a_user_that_the_store_forgot_is_made_again(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: USER in stage.users.held)
    held = dict(stage.users.held)
    stage.users.held.clear()
    await eventually(lambda: stage.users.held == held)


@on_a_stage
async def test_there_are_no_more_scopes_than_may_be(stage: Stage) -> None:
    replica = stage.replica(scopes_max=1)
    await eventually(lambda: "policy/app/chat" in stage.published())
    assert "raise sidecar.scopesMax" in await replica.scopes.admit("other")
    assert Name("other", SIDECAR_SECRET) not in stage.cluster.secrets
    assert await replica.scopes.admit("app") == ""


@on_a_stage
async def test_the_operators_own_namespace_has_no_sidecars(stage: Stage) -> None:
    replica = stage.replica()
    assert await replica.scopes.admit("system") == "pods of namespace system get no sidecar"


@on_a_stage
async def test_what_is_no_name_of_a_namespace_is_asked_of_nobody(stage: Stage) -> None:
    replica = stage.replica()
    for forged in ("*", "", "app/secrets/x", "../system", "a}:policy", "A", "app\n"):
        assert "get no sidecar" in await replica.scopes.admit(forged)
    assert {name.namespace for name in stage.cluster.secrets} <= {"app"}
    assert stage.users.held.keys() <= {USER}


@on_a_stage
async def test_what_the_api_server_refuses_is_told_to_who_makes_the_pod(stage: Stage) -> None:
    replica = stage.replica()
    stage.cluster.trouble = Forbidden(403, "no right to create secrets")
    assert "no right to create secrets" in await replica.scopes.admit("other")


@on_a_stage
async def test_a_scope_goes_a_while_after_the_label_and_the_last_pod(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: Name("app", SUMMARY) in stage.cluster.config_maps)
    stage.run_pod("app")
    stage.label("app", inject=False)
    await asyncio.sleep(3 * LINGER_S)
    assert SECRET in stage.cluster.secrets
    stage.run_pod("app", there=False)
    await asyncio.sleep(LINGER_S / 2)
    assert SECRET in stage.cluster.secrets
    await asyncio.sleep(LINGER_S)
    assert SECRET not in stage.cluster.secrets
    assert Name("app", SUMMARY) not in stage.cluster.config_maps
    assert (stage.users.held, stage.users.erased) == ({}, ["ns/app"])


@on_a_stage
async def test_a_pod_that_was_let_in_while_its_scope_went_has_it_again(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: USER in stage.users.held)
    stage.label("app", inject=False)
    await eventually(
        lambda: SECRET not in stage.cluster.secrets, within_s=2 * LINGER_S, every_s=0.5
    )
    stage.run_pod("app")
    await eventually(lambda: SECRET in stage.cluster.secrets and USER in stage.users.held)


@on_a_stage
async def test_a_secret_that_is_deleted_is_made_again_for_pods_that_mount_it(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: USER in stage.users.held)
    stage.run_pod("app")
    stage.label("app", inject=False)
    before = stage.cluster.secrets.pop(SECRET)
    await eventually(lambda: SECRET in stage.cluster.secrets)
    assert stage.cluster.secrets[SECRET].data != before.data


@on_a_stage
async def test_a_secret_that_is_made_again_has_its_user_anew(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: USER in stage.users.held)
    await asyncio.sleep(60)
    before = stage.cluster.secrets.pop(SECRET)
    await eventually(lambda: SECRET in stage.cluster.secrets)
    await eventually(lambda: stage.users.held[USER][1] in stage.url)
    assert stage.url.encode() != before.data[URL_KEY]


@on_a_stage
async def test_a_namespace_that_is_deleted_takes_its_scope_along(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: USER in stage.users.held)
    # While it ends nothing can be made there.
    stage.cluster.secrets.pop(SECRET)
    stage.cluster.trouble = Forbidden(403, "it is being terminated")
    await asyncio.sleep(60)
    stage.cluster.trouble = None
    namespaces = stage.world.namespaces
    assert isinstance(namespaces, dict)
    namespaces.pop("app")
    await asyncio.sleep(2 * LINGER_S)
    assert (stage.users.held, stage.users.erased) == ({}, ["ns/app"])
    assert SECRET not in stage.cluster.secrets


@on_a_stage
async def test_another_address_comes_into_the_secret_and_the_password_stays(stage: Stage) -> None:
    first = stage.replica()
    await eventually(lambda: USER in stage.users.held)
    before, held = stage.url, dict(stage.users.held)
    await first.stop()
    stage.replica(seed=2, address="redis://operator:secret@elsewhere:6379/0")
    await eventually(lambda: stage.url == before.replace("@redis:", "@elsewhere:"))
    assert stage.users.held == held


@on_a_stage
async def test_a_shared_url_is_used_as_it_is_and_no_users_are_made(stage: Stage) -> None:
    stage.replica(shared="redis://all:know@redis:6379/0")
    await eventually(lambda: "policy/app/chat" in stage.published())
    assert stage.url == "redis://all:know@redis:6379/0"
    assert stage.users.held == {}


@on_a_stage
async def test_a_demanded_rotation_adds_a_key_beside_the_old_one(stage: Stage) -> None:
    stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    before = stage.cluster.secrets[SECRET].data["scope-key.json"]
    stage.cluster.secrets[SECRET].annotations["switchboard.dev/rotate"] = "now"
    await eventually(lambda: stage.cluster.secrets[SECRET].data["scope-key.json"] != before)
    assert stage.url
    await asyncio.sleep(1_000)
    assert "policy/app/chat" in stage.published()


@on_a_stage
async def test_a_store_that_takes_nothing_of_sidecars_is_no_trouble_of_gateways(
    stage: Stage,
) -> None:
    replica = stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    replica.writer_trouble = ConnectionError("NOPERM")
    put(stage.world, policy("more", "app", models=["more"], rules=[rule("r", ["app/a"])]))
    passes = replica.passes
    await asyncio.sleep(30)
    assert "policy/app/more" not in stage.published()
    assert replica.passes > passes
    replica.writer_trouble = None
    await eventually(lambda: "policy/app/more" in stage.published())


@on_a_stage
async def test_who_does_not_lead_any_more_forgets_what_it_knew(stage: Stage) -> None:
    replica = stage.replica()
    await eventually(lambda: bool(replica.scopes.counts()["scopes"]))
    replica.leads = False
    await eventually(lambda: not replica.scopes.counts()["scopes"])


@on_a_stage
async def test_sidecars_that_run_are_told_of_a_store_that_is_elsewhere(stage: Stage) -> None:
    replica = stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    before = stage.url
    replica.address = "redis://operator:secret@elsewhere:6379/0"
    await eventually(lambda: stage.url != before)
    assert stage.url == before.replace("@redis:", "@elsewhere:")


@on_a_stage
async def test_a_store_that_sidecars_may_not_know_leaves_them_what_they_have(stage: Stage) -> None:
    replica = stage.replica()
    await eventually(lambda: "policy/app/chat" in stage.published())
    before = stage.url
    replica.unfit = AddressUnfit("not for all")
    assert await replica.scopes.admit("other") == "no sidecar for namespace other now: not for all"
    await asyncio.sleep(60)
    assert stage.url == before
    replica.unfit = None
    assert await replica.scopes.admit("other") == ""


def test_an_authority_goes_with_the_url_to_where_sidecars_have_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ca.crt"
    path.write_bytes(b"PEM")
    address = f"rediss://operator:secret@redis:6379/0?ssl_ca_certs={path}"
    logins = Logins(
        Cluster(),
        Users(),
        url=lambda: address,
        own=True,
        random_bytes=lambda count: b"\1" * count,
    )
    made = logins.make("app")
    assert made["redis-ca.crt"] == b"PEM"
    assert made[URL_KEY].decode() == (
        f"rediss://{USER}:{'01' * 24}@redis:6379/0?ssl_ca_certs=/etc/switchboard/scope/redis-ca.crt"
    )
