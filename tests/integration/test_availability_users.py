"""The least that each role needs of Redis: the users of docs/operations/redis.md, TLS, Sentinels.

The page's own lines are tried: they are enough for the whole line, and allow nothing else.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import COMMAND, NOBODY, PATIENT, WAIT_S, Line, Running, eventually, look
from cluster.processes import LOOPBACK
from cluster.redis_sentinel import UNWATCHED_MS, SentinelRedis, Users
from cluster.redis_server import RedisServer
from cluster.redis_users import commands, documented_users
from cluster.revisions import in_force, watching
from cluster.tls import Authority, Certificate
from cluster.traffic import traffic
from fakes.manifests import external, policy
from fakes.stores import OURS, SCOPE, contents
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_operator.publisher import RedisStore
from switchboard_policy.store import CHANNELS, ZERO, Pod, Retention
from switchboard_policy.store.signing import sign_record, sign_word

PASSWORD = "p@ss:w/rd"
IN_FORCE_MAX_S = 300.0
"""Sentinels take 2 s, and half a minute where they stood still themselves."""
SERVED = ("operator", "dataplane", "exporter")

Record = Callable[[str, object], None]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that knows the planes' users; the test itself is the one without a name."""
    users = documented_users(scope=SCOPE)
    options = [
        part for name in SERVED for part in ("--user", name, "on", f">{PASSWORD}", *users[name])
    ]
    with RedisServer(tmp_path / "redis", options=tuple(options)) as running:
        yield running


def url_of(server: RedisServer, user: str) -> str:
    return server.url.replace("redis://", f"redis://{user}:p%40ss%3Aw%2Frd@")


def used(server: RedisServer) -> set[str]:
    """Return the commands that were called since this was asked last."""
    with redis.Redis.from_url(server.url) as connection:
        client: Any = connection
        said = client.info("commandstats")
        client.config_resetstat()
    never = {"auth", "hello", "client|setinfo", "config|resetstat", "info"}
    return {name.removeprefix("cmdstat_").lower() for name in said} - never


async def test_an_operator_and_a_data_plane_use_what_they_may_and_nothing_else(
    server: RedisServer,
) -> None:
    users = documented_users(scope=SCOPE)
    writer = RedisStore(url_of(server, "operator"), keyrings=lambda _: OURS)
    source = RedisSource(url_of(server, "dataplane"), scope=SCOPE)
    try:
        used(server)
        assert await writer.check_eviction() is None
        assert await writer.epoch([SCOPE]) == 0
        for channel in CHANNELS:
            await writer.replace(SCOPE, channel, epoch=1, contents=contents(1, 2))
            await writer.publish(SCOPE, channel, epoch=1, changes=contents(3))
            await writer.publish(SCOPE, channel, epoch=1, changes=dict.fromkeys(contents(1)))
            await writer.replace(SCOPE, channel, epoch=2, contents=contents(3))
            assert await writer.intact(SCOPE, channel)
            assert await writer.collect(SCOPE, channel, epoch=2, unreferenced_ms=0)
            assert await writer.head(SCOPE, channel)
            assert await writer.manifest(SCOPE, channel)
        assert await writer.pods(SCOPE) == []
        await writer.forget(SCOPE, "gone")
        await writer.wait_for_acks([SCOPE], timeout_ms=10)
        now_ms = (await writer.shared(SCOPE, "", timeout_ms=1)).at_ms
        answer = sign_word(OURS, topic="reviewed", pod="operator", said_ms=now_ms, body=b"{}")
        await writer.share(SCOPE, answer)
        assert [*(await writer.shared(SCOPE, "", timeout_ms=1000)).words] == [answer]
        assert used(server) == commands(users["operator"]) - {"info"}

        for channel in CHANNELS:
            manifest = await source.manifest(channel)
            assert manifest is not None
            digests = [one.digest for one in manifest.fields.values()]
            assert len(await source.entries(channel, digests)) == len(digests)
            assert await source.lines({channel: ZERO}, timeout_ms=10)
            assert await source.head(channel)
        await source.register(Pod(name="a", revision=ZERO))
        now_ms = (await source.shared("", timeout_ms=1)).at_ms
        said = sign_word(OURS, topic="load", pod="a", said_ms=now_ms, body=b"{}")
        await source.share(said)
        assert [*(await source.shared("", timeout_ms=1000)).words] == [answer, said]
        decided = sign_record(OURS, pod="a", body=b"{}")
        await source.record([decided], keep=Retention(entries=10, age_ms=1_000))
        exporter = RedisSource(url_of(server, "exporter"), scope=SCOPE)
        assert [*(await exporter.recorded("", limit=9)).records] == [decided]
        await exporter.close()
        await source.goodbye("a")
        assert used(server) == commands(users["dataplane"])
    finally:
        await writer.close()
        await source.close()


