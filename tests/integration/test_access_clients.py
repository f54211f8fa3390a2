"""Client Secrets, an API server, a Redis, a data plane: a key works until its Secret is gone."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, PATIENT, WAIT_S, Running, eventually, patience_s
from cluster.redis_server import RedisServer
from fakes.manifests import client_secret, external, policy
from integration.operator_bench import OperatorBench

REVOKED_MAX_S = 1.0
"""What is promised of a machine of one's own; this one may take several times as long."""
TIMES = 5
KEY = "sk-sb-0123456789-integration"
FLAGS = ("--access", "keys", "--allow-addresses", "127.0.0.0/8")
READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda client, key: client.get(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"stream": lambda client, key: client.xrange(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
}


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    made = OperatorBench(tmp_path, api, redis_server)
    port = made.start_fake("a")
    made.apply(external("a", port, timeouts=PATIENT), policy("chat", "a"), policy("other", "a"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def gateway(bench: OperatorBench) -> Running:
    return bench.start_data_plane("gateway", *FLAGS)


def told(gateway: Running, key: str = "", model: str = "chat") -> str:
    """Return how a call ends: ok, or the code of the error."""
    answer = gateway.chat(model, **({"authorization": f"Bearer {key}"} if key else {}))
    if answer.status_code == httpx2.codes.OK:
        return "ok"
    return f"{answer.status_code} {answer.json()['error']['code']}"


def calls(gateway: Running, key: str) -> bool:
    return told(gateway, key) == "ok"


def make(bench: OperatorBench, name: str, key: str, *, namespace: str = "", **said: str) -> None:
    made = client_secret(name, key, namespace=namespace or bench.system, **said)
    del made["metadata"]["creationTimestamp"]
    bench.plane.apply(made)


def stored(url: str) -> str:
    """Return all that is in Redis, key by key, as it was written."""
    with redis.Redis.from_url(url) as client:
        keys: Any = list(client.scan_iter())
        assert keys
        return "\n".join(repr((key, READERS[client.type(key)](client, key))) for key in keys)


def test_a_key_works_until_its_secret_is_gone_and_then_ends_at_once(
    bench: OperatorBench, gateway: Running, record_property: Callable[[str, object], None]
) -> None:
    made_s, revoked_s = list[float](), list[float]()
    for number in range(TIMES):
        key = f"{KEY}-{number}"
        assert told(gateway, key) == "401 invalid_api_key"
        make(bench, f"client-{number}", key)
        began = time.monotonic()
        eventually(partial(calls, gateway, key), what="a client that may call")
        made_s.append(time.monotonic() - began)
        began = time.monotonic()
        bench.plane.kubectl("delete", "secret", f"client-{number}", "-n", bench.system)
        eventually(lambda: not calls(gateway, key), what="a key that was revoked")  # noqa: B023
        revoked_s.append(time.monotonic() - began)
        assert told(gateway, key) == "401 invalid_api_key"
    # A machine that stands still makes some late, and not all.
    assert min(revoked_s) < REVOKED_MAX_S
    assert max(revoked_s) < patience_s(REVOKED_MAX_S)
    record_property(
        "measured",
        f"a client Secret's deletion, kubectl included, until its key is refused, {TIMES} times: "
        f"{max(revoked_s) * 1000:.0f} ms at most; its creation until it works: "
        f"{max(made_s) * 1000:.0f} ms at most",
    )


def test_nothing_but_the_hash_of_a_key_leaves_its_secret(
    bench: OperatorBench, gateway: Running
) -> None:
    make(bench, "cart", KEY, tier="gold")
    make(bench, "bad", f"{KEY}-bad", expires=f"{KEY}-soon")
    eventually(lambda: told(gateway, KEY) == "ok", what="a client that may call")
    found, entry = stored(bench.redis.url), bench.entry(f"client/{bench.system}/cart")
    assert json.loads(entry)["entry"]["digest"] in found
    for secret in (KEY, base64.b64encode(KEY.encode()).decode().rstrip("=")[:20], KEY[6:20]):
        assert secret not in found
        for log in bench.folder.glob("*.log"):
            assert secret not in log.read_text()
    for path in bench.folder.glob("state-*/**/*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_who_shows_nothing_or_the_wrong_thing_or_asks_for_too_much_is_told_so(
    bench: OperatorBench, gateway: Running
) -> None:
    elsewhere = bench.plane.create_namespace("elsewhere")
    make(bench, "foreign", f"{KEY}-foreign", namespace=elsewhere)
    make(bench, "old", f"{KEY}-old", expires="2020-01-01T00:00:00Z")
    make(bench, "cart", KEY, models="other,gpt-*")
    eventually(lambda: told(gateway, KEY, "other") == "ok", what="a client that may call")
    assert told(gateway) == "401 missing_api_key"
    assert told(gateway, f"{KEY}-foreign") == "401 invalid_api_key"
    assert told(gateway, f"{KEY}-old") == "401 invalid_api_key"
    assert told(gateway, KEY, "chat") == "403 model_not_allowed"
    shown = {"authorization": f"Bearer {KEY}"}
    url = f"{gateway.url}/v1/models"
    found = httpx2.get(url, headers=shown, timeout=WAIT_S, verify=NOBODY)
    assert [each["id"] for each in found.json()["data"]] == ["other"]


def test_a_wrong_secret_is_refused_alone_and_says_why(
    bench: OperatorBench, gateway: Running
) -> None:
    make(bench, "cart", KEY)
    make(bench, "twin", KEY)
    make(bench, "bad", "short", teir="gold")
    eventually(lambda: told(gateway, KEY) == "ok", what="a client that may call")

    def events() -> dict[str, tuple[str, str]]:
        text = bench.plane.kubectl(
            *("get", "events", "-n", bench.system, "-o", "json"),
            *("--field-selector", "involvedObject.kind=Secret,type=Warning"),
        )
        return {
            each["involvedObject"]["name"]: (each["reason"], each["message"])
            for each in json.loads(text)["items"]
        }

    eventually(lambda: len(events()) == 2, what="an Event of each wrong Secret")
    reason, message = events()["bad"]
    assert reason == "ClientInvalid"
    assert "data.api-key" in message
    assert "no client has" in message
    assert "short" not in message
    # They may have been made within a second: then the first by name is the client.
    assert events()["twin"][0] == "ClientDuplicate"

    def counted() -> bool:
        counts = "jsonpath={.data.clients} {.data.clientsRefused}"
        of = ("configmap", "switchboard-status-default", "-n", bench.system)
        return bench.plane.try_kubectl("get", *of, "-o", counts).stdout == "1 2"

    eventually(counted, what="the counts in the summary")
