"""What a model refuses: a prompt that is too long, a wrong request, a credential."""

import asyncio
from typing import Any

import pytest

from fakes.gateway import (
    STREAM_HEAD,
    chat,
    event,
    external,
    failover,
    http,
)
from fakes.policies import keyring
from fakes.taking_turns import TakingTurns, answered, refused, streamed, taking_turns
from fakes.two_models import GOOD, alone, served, two
from switchboard_policy import ir
from switchboard_policy.names import credential_key, origin

pytestmark = pytest.mark.usefixtures("each_front")

OVERFLOWS = {
    "openai": refused(400, code="context_length_exceeded"),
    "vllm": refused(
        400,
        message="This model's maximum context length is 100 tokens. However, you requested 205 "
        "tokens (5 in the messages, 200 in the completion).",
        type="BadRequestError",
        code=400,
    ),
    "sglang": refused(
        400,
        message="The input (205 tokens) is longer than the model's context length (100 tokens).",
    ),
}


def windows(small: TakingTurns, large: TakingTurns, **fields: Any) -> tuple[ir.Entry, ...]:
    return (
        failover("small", "large", **fields),
        external("small", small.url, capabilities=ir.Capabilities(context_window_tokens=100)),
        external("large", large.url, capabilities=ir.Capabilities(context_window_tokens=1_000)),
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", OVERFLOWS)
async def test_a_prompt_that_is_too_long_goes_to_a_larger_window(form: str, stream: bool) -> None:
    async with (
        taking_turns(OVERFLOWS[form]) as small,
        taking_turns(streamed("good") if stream else GOOD) as large,
        served(*windows(small, large)) as gw,
    ):
        reply = await gw.send(chat(stream=stream))
        assert (reply.status, reply.headers["x-switchboard-backend"]) == (200, "ai/large")
        assert reply.headers["x-switchboard-reason"] == "fallback:context_overflow"
        assert [one.failure for one in (await gw.outcome()).attempts] == ["context_overflow", ""]


async def test_a_prompt_that_is_too_long_in_the_first_event_goes_to_a_larger_window() -> None:
    error = {"message": "maximum context length is 100 tokens", "code": 400}
    async with (
        taking_turns(STREAM_HEAD + event(error=error)) as small,
        taking_turns(streamed("good")) as large,
        served(*windows(small, large)) as gw,
    ):
        assert (await gw.send(chat(stream=True))).text == "good"


async def test_only_larger_windows_are_left_after_a_prompt_was_too_long() -> None:
    async with (
        taking_turns(OVERFLOWS["openai"]) as small,
        taking_turns(GOOD) as undeclared,
        taking_turns(refused(500)) as large,
        served(
            failover(["small"], ["undeclared"], ["large"]),
            external("undeclared", undeclared.url),
            *windows(small, large)[1:],
        ) as gw,
    ):
        assert (await gw.send(chat())).error["code"] == "upstream_server_error"
        assert not undeclared.seen


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", OVERFLOWS)
async def test_without_a_larger_window_the_caller_gets_the_upstreams_own_error(
    form: str, stream: bool
) -> None:
    async with (
        taking_turns(OVERFLOWS[form]) as large,
        taking_turns(GOOD) as small,
        served(
            failover("large", "small"),
            external("large", large.url, capabilities=ir.Capabilities(context_window_tokens=1_000)),
            external("small", small.url, capabilities=ir.Capabilities(context_window_tokens=100)),
        ) as gw,
    ):
        reply = await gw.send(chat(stream=stream))
        assert reply.status == 400
        assert OVERFLOWS[form].endswith(reply.body)
        assert reply.headers["x-switchboard-attempts"] == "1"
        assert not small.seen


async def test_where_the_larger_window_is_too_small_as_well_its_own_error_is_told() -> None:
    async with (
        taking_turns(OVERFLOWS["vllm"]) as small,
        taking_turns(refused(400, code="context_length_exceeded", message="still")) as large,
        served(*windows(small, large)) as gw,
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.json["error"]["message"]) == (400, "still")
        assert reply.headers["x-switchboard-attempts"] == "2"


WRONG = {
    "400": refused(400, code="invalid_value"),
    "400-filter": refused(400, code="content_filter"),
    "403-filter": refused(403, code="content_policy_violation"),
    "422": refused(422),
}


WRONG_EVENTS = {
    "filter-event": STREAM_HEAD + event(error={"message": "no", "code": "content_filter"}),
    "invalid-event": STREAM_HEAD + event(error={"message": "no", "type": "invalid_request_error"}),
}


@pytest.mark.parametrize(
    ("form", "stream"),
    [*((form, False) for form in WRONG), *((form, True) for form in WRONG | WRONG_EVENTS)],
)
async def test_what_the_caller_did_wrong_is_never_tried_again(form: str, stream: bool) -> None:
    async with (
        taking_turns((WRONG | WRONG_EVENTS)[form]) as model,
        taking_turns(GOOD) as other,
        served(*two(model, other)) as gw,
    ):
        for _ in range(2):
            reply = await gw.send(chat(stream=stream))
            assert reply.status in {400, 403, 422}
            assert reply.json["error"]["message"] == "no"
            assert reply.headers["x-switchboard-attempts"] == "1"
        assert (len(model.seen), len(other.seen)) == (2, 0)


def sealed(backend: ir.Backend, key: str) -> ir.Credential:
    raw = keyring().seal(key.encode(), backend.uid, origin(backend.url))
    return ir.Credential(backend=backend.name, key_id="k1", sealed=raw)


@pytest.mark.parametrize(
    "answer",
    [refused(401), refused(402), refused(403), refused(429, code="insufficient_quota")],
    ids=["401", "402", "403", "quota"],
)
async def test_a_refused_credential_is_not_asked_again_until_it_is_another(answer: bytes) -> None:
    async with taking_turns(answer, answered("rotated")) as bad, taking_turns(GOOD) as good:
        closed = external("bad", bad.url, credential=credential_key("ai", "bad"))
        entries = (failover("bad", "good"), closed, external("good", good.url))
        async with served(*entries, sealed(closed, "sk-1")) as gw:
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-reason"] == "fallback:auth"
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-reason"] == "tier_unavailable"
            assert len(bad.seen) == 1
            await gw.publish(*entries, sealed(closed, "sk-2"))
            assert (await gw.send(chat())).json["model"] == "the-rotated"
            assert b"Bearer sk-2" in bad.seen[1]


async def test_a_firewall_that_dislikes_one_request_does_not_stop_the_others() -> None:
    blocked = http(403, b"<html>blocked</html>", media_type="text/html")
    async with (
        taking_turns(blocked, answered("asked-again")) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        assert (await gw.send(chat())).headers["x-switchboard-reason"] == "fallback:auth"
        assert (await gw.send(chat())).json["model"] == "the-asked-again"


async def test_a_refused_credential_alone_is_told_without_asking_again() -> None:
    async with taking_turns(refused(401)) as bad, served(*alone(bad)) as gw:
        first, second = await gw.send(chat()), await gw.send(chat())
        for reply in (first, second):
            assert (reply.status, reply.error["code"]) == (502, "upstream_auth")
        assert int(second.headers["retry-after"]) <= 60
        assert len(bad.seen) == 1


async def test_a_refusal_whose_body_never_comes_is_not_waited_for() -> None:
    head = b"HTTP/1.1 429 Said\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, taking_turns(GOOD) as good:
        entries = failover("bad", "good"), external("bad", url), external("good", good.url)
        async with served(*entries) as gw:
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-reason"] == "fallback:rate_limited"
            assert (await gw.outcome()).duration_s < 1.5
