"""Headers that claim what is not so, on their way up and back."""

import orjson
import pytest

from fakes.defences import off, passes, without
from fakes.gateway import external, failover, gateway, http, scripted
from fakes.policies import keyring
from fakes.raw_caller import calling, request
from switchboard_dataplane.wire import headers
from switchboard_policy import ir
from switchboard_policy.names import credential_key, origin

ANSWER = http(200, b'{"choices": []}')

pytestmark = pytest.mark.usefixtures("each_front")


async def seen_upstream(*lines: str) -> bytes:
    """Return the head, in lower case, that reaches a backend of a request with these headers."""
    async with scripted(ANSWER) as model:
        entry = external("a", model.url, credential=credential_key("ai", "a"))
        sealed = keyring().seal(b"sk-of-the-backend", entry.uid, origin(entry.url))
        held = ir.Credential(backend="ai/a", key_id="k1", sealed=sealed)
        async with gateway(failover("a"), entry, held) as gw, calling(gw) as caller:
            await caller.write(request("hi", *lines))
            assert (await caller.answer()).status == 200
    (seen,) = model.seen
    return seen.partition(b"\r\n\r\n")[0].lower()


@without(off(headers, "_goes_upstream", passes(value=True)))
@pytest.mark.parametrize(
    "line",
    [
        "x-switchboard-tags: eu",
        "x-switchboard-anything: 1",
        "X-Switchboard-Session: someone",
        "cookie: session=1",
        "x-api-key: sk-of-the-caller",
        "api-key: sk-of-the-caller",
        "openai-organization: org-of-the-caller",
        "proxy-authorization: Basic c2VjcmV0",
        "te: trailers",
        "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/apps/sa/web",
    ],
)
async def test_what_a_caller_says_to_the_gateway_does_not_reach_a_model(
    defended: bool, line: str
) -> None:
    assert (line.lower().encode() in await seen_upstream(line)) is not defended


@without(off(headers, "_CALLERS_OWN", frozenset()), off(headers, "_NOT_UPSTREAM", frozenset()))
async def test_a_callers_key_takes_no_backends_place(defended: bool) -> None:
    head = await seen_upstream("authorization: Bearer sk-of-the-caller")
    assert (b"sk-of-the-caller" in head) is not defended
    assert b"authorization: bearer sk-of-the-backend" in head


@without(off(headers, "_without_named", lambda pairs, _: list(pairs)))
async def test_what_is_for_one_connection_goes_no_further(defended: bool) -> None:
    """A header that Connection names is dropped, so none of ours can be: they are set after."""
    head = await seen_upstream("connection: close, x-private", "x-private: mine")
    assert (b"x-private: mine" in head) is not defended


async def test_a_caller_cannot_have_the_gateways_own_headers_dropped() -> None:
    head = await seen_upstream("connection: close, authorization, content-type, host")
    for own in (b"authorization: bearer sk-of-the-backend", b"content-type: application/json"):
        assert own in head
    assert head.count(b"\r\nhost: ") == 1


@pytest.mark.parametrize("host", ["evil.example", "169.254.169.254"])
async def test_the_host_and_where_a_request_came_from_change_nothing(host: str) -> None:
    """Forwarded headers are what callers say: nothing is decided by them, or sent to them."""
    lines = (f"x-forwarded-host: {host}", f"forwarded: host={host}", "x-real-ip: 127.0.0.1")
    sent = request("hi", *lines).replace(b"host: gateway", f"host: {host}".encode(), 1)
    async with (
        scripted(ANSWER) as model,
        gateway(failover("a"), external("a", model.url)) as gw,
        calling(gw) as caller,
    ):
        await caller.write(sent)
        answer = await caller.answer()
    assert answer.status == 200
    assert host not in orjson.dumps(dict(answer.headers)).decode()
    assert f"\r\nhost: {host}".encode() not in model.seen[0].lower()
