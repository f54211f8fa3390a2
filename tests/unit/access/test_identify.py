"""Who is let in by what, without sockets."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from fakes.policies import client, snapshot
from switchboard_dataplane.access.identify import (
    Access,
    Keys,
    check_model,
    said_in,
)
from switchboard_dataplane.access.mesh import Mesh
from switchboard_dataplane.decision.client import ANYBODY, Client
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.errors import (
    AccessUnavailable,
    Forbidden,
    NotReady,
    Refusal,
    RouterError,
    Unauthenticated,
)
from switchboard_policy.names import CLIENT_KEY_CHARACTERS_MAX

KEY = "sk-sb-0123456789abcdef"
TOKEN = "eyJh.eyJz.c2ln"
XFCC = "x-forwarded-client-cert"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
MESH = "URI=spiffe://cluster.local/ns/apps/sa/web"


@dataclass
class Stranger:
    headers: MutableMapping[str, str] = field(default_factory=dict)
    peer: str = "10.0.0.7"


@dataclass
class Reviewer:
    """A TokenReviewer that says the same of all tokens, and keeps them."""

    says: Client | RouterError = field(default_factory=lambda: Client("serviceAccount", "a", "b"))
    asked: list[str] = field(default_factory=list)

    async def identify(self, token: str) -> Client:
        self.asked.append(token)
        if isinstance(self.says, RouterError):
            raise self.says
        return self.says


@dataclass
class Door:
    """An Access in some modes, and whom it turned away."""

    modes: str
    snapshot: Snapshot | None = field(
        default_factory=lambda: snapshot(client("web", KEY, tier="gold"))
    )
    reviewer: Reviewer = field(default_factory=Reviewer)
    turned_away: list[Refusal] = field(default_factory=list)

    async def admit(self, peer: str = "10.0.0.7", **headers: str) -> Client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.access.admit(Stranger(named, peer))

    @property
    def access(self) -> Access:
        modes = self.modes.split(",")
        mesh = Mesh((ip_network("10.0.0.0/8"),), header=XFCC)
        return Access(
            keys=Keys(snapshot=lambda: self.snapshot, today=lambda: NOW)
            if "keys" in modes
            else None,
            tokens=self.reviewer if "tokens" in modes else None,
            mesh=mesh if "mesh" in modes else None,
            turned_away=self.turned_away.append,
        )


async def refusal(door: Door, **headers: str) -> tuple[int, str, str]:
    """Return status, code and why of a caller that is not let in."""
    with pytest.raises((Unauthenticated, Forbidden)) as caught:
        await door.admit(**headers)
    error = caught.value
    assert isinstance(error, Unauthenticated | Forbidden)
    assert door.turned_away == [error.why]
    return error.status, error.code, error.why or ""


# --- everyone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("everyone", [ANYBODY, Client("serviceAccount", "app", "apps")])
async def test_where_nobody_is_asked_all_are_the_same(everyone: Client) -> None:
    stranger = Stranger({"authorization": "Bearer whatever"})
    assert await Access(everyone).admit(stranger) is everyone


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"api_key": KEY},
        {"x_api_key": KEY},
        {"authorization": "Basic YTpi", "x_api_key": KEY},
        {"authorization": "Bearer ", "api_key": KEY},
    ],
)
async def test_a_key_is_found_wherever_clients_put_it(headers: dict[str, str]) -> None:
    found = await Door("keys").admit(**headers)
    assert (found.kind, found.id, found.tier) == ("key", "apps/web", "gold")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": " "},
        {"cookie": KEY},
    ],
)
async def test_who_gives_no_key_is_told_how(headers: dict[str, str]) -> None:
    assert await refusal(Door("keys"), **headers) == (401, "missing_api_key", "missing")


@pytest.mark.parametrize(
    "key",
    [
        f"{KEY}0",
        KEY[:-1],
        KEY.upper(),
        f"{KEY}, Bearer {KEY}",
        "é" * 20,
        "\N{REPLACEMENT CHARACTER}" * 20,
        "k" * (CLIENT_KEY_CHARACTERS_MAX + 1),
        TOKEN,
    ],
)
async def test_a_key_that_is_nobodys_is_not_let_in(key: str) -> None:
    door = Door("keys")
    assert await refusal(door, authorization=f"Bearer {key}") == (401, "invalid_api_key", "unknown")


async def test_what_is_longer_than_any_key_is_not_hashed() -> None:
    longest = "k" * CLIENT_KEY_CHARACTERS_MAX
    assert (await Door("keys", snapshot(client("web", longest))).admit(api_key=longest)).name
    door = Door("keys", snapshot(client("web", longest + "k")))
    assert (await refusal(door, api_key=longest + "k"))[2] == "unknown"


@pytest.mark.parametrize(("expires_ms", "good"), [(NOW_MS + 1, True), (NOW_MS, False), (0, False)])
async def test_a_key_is_good_until_it_expires(expires_ms: int, *, good: bool) -> None:
    door = Door("keys", snapshot(client("web", KEY, expires_ms=expires_ms)))
    if good:
        assert (await door.admit(api_key=KEY)).expires_ms == expires_ms
        return
    assert await refusal(door, api_key=KEY) == (401, "invalid_api_key", "expired")
    # Who does not have the key learns nothing of it.
    with pytest.raises(Unauthenticated, match="none of a client"):
        await door.admit(api_key=f"{KEY}0")


async def test_before_the_first_policy_no_key_is_called_wrong() -> None:
    door = Door("keys", None)
    with pytest.raises(NotReady):
        await door.admit(api_key=KEY)
    assert door.turned_away == []


async def test_no_refusal_repeats_what_was_given() -> None:
    for modes in ("keys", "keys,tokens", "mesh", "tokens"):
        for header in ("authorization", "api_key"):
            with pytest.raises(Unauthenticated) as caught:
                await Door(modes).admit(**{header: "Bearer sk-sb-secretsecret"})
            assert "secret" not in repr(caught.value)


# --- tokens --------------------------------------------------------------------------------------


async def test_what_has_the_form_of_a_token_is_one_where_tokens_are_taken() -> None:
    door = Door("keys,tokens")
    found = await door.admit(authorization=f"Bearer {TOKEN}")
    assert (found.kind, door.reviewer.asked) == ("serviceAccount", [TOKEN])
    assert (await door.admit(authorization=f"Bearer {KEY}")).kind == "key"
    assert door.reviewer.asked == [TOKEN]


@pytest.mark.parametrize("said", ["a.b", "a.b.c.d", "a..c", ".b.c", "a.b.c!", KEY])
async def test_what_has_not_is_a_key(said: str) -> None:
    door = Door("tokens")
    assert (await refusal(door, authorization=f"Bearer {said}"))[2] == "unknown"
    assert door.reviewer.asked == []


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (Unauthenticated("bad", why="bad_token"), "bad_token"),
        (Forbidden("not here", why="not_admitted"), "not_admitted"),
        (AccessUnavailable("later"), "unavailable"),
    ],
)
async def test_what_is_said_of_tokens_holds_and_is_counted(says: RouterError, why: Refusal) -> None:
    door = Door("tokens", reviewer=Reviewer(says))
    with pytest.raises(type(says)):
        await door.admit(authorization=f"Bearer {TOKEN}")
    assert door.turned_away == [why]


# --- mesh ----------------------------------------------------------------------------------------


async def test_a_trusted_peer_vouches_for_a_caller() -> None:
    found = await Door("mesh").admit(x_forwarded_client_cert=MESH)
    assert (found.kind, found.id) == ("mesh", "apps/web")
    assert found.labels == {"trust-domain": "cluster.local"}


@pytest.mark.parametrize("peer", ["192.0.2.1", "::1", "", "10.0.0.7.evil", "/run/socket"])
async def test_nobody_else_does(peer: str) -> None:
    door = Door("mesh")
    assert await refusal(door, peer=peer, x_forwarded_client_cert=MESH) == (
        401,
        "missing_api_key",
        "missing",
    )


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.0.2.1"])
async def test_the_header_of_a_mesh_goes_no_further(peer: str) -> None:
    stranger = Stranger({XFCC: MESH, "authorization": f"Bearer {KEY}", "x-one": "1"}, peer)
    await Door("keys,mesh").access.admit(stranger)
    assert stranger.headers.keys() == {"authorization", "x-one"}


async def test_a_callers_own_word_comes_before_the_meshs() -> None:
    door = Door("keys,mesh")
    assert (await door.admit(x_forwarded_client_cert=MESH, api_key=KEY)).kind == "key"
    assert (await door.admit(x_forwarded_client_cert=MESH)).kind == "mesh"
    # An empty one is none: many clients cannot leave it out.
    bearer = {"authorization": "Bearer "}
    assert (await door.admit(x_forwarded_client_cert=MESH, **bearer)).kind == "mesh"
    wrong = await refusal(door, x_forwarded_client_cert=MESH, api_key=f"{KEY}0")
    assert wrong[2] == "unknown"


async def test_where_only_a_mesh_vouches_keys_say_nothing() -> None:
    found = await Door("mesh").admit(x_forwarded_client_cert=MESH, api_key="anything")
    assert found.kind == "mesh"
    assert (await refusal(Door("mesh"), api_key=KEY))[2] == "missing"


async def test_a_word_of_the_mesh_that_names_nobody_lets_nobody_in() -> None:
    said = {"x_forwarded_client_cert": "Hash=1234"}
    assert await refusal(Door("mesh"), **said) == (401, "invalid_api_key", "bad_identity")


# --- models --------------------------------------------------------------------------------------


def test_a_model_is_for_those_who_may_use_it() -> None:
    one = Client("key", "web", "apps", models=("chat", "gpt-4o*"))
    for model in ("chat", "gpt-4o", "gpt-4o-mini"):
        check_model(one, model)
    for model in ("chat2", "gpt-4", "Chat", "", "*"):
        with pytest.raises(Forbidden, match="client apps/web may not use") as caught:
            check_model(one, model)
        assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")
        assert caught.value.why is None
    check_model(Client("key", "all", "apps"), "anything")


def test_the_first_of_several_keys_is_the_one() -> None:
    assert said_in({"authorization": "Bearer a", "api-key": "b", "x-api-key": "c"}) == "a"
    assert said_in({"api-key": "b", "x-api-key": "c"}) == "b"
