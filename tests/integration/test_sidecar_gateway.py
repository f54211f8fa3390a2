"""A sidecar's data plane before a gateway: what goes there, what comes back, what is listed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from cluster.processes import free_port
from fakes.gateway import (
    DONE,
    STREAM_HEAD,
    Gateway,
    chat,
    external,
    failover,
    fakes,
    gateway,
    http,
    said,
    scripted,
    until,
)
from fakes.policies import policy, rule, tier
from switchboard_dataplane import app
from switchboard_dataplane.front import gateway_models
from switchboard_dataplane.settings import CannotStart
from switchboard_policy import ir

NOBODY = "http://127.0.0.1:9"
ANSWER = b'{"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still is no gateway that does not tell, and no time to ask again."""
    monkeypatch.setattr(gateway_models, "ANSWER_S", 60.0)
    monkeypatch.setattr(gateway_models, "KEPT_S", 600.0)


def catch_all(url: str, **fields: Any) -> tuple[ir.Policy, ir.Backend]:
    """What a sidecar has beside its own: all other models go to the gateway at this URL."""
    behind = external("gateway", url, **fields)
    changed = {name: getattr(behind, name) for name in behind.__struct_fields__}
    return (
        policy(
            "gateway",
            rule("default", tier("gateway", "gateway")),
            models=("*",),
            namespace_rank=2**31,
        ),
        ir.Backend(**(changed | {"provider": "switchboard", "model": ""})),
    )


@asynccontextmanager
async def sidecar(url: str, *entries: ir.Entry, **settings: Any) -> AsyncGenerator[Gateway]:
    """A sidecar with these entries of its own before the gateway at a URL."""
    async with gateway(*catch_all(url), *entries, scope="ns/app", **settings) as running:
        yield running