FORBIDDEN: Mapping[str, Sequence[str]] = {
    "operator": (
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG SET maxmemory-policy allkeys-lru",
        "CONFIG GET *",
        "ACL LIST",
        "SHUTDOWN",
        "KEYS *",
        "SCAN 0",
        "REPLICAOF NO ONE",
        "CLIENT KILL TYPE normal",
        "SUBSCRIBE news",
        "SET other 1",
        "HSET sb:{ns/team}:policy:head mac x",
        "XADD sb:{gw/test}:acks * pod a",
        "XREAD STREAMS sb:{gw/test}:decisions 0",
        "XADD sb:{ns/team}:words * word x",
    ),
    "dataplane": (
        "FLUSHALL",
        "CONFIG SET maxmemory-policy allkeys-lru",
        "ACL LIST",
        "KEYS *",
        "SCRIPT FLUSH",
        "INFO",
        "HSET sb:{gw/test}:policy:head mac x",
        "HSET sb:{gw/test}:policy:manifest policy/a/b x",
        "HDEL sb:{gw/test}:policy:manifest policy/a/b",
        "XADD sb:{gw/test}:policy:log * line x",
        "XTRIM sb:{gw/test}:endpoints:log MAXLEN 0",
        "ZADD sb:{gw/test}:policy:retired 1 x",
        "SET sb:{gw/test}:policy:entry:x y",
        "DEL sb:{gw/test}:policy:head",
        "HGETALL sb:{gw/other}:policy:head",
        "MGET sb:{gw/other}:policy:entry:x",
        "XREAD STREAMS sb:{gw/other}:decisions 0",
        "XADD sb:{gw/other}:words * word x",
    ),
    "exporter": (
        "XADD sb:{gw/test}:decisions * decision x",
        "XTRIM sb:{gw/test}:decisions MAXLEN 0",
        "HGETALL sb:{gw/test}:policy:head",
        "XREAD STREAMS sb:{gw/other}:decisions 0",
        "FLUSHALL",
    ),
}


@pytest.mark.parametrize("user", SERVED)
def test_no_user_may_do_what_is_not_its_own(server: RedisServer, user: str) -> None:
    with redis.Redis.from_url(url_of(server, user)) as connection:
        client: Any = connection
        for command in FORBIDDEN[user]:
            with pytest.raises(redis.ResponseError, match=r"(?i)no permission"):
                client.execute_command(*command.split())
        if user == "exporter":
            return
        script = client.script_load("return redis.call(ARGV[1], KEYS[1], 'mac', 'x')")
        foreign = "sb:{gw/test}:policy:head" if user == "dataplane" else "sb:{ns/team}:policy:head"
        with pytest.raises(redis.ResponseError, match=r"(?i)no permission"):
            client.evalsha(script, 1, foreign, "HSET")


@dataclass
class Guarded:
    """A line behind Sentinels where each role has its user and its certificate."""

    line: Line
    store: SentinelRedis
    certificates: Mapping[str, Certificate]
    planes: dict[str, Running]
    port: int

    def url(self, user: str) -> str:
        return self.store.url(user, certificate=self.certificates[user])


