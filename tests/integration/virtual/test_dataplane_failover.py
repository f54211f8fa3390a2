"""Through real sockets: what fails goes on to the next candidate, what is the caller's does not."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fakes.gateway import (
    CHAT,
    STREAM_HEAD,
    chat,
    event,
    external,
    failover,
    fakes,
    gateway,
    http,
    said,
    scripted,
)
from fakes.taking_turns import answered, refused, taking_turns
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

NOBODY = "http://127.0.0.1:9"
PRICED = ir.Pricing(input_picodollars=50_000, output_picodollars=80_000)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "failure", "attempts"),
    [
        ({"kind": "status", "status": 500}, "server_error", 3),
        ({"kind": "status", "status": 502}, "server_error", 3),
        ({"kind": "status", "status": 429, "retry_after_s": 30}, "rate_limited", 2),
        ({"kind": "status", "status": 503}, "overloaded", 2),
        ({"kind": "status", "status": 529}, "overloaded", 2),
        ({"kind": "status", "status": 401}, "auth", 2),
        ({"kind": "status", "status": 403}, "auth", 2),
        ({"kind": "status", "status": 404}, "misconfigured", 2),
        ({"kind": "status", "status": 408}, "timeout", 2),
        ({"kind": "cut"}, "reset", 3),
        ({"kind": "reset"}, "reset", 3),
        ({"kind": "garbage"}, "protocol", 2),
    ],
    ids=lambda value: value.get("status", value["kind"]) if isinstance(value, dict) else None,
)
async def test_a_failed_attempt_goes_on_to_the_next_tier(
    fault: dict[str, object], failure: str, attempts: int, *, stream: bool
) -> None:
    async with (
        fakes({"faults": [fault]}, {}) as (bad, good),
        gateway(
            failover("bad", "good"), external("bad", bad.url), external("good", good.url)
        ) as gw,
    ):
        reply = await gw.send(chat(stream=stream))
        assert reply.status == 200
        assert b"This is b" in reply.body or "This is b" in reply.text
        assert reply.headers["x-switchboard-backend"] == "ai/good"
        assert reply.headers["x-switchboard-attempts"] == str(attempts)
        assert reply.headers["x-switchboard-reason"] == f"fallback:{failure}"
        outcome = await gw.outcome()
        assert {one.failure for one in outcome.attempts[:-1]} == {failure}
        assert len(outcome.attempts) == attempts


async def test_a_limit_without_a_time_is_over_with_the_next_request() -> None:
    async with (
        taking_turns(refused(429), answered("model")) as limited,
        fakes({}) as (other,),
        gateway(
            failover("limited", "other"),
            external("limited", limited.url),
            external("other", other.url),
        ) as gw,
    ):
        reasons = [(await gw.send(chat())).headers["x-switchboard-reason"] for _ in range(2)]
        assert reasons == ["fallback:rate_limited", "primary"]
        assert len(limited.seen) == 2


async def test_a_refused_connection_goes_on_to_the_next_tier() -> None:
    async with (
        fakes({}) as (good,),
        gateway(failover("bad", "good"), external("bad", NOBODY), external("good", good.url)) as gw,
    ):
        assert (await gw.send(chat())).headers["x-switchboard-reason"] == "fallback:connect"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (http(302, b"", "location: http://127.0.0.1:9/v1"), "protocol"),
        (http(200, b"<html>", media_type="text/html"), "protocol"),
        (http(200, b'{"error": {"message": "no"}}'), "server_error"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol"),
        (http(200, b'{"choices": ['), "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "reset"),
        (STREAM_HEAD + said("hi"), "protocol"),
    ],
    ids=["redirect", "html", "error-as-200", "not-http", "half-json", "cut-body", "unasked-stream"],
)
async def test_an_answer_that_is_none_goes_on(answer: bytes, failure: str) -> None:
    async with (
        scripted(answer) as bad,
        fakes({}) as (good,),
        gateway(
            failover("bad", "good"), external("bad", bad.url), external("good", good.url)
        ) as gw,
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.headers["x-switchboard-backend"]) == (200, "ai/good")
        assert reply.headers["x-switchboard-reason"] == f"fallback:{failure}"


@pytest.mark.parametrize(
    ("opening", "failure"),
    [
        (event(error={"message": "boom"}), "server_error"),
        (said(role="assistant") + event(error={"message": "boom"}), "server_error"),
        (b'event: error\ndata: {"message": "boom"}\n\n', "server_error"),
        (event(error={"message": "busy", "code": 429}), "rate_limited"),
        (event(error={"message": "full", "code": "503"}), "overloaded"),
        (b"data: oops\n\n", "protocol"),
        (b": keep-alive\n\n", "reset"),
        (b"data: [1]\n\n", "protocol"),
    ],
    ids=["error", "after-role", "event-error", "code-429", "code-503", "text", "empty", "array"],
)
async def test_an_error_before_the_first_content_goes_on(opening: bytes, failure: str) -> None:
    async with (
        scripted(STREAM_HEAD + opening) as bad,
        fakes({}) as (good,),
        gateway(
            failover("bad", "good"), external("bad", bad.url), external("good", good.url)
        ) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.text.startswith("This is a")
        assert reply.headers["x-switchboard-reason"] == f"fallback:{failure}"
        assert b"boom" not in reply.body


async def test_a_certificate_that_nobody_vouches_for_is_no_connection(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        fakes({}) as (good,),
        gateway(failover("bad", "good"), external("bad", url), external("good", good.url)) as gw,
    ):
        assert (await gw.send(chat())).headers["x-switchboard-reason"] == "fallback:connect"
        assert seen in ([], [b""])


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's TLS context whose certificate is its own issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
async def test_the_callers_error_passes_through_unchanged(status: int) -> None:
    body = b'{"error":  {"message": "too long", "code": "context_length_exceeded"}}'
    async with (
        scripted(http(status, body, "x-request-id: r1")) as model,
        fakes({}) as (other,),
        gateway(
            failover("model", "other"), external("model", model.url), external("other", other.url)
        ) as gw,
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.body) == (status, body)
        assert reply.headers["x-request-id"] == "r1"
        assert reply.headers["x-switchboard-attempts"] == "1"
        outcome = await gw.outcome()
        assert (outcome.status, outcome.input_tokens, outcome.cost_microdollars) == (
            status,
            None,
            None,
        )


async def test_the_callers_error_in_the_first_event_is_told_as_a_status() -> None:
    error = {"message": "too long", "type": "BadRequestError", "code": 400}
    async with (
        scripted(STREAM_HEAD + event(error=error) + b"data: [DONE]\n\n") as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.json) == (400, {"error": error})
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"status": 500}, 502, "upstream_server_error"),
        ({"status": 503}, 503, "upstream_overloaded"),
        ({"status": 429, "retry_after_s": 7}, 429, "upstream_rate_limited"),
        ({"status": 401}, 502, "upstream_auth"),
        ({"status": 404}, 502, "upstream_misconfigured"),
    ],
)
async def test_when_all_fail_the_last_failure_is_told(
    fault: dict[str, Any], status: int, code: str
) -> None:
    async with (
        fakes({"faults": [{"kind": "status", **fault}]}) as (bad,),
        gateway(failover("bad", "bad2"), external("bad", bad.url), external("bad2", bad.url)) as gw,
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.error["code"]) == (status, code)
        assert reply.headers["x-switchboard-reason"] == code
        assert reply.headers.get("retry-after") == ("7" if status == 429 else None)
        outcome = await gw.outcome()
        assert int(reply.headers["x-switchboard-attempts"]) == len(outcome.attempts) >= 2
        assert outcome.error == code


async def test_attempts_are_bounded_by_the_policy() -> None:
    async with (
        fakes({"faults": [{"kind": "status", "status": 500}]}) as (bad,),
        gateway(
            failover("one", "two", "three", attempts=2),
            *(external(name, bad.url) for name in ("one", "two", "three")),
        ) as gw,
    ):
        assert (await gw.send(chat())).status == 502
        assert len((await gw.outcome()).attempts) == 2


async def test_a_refused_credential_spares_the_whole_backend() -> None:
    both = ir.Endpoints(backend="ai/bad", addresses=())
    async with fakes({"faults": [{"kind": "status", "status": 401}]}, {}) as (bad, good):
        bad_entry = external("bad", bad.url, external=False)
        both = ir.Endpoints(
            backend="ai/bad",
            addresses=(
                ir.Endpoint(f"127.0.0.1:{bad.port}"),
                ir.Endpoint(f"127.0.0.1:{bad.port}", zone="b"),
            ),
        )
        async with gateway(
            failover("bad", "good"), bad_entry, both, external("good", good.url)
        ) as gw:
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-backend"] == "ai/good"
            assert len((await gw.outcome()).attempts) == 2


async def test_a_stalled_stream_moves_on_when_the_first_token_is_late() -> None:
    async with (
        fakes({"faults": [{"kind": "stall"}]}, {}) as (slow, good),
        gateway(
            failover("slow", "good"),
            external("slow", slow.url, timeouts={"first_token_ms": 400}),
            external("good", good.url),
        ) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.text.startswith("This is b")
        outcome = await gw.outcome()
        assert [one.failure for one in outcome.attempts] == ["timeout", ""]
        assert 0.35 < outcome.attempts[0].duration_s < 1.5


async def test_a_late_first_token_is_waited_for_where_nobody_else_is_left() -> None:
    async with (
        fakes({"ttft_ms": 900}) as (slow,),
        gateway(
            failover("slow"), external("slow", slow.url, timeouts={"first_token_ms": 400})
        ) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.text.startswith("This is a")
        outcome = await gw.outcome()
        assert outcome.ttft_s is not None
        assert outcome.ttft_s > 0.85


async def test_the_callers_deadline_bounds_all_attempts() -> None:
    async with (
        fakes({"faults": [{"kind": "stall"}]}) as (slow,),
        gateway(
            failover("slow", "two"), external("slow", slow.url), external("two", slow.url)
        ) as gw,
    ):
        reply = await gw.send(chat(), x_switchboard_deadline_ms="300")
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        outcome = await gw.outcome()
        assert 0.25 < outcome.duration_s < 1.5
        assert [one.failure for one in outcome.attempts] == ["timeout"]


async def test_a_whole_answer_has_the_backends_total_time() -> None:
    async with (
        fakes({"faults": [{"kind": "stall"}]}, {}) as (slow, good),
        gateway(
            failover("slow", "good"),
            external("slow", slow.url, timeouts={"total_ms": 300}),
            external("good", good.url),
        ) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "fallback:timeout"


async def test_usage_and_cost_are_counted_and_nothing_stays_in_flight() -> None:
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url, pricing=PRICED)) as gw,
    ):
        reply = await gw.send(chat())
        usage = reply.json["usage"]
        outcome = await gw.outcome()
        assert outcome.input_tokens == usage["prompt_tokens"]
        assert outcome.output_tokens == usage["completion_tokens"]
        expected = usage["prompt_tokens"] * 50_000 + usage["completion_tokens"] * 80_000
        assert outcome.cost_microdollars == pytest.approx(expected / 1_000_000)
        assert not outcome.estimated
        assert [signal.in_flight for signal in gw.plane.in_force.signals.values()] == [0]


async def test_an_answer_without_usage_is_estimated_and_says_so() -> None:
    async with (
        scripted(http(200, b'{"choices": [{"message": {"content": "hello there"}}]}')) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        await gw.send(chat("x" * 400))
        outcome = await gw.outcome()
        assert outcome.estimated
        assert outcome.input_tokens == 100
        assert outcome.output_tokens


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        ("/v1/completions", {"model": "chat", "prompt": "hello"}),
        ("/v1/embeddings", {"model": "chat", "input": ["one", "two"]}),
    ],
)
async def test_every_api_reaches_its_path(path: str, body: dict[str, object]) -> None:
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        assert (await gw.send(body, path)).status == 200
        assert model.engine.records.by_path[path] == 1
