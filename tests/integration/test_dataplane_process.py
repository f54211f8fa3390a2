"""Through real sockets: the admin port, the end of a data plane, its keys, its telemetry."""

import asyncio
import sys
from pathlib import Path

import pytest
from aiohttp import web

from cluster.processes import ChildProcess, free_port
from fakes.gateway import (
    EPOCH,
    SCOPE,
    chat,
    external,
    failover,
    fakes,
    gateway,
    until,
)
from fakes.policies import KEY, endpoints, key_of, keyring, service
from switchboard_dataplane.sources.key_file import KeyFile
from switchboard_policy import ir
from switchboard_policy.codec import encode
from switchboard_policy.names import credential_key
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file

NOBODY = "http://127.0.0.1:9"
SLOW = {"first_token_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000}


async def test_it_is_alive_but_not_ready_before_the_first_policy() -> None:
    async with gateway() as gw:
        assert (await gw.admin("/livez")).body == b"ok\n"
        ready = await gw.admin("/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert "no policy yet" in ready.json["reason"]
        reply = await gw.send(chat())
        assert (reply.status, reply.error["code"]) == (503, "not_ready")
        assert (await gw.get("/v1/models")).status == 503
        await gw.publish(failover("model"), external("model", NOBODY))
        ready = await gw.admin("/readyz")
        assert (ready.status, ready.json["reason"]) == (200, "")
        assert ready.json["revision"] == str(gw.plane.in_force.revision)
        assert ready.json["source"]["connected"]
        assert (ready.json["refused"], ready.json["draining"]) == ({}, False)


async def test_a_policy_without_its_endpoints_makes_nobody_ready() -> None:
    async with gateway() as gw:
        writer = gw.store.writer(keyrings=keyring)
        contents = {key_of(one): encode(one) for one in (failover("model"), service("model"))}
        await writer.replace(SCOPE, "policy", epoch=EPOCH, contents=contents)
        await until(lambda: gw.plane.in_force.snapshot is not None)
        assert (await gw.admin("/readyz")).status == 503
        await writer.replace(SCOPE, "endpoints", epoch=EPOCH, contents={})
        await until(lambda: gw.plane.follower.state().synced)
        assert (await gw.admin("/readyz")).status == 200


async def test_the_admin_port_tells_what_runs_and_no_secret() -> None:
    entry = external("model", NOBODY, credential=credential_key("ai", "model"))
    sealed = keyring().seal(b"sk-secret", entry.uid, NOBODY)
    held = ir.Credential(backend="ai/model", key_id="k1", sealed=sealed)
    engine = service("engine")
    at = endpoints("engine", ("10.0.0.7:8000", "zone-a"))
    async with gateway(failover("model", "engine"), entry, held, engine, at) as gw:
        assert gw.plane.in_force.builder.snapshot.backends["ai/model"].api_key == "sk-secret"
        policy = (await gw.admin("/policy")).json
        assert policy["policies"]["ai/chat"]["models"] == ["chat"]
        assert policy["backends"]["ai/model"]["credential"] is True
        backends = (await gw.admin("/backends")).json["backends"]
        assert backends["ai/engine"]["endpoints"] == [
            {
                "address": "10.0.0.7:8000",
                "zone": "zone-a",
                "in_flight": 0,
                "ttft_s": {},
                "latency_s": {},
                "tokens_per_s": None,
                "errors": None,
                "ejected": None,
                "engine": None,
            }
        ]
        for path in ("/policy", "/backends", "/readyz", "/metrics", "/nothing"):
            assert b"sk-secret" not in (await gw.admin(path)).body
        assert (await gw.admin("/nothing")).status == 404


async def test_the_backends_key_is_the_one_that_goes_upstream() -> None:
    async with fakes({"api_key": "sk-secret"}) as (model,):
        entry = external("model", model.url, credential=credential_key("ai", "model"))
        sealed = keyring().seal(b"sk-secret", entry.uid, model.url)
        held = ir.Credential(backend="ai/model", key_id="k1", sealed=sealed)
        async with gateway(failover("model"), entry, held) as gw:
            assert (await gw.send(chat(), authorization="Bearer caller")).status == 200


async def test_an_edit_is_in_force_for_the_next_request_and_not_for_the_running_one() -> None:
    async with (
        fakes({"tokens_per_second": 40}, {}) as (old, new),
        gateway(failover("model"), external("model", old.url, timeouts=SLOW)) as gw,
    ):
        running = asyncio.create_task(gw.send(chat(stream=True)))
        await until(lambda: old.engine.records.seen == 1)
        await gw.publish(failover("model"), external("model", new.url))
        assert (await gw.send(chat(stream=True))).text.startswith("This is b")
        assert (await running).text.startswith("This is a")


async def test_metrics_tell_of_requests_by_where_they_were_served() -> None:
    async with (
        fakes({"faults": [{"kind": "status", "status": 503}]}, {}) as (bad, good),
        gateway(
            failover("bad", "good"), external("bad", bad.url), external("good", good.url)
        ) as gw,
    ):
        await gw.send(chat())
        await gw.send(chat(stream=True))
        await gw.send(b"bad")
        await gw.outcome(2)
        # A change that comes as a line of the log, which bears the time of its writing.
        await gw.publish(failover("good"), external("good", good.url))
        await until(lambda: gw.plane.follower.state().propagation_ms is not None)
        page = (await gw.admin("/metrics")).body.decode()
        place = 'backend="ai/good",policy="ai/chat",rule="default",tier="tier-1"'
        assert f"switchboard_decisions_total{{{place}}} 2.0" in page
        assert f"switchboard_fallbacks_total{{{place}}} 2.0" in page
        assert 'switchboard_attempts_total{backend="ai/bad",reason="overloaded"} 2.0' in page
        assert 'switchboard_rejections_total{reason="invalid_json"} 1.0' in page
        assert 'switchboard_requests_in_flight{backend="ai/good"} 0.0' in page
        assert "gen_ai_server_time_to_first_token_seconds_count" in page
        assert "switchboard_propagation_seconds_count" in page


async def test_rotated_keys_open_the_credentials_that_they_sealed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(write_key_file("k1", {"k1": KEY}))
    keys = KeyFile(path, scope="gw/test")
    first = keys.keyring()
    assert keys.keyring() is first
    path.write_text("{}")
    assert keys.keyring() is first
    raw = write_key_file("k2", {"k1": KEY, "k2": b"z" * KEY_BYTES})
    path.write_bytes(raw)
    assert keys.keyring().current == "k2"
    async with fakes({"api_key": "sk"}) as (model,):
        entry = external("model", model.url, credential=credential_key("ai", "model"))
        sealed = read_keyring("gw/test", raw).seal(b"sk", entry.uid, model.url)
        held = ir.Credential(backend="ai/model", key_id="k2", sealed=sealed)
        async with gateway(failover("model"), entry, held) as gw:
            assert (await gw.send(chat())).status == 503
            gw.plane.in_force.keyring = keys.keyring
            await gw.plane.in_force.refresh()
            assert (await gw.send(chat())).status == 200


async def test_spans_and_metrics_go_out_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: dict[str, bytes] = {}

    async def collect(request: web.BaseRequest) -> web.Response:
        posted[request.path] = posted.get(request.path, b"") + await request.read()
        return web.Response()

    runner = web.ServerRunner(web.Server(collect))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with fakes({"faults": [{"kind": "status", "status": 503}]}, {}) as (bad, good):
        entries = (
            failover("bad", "good"),
            external("bad", bad.url),
            external("good", good.url),
        )
        async with gateway(*entries, otlp=True) as gw:
            await gw.send(chat(), traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
            upstream = good.engine.records.last(1)[0].headers["traceparent"]
            assert upstream.split("-")[1] == trace_id
            assert upstream.split("-")[2] != "b7ad6b7169203331"
    await until(lambda: {"/v1/traces", "/v1/metrics"} <= posted.keys())
    spans = posted["/v1/traces"]
    for name in (b"route chat", b"attempt ai/bad", b"attempt ai/good", bytes.fromhex(trace_id)):
        assert name in spans
    assert b"switchboard.decisions" in posted["/v1/metrics"]
    await runner.cleanup()


def test_the_process_listens_says_why_it_is_not_ready_and_ends_on_sigterm(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(write_key_file("k1", {"k1": KEY}))
    port, admin = free_port(), free_port()
    command: list[str | Path] = [
        *(sys.executable, "-m", "switchboard_dataplane", "--scope-key-file", keys),
        *("--redis-url", "redis://127.0.0.1:9", "--grace-s", "0", "--drain-s", "1"),
        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
    ]
    with ChildProcess(command, log=tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for_http(f"http://127.0.0.1:{admin}/livez")
        child.wait_for_http(f"http://127.0.0.1:{admin}/readyz", status=503)
        child.wait_for_http(f"http://127.0.0.1:{port}/v1/models", status=503)
        child.interrupt()
        assert child.wait(timeout_s=60) == 0
        assert "Traceback" not in child.log_text()


@pytest.mark.parametrize(
    ("flags", "piece"),
    [
        (["--listen", "nowhere"], "--listen: 'nowhere' is no address"),
        (["--drain-s", "-1"], "--drain-s: -1 is not in 0..3600"),
        (["--body-limit-bytes", "many"], "--body-limit-bytes: invalid literal"),
        (["--bodies-limit-bytes", "0"], "--bodies-limit-bytes: 0 is less than 1"),
        (["--detail-headers", "maybe"], "neither true nor false"),
        (
            ["--redis-url", "http://x", "--scope-key-file", "keys.json"],
            "cannot start: --redis-url: ",
        ),
        (["--redis-url", "redis://127.0.0.1:9"], "cannot start: --scope-key-file: is not set"),
        (
            [
                *("--redis-url", "redis://127.0.0.1:9", "--scope-key-file", "keys.json"),
                *("--state-dir", "keys.json/within-a-file"),
            ],
            "cannot start: --state-dir: ",
        ),
    ],
)
async def test_wrong_settings_end_the_process_with_status_2(
    tmp_path: Path, flags: list[str], piece: str
) -> None:
    (tmp_path / "keys.json").write_bytes(write_key_file("k1", {"k1": KEY}))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "switchboard_dataplane", *flags),
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await child.communicate()
    assert child.returncode == 2
    assert piece in told.decode()
    assert b"Traceback" not in told