@pytest.fixture(scope="module")
def guarded(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, lines = Authority(folder / "authority"), documented_users()
    users = Users(
        PASSWORD,
        data={name: lines[name] for name in (*SERVED, "replica", "sentinel")},
        sentinel={name: lines[name] for name in ("client", "sentinel-peer")},
    )
    certificates = {name: authority.issue(name) for name in SERVED}
    with SentinelRedis(folder / "redis", users=users, authority=authority) as store:
        line = Line(
            folder,
            api,
            store.servers[0],
            redis_url=store.url("dataplane", certificate=certificates["dataplane"]),
            gateways=("default", "other"),
        )
        made = Guarded(line, store, certificates, {}, line.start_fake("a"))
        chat = policy("chat", "first")
        chat["spec"]["learning"] = {}
        try:
            line.apply(
                external("first", made.port, timeouts=PATIENT),
                external("second", line.start_fake("b"), timeouts=PATIENT),
                chat,
            )
            line.start_operator("--redis-url", made.url("operator"))
            for name in ("pod-1", "pod-2"):
                made.planes[name] = line.start_data_plane(name)
                eventually(lambda: answers(made), what="an answer")
            yield made
        finally:
            line.close()


def answers(guarded: Guarded, wanted: str = "a") -> bool:
    return all(each.answerer("chat") == wanted for each in guarded.planes.values())


def decisions(plane: Running) -> list[dict[str, Any]]:
    """Return what a pod remembers."""
    return [json.loads(line) for line in look(f"{plane.admin}/decisions").text.splitlines()]


def test_the_whole_line_runs_with_these_users_and_certificates(guarded: Guarded) -> None:
    one, two = guarded.planes.values()
    decision = one.chat("chat").headers["x-switchboard-decision"]
    # What one pod is told the one that decided learns, and both log it.
    rating = {"decision": decision, "rating": "up"}
    url = f"{two.url}/v1/feedback"
    told = httpx2.post(url, json=rating, timeout=WAIT_S, verify=NOBODY)
    assert told.status_code == 202
    eventually(
        lambda: any(each["id"] == decision and each.get("ratings") for each in decisions(one)),
        what="a rating that the other pod was told of",
    )
    exported = guarded.line.folder / "decisions.jsonl"
    command = [*COMMAND, "export", "--redis-url", guarded.url("exporter"), "--scope", "gw/default"]

    def logged() -> bool:
        subprocess.run([*command, "--output", str(exported)], check=True, timeout=WAIT_S)
        return decision in exported.read_text()

    eventually(logged, what="the decision in the log")
    guarded.line.apply(
        external("first", guarded.port, timeouts=PATIENT, capacity={"maxInFlight": 7})
    )
    said = guarded.line.await_condition("modelbackend", "first", "Programmed", status="True")
    assert "2/2" in said["message"]
    for plane in guarded.planes.values():
        text = plane.process.log_text()
        assert "permission" not in text
        assert PASSWORD not in text


def test_a_data_plane_of_another_scope_is_refused_and_says_so(guarded: Guarded) -> None:
    lost = guarded.line.start_data_plane("pod-lost", gateway="other", wait=False)
    lost.process.wait_for_http(f"{lost.admin}/readyz", status=503)
    eventually(lambda: "permissions" in lost.ready()["reason"], what="a reason")
    lost.process.stop()


def test_whoever_shows_no_certificate_is_refused_and_told_what_to_give(guarded: Guarded) -> None:
    url = guarded.store.url("dataplane")
    bare = guarded.line.start_data_plane("pod-bare", "--redis-url", url, wait=False)
    bare.process.wait_for_http(f"{bare.admin}/readyz", status=503)
    eventually(lambda: "the store is away" in bare.ready()["reason"], what="a reason")
    bare.process.stop()
    # Of one server, which says itself what it wants, and not by way of Sentinels.
    server = guarded.store.servers[0]
    known = f"ssl_ca_certs={guarded.certificates['dataplane'].authority}"
    alone = f"rediss://dataplane:p%40ss%3Aw%2Frd@{LOOPBACK}:{server.port}/0?{known}"
    told = guarded.line.start_data_plane("pod-told", "--redis-url", alone, wait=False)
    told.process.wait_for_http(f"{told.admin}/readyz", status=503)
    eventually(lambda: "ssl_certfile=" in told.ready()["reason"], what="what to give")
    told.process.stop()


def test_with_all_of_it_a_primary_that_hangs_is_replaced_and_may_come_back(
    guarded: Guarded, record_property: Record
) -> None:
    line, hung = guarded.line, guarded.store.primary
    with (
        watching(in_force(guarded.planes)) as watched,
        traffic(guarded.planes["pod-1"].url, callers=2) as called,
    ):
        guarded.store.watch()
        hung.pause()
        began = time.monotonic()
        line.apply(policy("chat", "second"))
        eventually(
            lambda: answers(guarded, "b"), what="an edit meanwhile", timeout_s=IN_FORCE_MAX_S
        )
        took_s = time.monotonic() - began
        line.await_condition("rp", "chat", "Programmed", status="True")
        guarded.store.watch(down_after_ms=UNWATCHED_MS)
        # It believes to be the primary still, and some connections lead to it.
        hung.resume()
        for backend, answerer in (("first", "a"), ("second", "b")):
            line.apply(policy("chat", backend))
            eventually(partial(answers, guarded, answerer), what=f"an edit to {backend}")
    called.check(at_least=20)
    watched.check("pod-")
    told = f"a primary that hangs, with TLS and ACL users: an edit in force after {took_s:.1f} s"
    record_property("measured", told)
