"""Whoever reads or writes Redis, without the scope's key: on a real server.

More of the same: tests/fakes/store_contract/distrusting.py (forged, replayed and dropped lines,
fields and heads, on every form of the store), tests/integration/test_availability_users.py (what
each user of Redis may not do), tests/property/test_seal_properties.py.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import redis

from cluster.chart import require_helm
from cluster.redis_server import RedisServer
from conftest import require_redis
from fakes.defences import off, passes, without
from fakes.followers import FakePlane
from fakes.stores import OURS, SCOPE, STRANGER, RedisRig, backend, contents, entry, key, keyring
from fakes.virtual_time import eventually
from switchboard_dataplane.sources import follow, sharing
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_policy import codec, ir
from switchboard_policy.codec import encode
from switchboard_policy.errors import BadSeal
from switchboard_policy.names import credential_key, origin
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Line, Revision, Word

CANARY = "sk-canary-4242424242"
EVIL = 9
FORGED_MAC = f"{OURS.current}:{'00' * 32}"

signatures = off(Keyring, "verify", passes())


@pytest.fixture
async def rig(redis_server: RedisServer) -> AsyncIterator[RedisRig]:
    rig = RedisRig(redis_server.url)
    yield rig
    await rig.close()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_S", 0.2)


def credential(secret: str, ring: Keyring = OURS) -> ir.Credential:
    spec = entry(1)
    assert isinstance(spec, ir.Backend)
    sealed = ring.seal(secret.encode(), spec.uid, origin(spec.url))
    return ir.Credential(backend="ai/b1", key_id=ring.current, sealed=sealed)


async def everything(rig: RedisRig) -> bytes:
    """All that a reader of Redis finds, in whatever form."""
    found = [name + (await rig.client.dump(name) or b"") for name in await rig.client.keys("*")]
    return b"".join(found)


# --- who reads -----------------------------------------------------------------------------------


@without(off(Keyring, "seal", lambda _, plaintext, *context: plaintext))
async def test_a_reader_of_redis_finds_no_credential(rig: RedisRig, defended: bool) -> None:
    told = contents(1) | {credential_key("ai", "b1"): encode(credential(CANARY))}
    await rig.writer().replace(SCOPE, "policy", epoch=1, contents=told)
    seen = await everything(rig)
    forms = (CANARY.encode(), base64.b64encode(CANARY.encode()).rstrip(b"=")[:-2])
    assert any(form in seen for form in forms) is not defended


async def test_a_sealed_credential_opens_nowhere_else() -> None:
    """Another scope, another key, another backend, another origin: all are bound to the seal."""
    sealed = OURS.seal(CANARY.encode(), "uid-1", "https://b1.example")
    others: list[tuple[Keyring, tuple[str, str]]] = [
        (keyring(1, scope="gw/other"), ("uid-1", "https://b1.example")),
        (keyring(1, scope="ns/test"), ("uid-1", "https://b1.example")),
        (STRANGER, ("uid-1", "https://b1.example")),
        (OURS, ("uid-2", "https://b1.example")),
        (OURS, ("uid-1", "https://evil.example")),
    ]
    for ring, context in others:
        with pytest.raises(BadSeal):
            ring.unseal(ring.current, sealed, *context)
    assert OURS.unseal(OURS.current, sealed, "uid-1", "https://b1.example") == CANARY.encode()


# --- who writes ----------------------------------------------------------------------------------


async def noticed(plane: FakePlane, name: str, *, within_s: float) -> bool:
    """Say whether an object comes into force: a genuine one does in milliseconds."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if name in plane.in_force:
            return True
        await asyncio.sleep(0.01)
    return False


@without(signatures)
async def test_a_forged_line_brings_nothing_into_force(rig: RedisRig, defended: bool) -> None:
    at = await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1))
    evil = backend(EVIL)
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        await rig.set_entry("policy", evil.digest, evil.body)
        line = Line(Revision(1, at.sequence + 1), at, key(EVIL), evil.digest, FORGED_MAC)
        await rig.add_line("policy", line)
        assert await noticed(plane, key(EVIL), within_s=1 if defended else 20) is not defended
        assert plane.in_force[key(1)] == entry(1)


@without(signatures)
async def test_an_old_line_that_is_played_again_changes_nothing(
    rig: RedisRig, defended: bool
) -> None:
    writer = rig.writer()
    await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
    await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
    old = (await rig.log("policy"))[-1]
    at = await writer.publish(SCOPE, "policy", epoch=1, changes={key(2): None})
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        moved = msgspec.structs.replace(old, revision=Revision(1, at.sequence + 1), previous=at)
        await rig.add_line("policy", moved)
        assert await noticed(plane, key(2), within_s=1 if defended else 20) is not defended


@without(off(codec, "fingerprint", passes(backend(1).digest)))
async def test_other_bytes_in_an_entrys_place_are_refused(rig: RedisRig, defended: bool) -> None:
    await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1))
    await rig.writer().replace(SCOPE, "endpoints", epoch=1, contents={})
    genuine = (await rig.entries("policy")).pop()
    await rig.set_entry("policy", genuine, backend(1, version=666).body)
    async with FakePlane(rig.reader(), OURS) as plane:
        await eventually(lambda: bool(plane.follower.state().refused or plane.in_force))
        assert (plane.in_force.get(key(1)) == entry(1, 666)) is not defended