def heard(request: bytes) -> dict[str, str]:
    """The headers of a request as they came."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


async def test_the_callers_model_hints_and_trace_go_on_and_its_key_does_not(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("aaa.bbb.ccc\n")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = orjson.dumps(chat() | {"model": "gpt-4o", "odd": 1.10})
    async with (
        scripted(http(200, ANSWER)) as behind,
        sidecar(behind.url, gateway_token_file=str(token)) as gw,
    ):
        reply = await gw.send(
            body,
            authorization="Bearer sk-callers",
            x_api_key="sk-callers",
            x_switchboard_tags="eu,fast",
            x_switchboard_session="s1",
            x_switchboard_backend="ai/other",
            traceparent=trace,
        )
    assert reply.status == 200
    (request,) = behind.seen
    headers = heard(request)
    assert request.endswith(body)
    assert headers["authorization"] == "Bearer aaa.bbb.ccc"
    assert (headers["x-switchboard-tags"], headers["x-switchboard-session"]) == ("eu,fast", "s1")
    assert headers["traceparent"] == trace
    assert "x-switchboard-backend" not in headers
    assert b"sk-callers" not in request


async def test_its_callers_are_the_pods_account_whatever_key_they_show() -> None:
    by = policy(
        "by",
        rule("mine", tier("only", "model"), when='client.name == "shop" && client.kind != ""'),
        rule("other", tier("only", "model")),
        models=("own",),
    )
    account = {"access": "pod", "service_account": "shop", "pod_namespace": "app"}
    async with (
        fakes({}) as (model,),
        sidecar(NOBODY, by, external("model", model.url), **account) as gw,
    ):
        for shown in ({}, {"authorization": "Bearer anything"}):
            reply = await gw.send(chat() | {"model": "own"}, **shown)
            assert (reply.status, reply.headers["x-switchboard-rule"]) == (200, "mine")


async def test_a_model_of_its_own_is_told_neither_hints_nor_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("aaa.bbb.ccc")
    async with scripted(http(200, ANSWER)) as model:
        own = (failover("model"), external("model", model.url))
        async with sidecar(NOBODY, *own, gateway_token_file=str(token)) as gw:
            assert (await gw.send(chat(), x_switchboard_tags="eu")).status == 200
    (request,) = model.seen
    assert b"aaa.bbb" not in request
    assert b"x-switchboard" not in request
    assert b'"fake-model"' in request


async def test_a_token_that_is_replaced_is_shown_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "REFRESH_S", 0.01)
    token = tmp_path / "token"
    token.write_text("first")
    async with (
        scripted(http(200, ANSWER)) as behind,
        sidecar(behind.url, gateway_token_file=str(token)) as gw,
    ):
        await gw.send(chat())
        current = gw.plane.beside.gateway_token
        # Not one to show: it would begin a header of its own. The last good one stays.
        token.write_text("bad\r\nx-evil: 1")
        await asyncio.sleep(0.05)
        assert current.value == "first"
        following = tmp_path / "following"
        following.write_text("second")
        following.rename(token)
        await until(lambda: current.value == "second")
        token.unlink()
        await gw.send(chat())
    assert [heard(request)["authorization"] for request in behind.seen] == [
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("content", [None, "", "two words", "x" * 20_000])
async def test_a_sidecar_without_a_token_does_not_start(
    tmp_path: Path, content: str | None
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    with pytest.raises(CannotStart, match="--gateway-token-file"):
        async with sidecar(NOBODY, gateway_token_file=str(token)):
            pass


async def test_it_is_told_how_either_of_them_routed_a_request() -> None:
    async with fakes({}) as (model,):
        there = (failover("model"), external("model", model.url))
        async with gateway(*there) as behind, sidecar(behind.url) as gw:
            whole, streamed = await gw.send(chat()), await gw.send(chat(stream=True))
            for reply in (whole, streamed):
                assert reply.status == 200
                assert reply.headers["x-switchboard-backend"] == "ai/gateway"
                assert reply.headers["x-switchboard-gateway-backend"] == "ai/model"
                assert reply.headers["x-switchboard-gateway-reason"] == "primary"
            assert streamed.text.startswith("This is a")
            assert model.engine.records.seen == 2
        async with gateway(*there) as behind, sidecar(behind.url, detail_headers=False) as gw:
            told = (await gw.send(chat())).headers
            assert not [name for name in told if name.startswith("x-switchboard")]


async def test_a_refusal_of_the_gateway_is_the_answer_and_stops_no_other_model() -> None:
    away = policy("away", rule("default", tier("only", "away")), models=("away",))
    async with fakes({}) as (model,):
        there = (
            *(failover("model"), external("model", model.url)),
            *(away, external("away", NOBODY)),
        )
        async with gateway(*there) as behind, sidecar(behind.url) as gw:
            # More than a breaker takes.
            for _ in range(8):
                reply = await gw.send(chat() | {"model": "away"})
                assert (reply.status, reply.error["code"]) == (502, "upstream_connect")
                assert reply.headers["x-switchboard-attempts"] == "1"
            reply = await gw.send(chat() | {"model": "nobody-has-it"})
            assert (reply.status, reply.error["code"]) == (404, "model_not_found")
            reply = await gw.send(chat())
            assert (reply.status, reply.headers["x-switchboard-reason"]) == (200, "primary")


LIMITED = b'{"error":{"message":"m","type":"t","param":null,"code":"upstream_rate_limited"}}'


async def test_a_limit_of_one_model_does_not_rest_the_gateway() -> None:
    async with (
        scripted(http(429, LIMITED, "retry-after: 30")) as behind,
        sidecar(behind.url) as gw,
    ):
        for number in range(2):
            reply = await gw.send(chat())
            assert (reply.status, reply.error["code"]) == (429, "upstream_rate_limited")
            assert reply.headers["retry-after"] == "30"
            assert len(behind.seen) == number + 1


async def test_an_account_behind_the_gateway_that_is_used_up_is_not_the_gateways() -> None:
    used_up = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 60s")
    async with scripted(http(200, ANSWER, *used_up)) as behind:
        async with sidecar(behind.url) as gw:
            assert (await gw.send(chat())).status == 200
            assert not gw.plane.in_force.signals.marks.of("ai/gateway")
        # Of a provider's own account it is remembered.
        async with gateway(failover("model"), external("model", behind.url)) as gw:
            assert (await gw.send(chat())).status == 200
            assert gw.plane.in_force.signals.marks.of("ai/model")


@pytest.mark.parametrize(
    ("status", "code", "heard_by_caller"),
    [
        (503, "shutting_down", (503, "upstream_overloaded")),
        (503, "not_ready", (503, "upstream_overloaded")),
        (401, "invalid_api_key", (502, "upstream_auth")),
        (404, "unknown_url", (502, "upstream_misconfigured")),
        (403, "model_not_allowed", (403, "model_not_allowed")),
        (503, "no_candidate", (503, "no_candidate")),
        (504, "deadline_exceeded", (504, "deadline_exceeded")),
    ],
)
async def test_what_a_gateway_says_of_itself_is_a_failure_and_of_a_request_an_answer(
    status: int, code: str, heard_by_caller: tuple[int, str]
) -> None:
    body = orjson.dumps({"error": {"message": "m", "type": "t", "param": None, "code": code}})
    async with scripted(http(status, body)) as behind, sidecar(behind.url) as gw:
        for _ in range(2):
            reply = await gw.send(chat())
            assert (reply.status, reply.error["code"]) == heard_by_caller


async def test_a_stream_that_the_gateway_breaks_is_told_as_any() -> None:
    head = STREAM_HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
    event = said("one ")
    async with (
        scripted(head, b"%x\r\n%b\r\n" % (len(event), event), None) as behind,
        sidecar(behind.url) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.events[-1]["error"]["code"] == "upstream_reset"
        assert DONE not in reply.body


async def test_own_models_are_served_while_the_gateway_is_away_and_all_when_it_returns() -> None:
    port = free_port()
    async with fakes({}, {}) as (near, far):
        own = (failover("near"), external("near", near.url))
        remote = policy("far", rule("default", tier("only", "far")), models=("far",))
        async with sidecar(f"http://127.0.0.1:{port}", *own) as gw:
            for _ in range(8):
                reply = await gw.send(chat() | {"model": "far"})
                assert (reply.status, reply.error["code"]) == (502, "upstream_connect")
                assert (await gw.send(chat())).status == 200
            there = (remote, external("far", far.url))
            async with gateway(*there, listen=f"127.0.0.1:{port}"):
                # At once: whatever its breaker says, there is no other way there.
                assert (await gw.send(chat() | {"model": "far"})).status == 200


@pytest.mark.usefixtures("each_front")
async def test_it_lists_its_own_models_and_those_of_the_gateway() -> None:
    near, far = (
        policy(name, rule("default", tier("only", "model")), models=(name, "both"))
        for name in ("near", "far")
    )
    model = external("model", NOBODY)
    async with gateway(far, model) as behind, sidecar(behind.url, near, model) as gw:
        listed = (await gw.get("/v1/models")).json
        assert [one["id"] for one in listed["data"]] == ["both", "far", "near"]


@pytest.mark.usefixtures("each_front")
async def test_a_model_is_one_where_the_sidecar_has_it_or_the_gateway_says_so() -> None:
    near, far = (
        policy(name, rule("default", tier("only", "model")), models=(model,))
        for name, model in (("near", "near"), ("far", "org/far"))
    )
    model = external("model", NOBODY)
    async with gateway(far, model) as behind, sidecar(behind.url, near, model) as gw:
        for name, status in (("near", 200), ("org%2Ffar", 200), ("nobodys", 404)):
            assert (await gw.get(f"/v1/models/{name}")).status == status, name


@pytest.mark.parametrize("answer", [http(500, b"{}"), http(401, b"{}"), None])
async def test_it_says_so_where_the_gateway_does_not_tell_of_a_model(answer: bytes | None) -> None:
    own = (failover("model"), external("model", NOBODY))
    async with scripted(answer) as behind, sidecar(behind.url, *own) as gw:
        assert (await gw.get("/v1/models/chat")).status == 200
        reply = await gw.get("/v1/models/far")
        assert (reply.status, reply.error["code"]) == (502, "upstream_connect")
        assert len(behind.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [http(500, b"{}"), http(200, b"[1]"), http(200, b'{"data":[{"id":1}]}'), None, 60.0],
    ids=["an error", "no list", "no names", "a reset", "silence"],
)
async def test_it_lists_its_own_where_the_gateway_does_not_tell(
    answer: bytes | float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_models, "ANSWER_S", 0.1)
    own = (failover("model"), external("model", NOBODY))
    async with scripted(answer) as behind, sidecar(behind.url, *own) as gw:
        for _ in range(2):
            listed = (await gw.get("/v1/models")).json
            assert [one["id"] for one in listed["data"]] == ["chat"]
        # It is not waited for again and again.
        assert len(behind.seen) == 1


async def test_the_list_is_asked_for_with_the_token_and_by_many_at_once_only_once(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("aaa.bbb.ccc")
    async with (
        scripted(0.05, http(200, b'{"object":"list","data":[{"id":"far"}]}')) as behind,
        sidecar(behind.url, gateway_token_file=str(token)) as gw,
    ):
        replies = await asyncio.gather(*(gw.get("/v1/models") for _ in range(5)))
        assert {reply.json["data"][0]["id"] for reply in replies} == {"far"}
    (request,) = behind.seen
    assert request.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert heard(request)["authorization"] == "Bearer aaa.bbb.ccc"


async def test_a_gateway_of_a_gateways_scope_asks_nobody_for_models() -> None:
    async with scripted(http(200, b"{}")) as behind, gateway(*catch_all(behind.url)) as gw:
        assert (await gw.get("/v1/models")).json["data"] == []
        assert behind.seen == []
