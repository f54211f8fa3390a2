"""Two pods around a real Redis: what one is told the other learns, and all of it is exported."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.redis_server import RedisServer
from fakes import gateway
from fakes.gateway import CHAT, channel_of, chat, external, failover, fakes, until
from fakes.policies import KEY, key_of, keyring
from switchboard_cli.__main__ import main
from switchboard_cli.export import command
from switchboard_dataplane import app
from switchboard_dataplane.learning.decisions import Decided, Rated, read_rated
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.settings import Settings
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_dataplane.upstream.addresses import LOOPBACK
from switchboard_operator.publisher import RedisStore
from switchboard_policy import ir
from switchboard_policy.codec import encode
from switchboard_policy.seal import write_key_file
from switchboard_policy.store import CHANNELS

SCOPE = gateway.SCOPE
DECISION = "x-switchboard-decision"


@dataclass
class Pod:
    """A data plane on real sockets. ``learned`` is what its learner heard."""

    plane: app.DataPlane
    session: aiohttp.ClientSession
    learned: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.plane.admin_port}"

    async def send(self, path: str, body: dict[str, Any], **headers: str) -> tuple[int, str]:
        """Return the status and the id of the decision."""
        url = f"http://127.0.0.1:{self.plane.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(url, json=body, headers=named) as response:
            await response.read()
            return response.status, response.headers.get(DECISION, "")

    async def ask(self, text: str, **headers: str) -> str:
        status, decision = await self.send(CHAT, chat(text), **headers)
        assert (status, bool(decision)) == (200, True)
        return decision

    def learn(self, decision: Decided, rating: Rating, _: object) -> None:
        self.learned.append((decision.id, rating.source, rating.value))

    async def rate(self, decision: str, rating: object) -> int:
        status, _ = await self.send("/v1/feedback", {"decision": decision, "rating": rating})
        return status


@pytest.fixture
async def pods(redis_server: RedisServer) -> AsyncIterator[list[Pod]]:
    """Two pods of a gateway whose policy learns, and keeps texts."""
    keys = keyring(SCOPE)
    async with AsyncExitStack() as stack:
        (model,) = await stack.enter_async_context(fakes({}))
        writer = RedisStore(redis_server.url, keyrings=keyring)
        stack.push_async_callback(writer.close)
        said = failover("only", learning=ir.Learning(texts=True))
        for channel in CHANNELS:
            contents = {
                key_of(entry): encode(entry)
                for entry in (said, external("only", model.url))
                if channel_of(entry) == channel
            }
            await writer.replace(SCOPE, channel, epoch=1, contents=contents)
        found: list[Pod] = []
        for name in ("pod-1", "pod-2"):
            source = RedisSource(redis_server.url, scope=SCOPE)
            stack.push_async_callback(source.close)
            settings = Settings(
                listen="127.0.0.1:0",
                admin="127.0.0.1:0",
                scope=SCOPE,
                pod_name=name,
                allow_addresses=LOOPBACK,
            )
            plane = app.build(settings, source=source, keyring=lambda: keys)
            await stack.enter_async_context(app.serving(plane))
            pod = Pod(plane, await stack.enter_async_context(aiohttp.ClientSession()))
            plane.beside.learning.journal.learners.append(pod.learn)
            found.append(pod)
        await until(lambda: all(pod.plane.follower.state().synced for pod in found))
        yield found


async def test_a_rating_sent_to_one_pod_is_learned_by_the_other_that_decided(
    pods: list[Pod],
) -> None:
    one, two = pods
    ours, theirs = await one.ask("why?"), await two.ask("why not?")
    assert await two.rate(ours, "down") == 202
    assert await one.rate(theirs, 0.75) == 202
    await until(lambda: bool(one.learned and two.learned))
    assert one.learned == [(ours, "feedback", 0.0)]
    assert two.learned == [(theirs, "feedback", 0.75)]


async def test_who_asks_another_pod_again_was_not_content_with_the_first(pods: list[Pod]) -> None:
    one, two = pods
    session = {"x_switchboard_session": "s-1"}
    first = await one.ask("why?", **session)
    await until(lambda: len(one.plane.beside.learning.journal.regenerations) == 1)
    again = await two.ask("why?", **session)
    await until(lambda: bool(one.learned))
    assert one.learned == [(first, "regeneration", 0.0)]
    assert two.learned == []
    assert again != first


async def exported(tmp_path: Path, *argv: str) -> list[Rated]:
    """What the command writes."""
    output = tmp_path / "out.jsonl"
    status = await asyncio.to_thread(main, ["export", *argv, "-o", str(output)])
    assert status == command.DONE
    return [read_rated(line) for line in output.read_bytes().splitlines()]


async def test_all_that_pods_decided_is_exported_with_its_ratings(
    pods: list[Pod], redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = pods
    ours, theirs = await one.ask("why?"), await two.ask("why not?")
    await two.rate(ours, "up")
    logs = [pod.plane.beside.learning.journal.log for pod in pods]
    await until(lambda: sum(log.counts["written"] for log in logs) == 3)
    keys = tmp_path / "keys.json"
    keys.write_bytes(write_key_file("k1", {"k1": KEY}))
    where = ("--redis-url", redis_server.url, "--scope", SCOPE)
    lines = await exported(tmp_path, *where, "--scope-key-file", str(keys))
    assert {line.id: (line.pod, line.prompt, line.quality) for line in lines} == {
        ours: ("pod-1", "why?", 1.0),
        theirs: ("pod-2", "why not?", None),
    }
    assert all(line.answer for line in lines)
    assert "2 decisions, 1 of them rated" in capsys.readouterr().err
    assert await exported(tmp_path, *where) == lines
    keys.write_bytes(write_key_file("k2", {"k2": b"s" * 32}))
    assert await exported(tmp_path, *where, "--scope-key-file", str(keys)) == []
    assert "3 entries left out: not signed by gw/test" in capsys.readouterr().err


async def test_the_decisions_of_one_pod_are_exported_from_its_admin_port_without_texts(
    pods: list[Pod], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchboard_dataplane.admin.DECISIONS_AT_ONCE", 2)
    one, _ = pods
    ids = [await one.ask(f"why {number}?") for number in range(5)]
    await one.rate(ids[0], "up")
    await until(lambda: len(one.plane.beside.learning.journal.recent) == 5 and bool(one.learned))
    lines = await exported(tmp_path, "--admin", one.admin_url)
    assert [line.id for line in lines] == ids
    assert [line.quality for line in lines] == [1.0, None, None, None, None]
    assert {line.prompt for line in lines} == {""}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--redis-url", "redis://127.0.0.1:1"], "the store is away"),
        (["--redis-url", "http://h"], "a store's URL starts with"),
        (["--admin", "http://127.0.0.1:1"], "/decisions cannot be read"),
        (["--redis-url", "redis://h", "--scope-key-file", "/nowhere"], "/nowhere"),
        (["--redis-url", "redis://127.0.0.1:1", "-o", "/nowhere/x"], "/nowhere/x"),
    ],
)
def test_what_cannot_be_exported_is_said(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv, {}) == command.REFUSED
    assert said in capsys.readouterr().err


def test_the_store_of_the_environment_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"SWITCHBOARD_REDIS_URL": "redis://127.0.0.1:1"}
    assert command.main([], env) == command.REFUSED
    assert "the store is away" in capsys.readouterr().err