@without(signatures)
async def test_a_deleted_field_takes_nothing_out_of_force(rig: RedisRig, defended: bool) -> None:
    at = await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        await rig.set_field("policy", key(2), None)
        # A line after a gap has the manifest read again; that one need not be genuine.
        further = Revision(1, at.sequence + 5)
        await rig.add_line("policy", Line(further, Revision(0, 0), "", "", FORGED_MAC))
        await eventually(
            lambda: (
                key(2) not in plane.in_force or "channel/policy" in plane.follower.state().refused
            )
        )
        assert (key(2) in plane.in_force) is defended


@without(off(sharing, "check_word", passes()))
async def test_a_forged_word_between_pods_is_not_heard(rig: RedisRig, defended: bool) -> None:
    heard: list[bytes] = []
    source = rig.reader()
    listening = sharing.Sharing(
        source,
        pod="pod-1",
        keyring=lambda: OURS,
        clock=asyncio.get_running_loop().time,
        random=Random(1),
    )
    listening.hear("load", lambda pod, body, at: heard.append(body))
    running = asyncio.create_task(listening.run())
    listening.tell("load", b"genuine")
    await eventually(lambda: b"genuine" in heard)
    now_ms = (await source.shared("", timeout_ms=1)).at_ms
    await source.share(Word("load", "pod-2", now_ms, b"forged", FORGED_MAC))
    listening.tell("load", b"last")
    await eventually(lambda: b"last" in heard)
    running.cancel()
    assert (b"forged" in heard) is not defended


# --- the disk ------------------------------------------------------------------------------------


@without(signatures)
async def test_a_snapshot_on_disk_that_somebody_wrote_in_is_not_read(
    rig: RedisRig, tmp_path: Path, defended: bool
) -> None:
    disk = DiskSnapshot(tmp_path)
    at = await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1))
    async with FakePlane(rig.reader(), OURS, disk=disk) as plane:
        await plane.at(at)
        await eventually(disk.path("policy").exists)
    written = disk.path("policy").read_bytes()
    assert disk.load("policy", keyring=OURS) is not None
    disk.path("policy").write_bytes(written.replace(b"b1.example", b"b6.example"))
    assert disk.path("policy").read_bytes() != written
    assert (disk.load("policy", keyring=OURS) is None) is defended


# --- the users of the chart's own Redis ----------------------------------------------------------

#: What the user of the gateway must not do; ``{other}`` is a key of another scope.
NOT_FOR_A_GATEWAY = (
    "HSET {own}:policy:head mac x",
    "HDEL {own}:policy:manifest policy/ai/chat",
    "XADD {own}:policy:log * line x",
    "SET {own}:policy:entry:x y",
    "DEL {own}:policy:head",
    "HGETALL {other}:policy:head",
    "GET {other}:policy:entry:x",
    "MGET {other}:policy:entry:x",
    "XADD {other}:words * word x",
    "XREAD STREAMS {other}:decisions 0",
    "FLUSHALL",
    "CONFIG GET *",
    "ACL LIST",
    "KEYS *",
    "SCRIPT FLUSH",
    "REPLICAOF NO ONE",
    "MONITOR",
)


@pytest.fixture(scope="module")
def users() -> dict[str, str]:
    """The Secret of the bundled Redis, as the chart makes it."""
    values = ("--set", "redis.bundled.enabled=true", "--set", "gateway.name=default")
    (secret,) = [
        each
        for each in require_helm().documents(*values)
        if each["kind"] == "Secret" and "users.acl" in each.get("data", {})
    ]
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


@pytest.fixture
def charts_redis(users: dict[str, str], tmp_path: Path) -> Iterator[RedisServer]:
    require_redis()
    (tmp_path / "users.acl").write_text(users["users.acl"])
    # The server of the tests greets without a name, which here may do nothing but PING.
    options = ("--aclfile", str(tmp_path / "users.acl"))
    with RedisServer(tmp_path / "redis", options=options) as server:
        yield server


@pytest.mark.parametrize("defended", [True, False], ids=["defended", "without-acl"])
def test_a_gateways_user_reads_and_writes_what_is_its_own(
    defended: bool, users: dict[str, str], tmp_path: Path
) -> None:
    require_redis()
    (tmp_path / "users.acl").write_text(users["users.acl"])
    options = ("--aclfile", str(tmp_path / "users.acl")) if defended else ()
    login = urlsplit(users["gateway-url"]).netloc.rpartition("@")[0]
    with RedisServer(tmp_path / "redis", options=options) as server:
        url = server.url.replace("redis://", f"redis://{login}@") if defended else server.url
        with redis.Redis.from_url(url) as connection:
            client: Any = connection
            client.hgetall("sb:{gw/default}:policy:head")
            refusals = 0
            for command in NOT_FOR_A_GATEWAY:
                said = command.format(own="sb:{gw/default}", other="sb:{gw/other}")
                try:
                    client.execute_command(*said.split())
                except redis.ResponseError as error:
                    refusals += "permission" in str(error).lower()
    assert refusals == (len(NOT_FOR_A_GATEWAY) if defended else 0)


@pytest.mark.parametrize("command", ["GET x", "HGETALL sb:{gw/default}:policy:head", "ACL LIST"])
def test_nobody_without_a_name_does_anything_but_ping(
    charts_redis: RedisServer, command: str
) -> None:
    with redis.Redis.from_url(charts_redis.url) as connection:
        client: Any = connection
        assert client.execute_command("PING")
        with pytest.raises(redis.RedisError, match=r"(?i)permission|auth"):
            client.execute_command(*command.split())
