"""Faults of upstreams, through a whole data plane: they cost a failover, and the log says why."""

import gzip

import pytest

from cluster.processes import free_port
from cluster.tls import Authority
from fakes.gateway import chat, external, failover, fakes, gateway, http, said, scripted
from fakes.upstreams import forward, keep_answering, peer

COMPRESSED = "content-encoding: gzip"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    module = "switchboard_dataplane.upstream.fault_log"
    return [one.message for one in caplog.records if one.name == module]


@pytest.mark.parametrize("proxied", [False, True])
async def test_a_bad_certificate_is_warned_of_once_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    proxied: bool,
) -> None:
    ours = Authority(tmp_path_factory.mktemp("ours"))
    context = ours.issue("other.example").context()
    async with (
        peer(forward) as proxy,
        peer(keep_answering, tls=context) as bad,
        fakes({}) as (good,),
    ):
        host = "127.0.0.1"
        if proxied:
            host = "model.example"
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        entries = (external("bad", f"https://{host}:{bad.port}"), external("good", good.url))
        ca_file = str(ours.file)
        async with gateway(failover("bad", "good"), *entries, upstream_ca_file=ca_file) as gw:
            for _ in range(3):
                assert (await gw.send(chat())).status == 200
        assert bool(proxy.requests) == proxied
    (warning,) = warnings_of(caplog)
    assert f"ai/bad@{host}:{bad.port}" in warning
    assert f"its certificate is refused: {'Hostname' if proxied else 'IP address'} mism" in warning


async def test_a_proxy_that_is_away_is_warned_of_without_its_password(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{free_port()}")
    entry = external("one", "http://model.example")
    async with gateway(failover("one"), entry) as gw:
        assert (await gw.send(chat())).status == 502
    (warning,) = warnings_of(caplog)
    assert "ai/one@model.example:80" in warning
    assert "Connect call failed" in warning
    assert "secret" not in caplog.text


async def test_an_endpoint_that_nobody_listens_at_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    async with gateway(failover("one"), external("one", f"http://127.0.0.1:{port}")) as gw:
        assert (await gw.send(chat())).error["code"] == "upstream_connect"
    (warning,) = warnings_of(caplog)
    assert f"ai/one@127.0.0.1:{port}" in warning
    assert "Connect call failed" in warning


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_compressed_answer_costs_a_failover_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    *,
    stream: bool,
    proxied: bool,
) -> None:
    body = gzip.compress(said("hello") if stream else b'{"choices": []}')
    media_type = "text/event-stream" if stream else "application/json"
    answer = http(status, body, COMPRESSED, media_type=media_type)
    async with scripted(answer) as bad, fakes({}) as (good,):
        url = bad.url
        if proxied:
            # It answers as the proxy that it is taken for.
            monkeypatch.setenv("HTTP_PROXY", bad.url)
            url = "http://model.example"
        why = "backend ai/bad sent content-encoding gzip though identity was asked for"
        entries = (external("bad", url), external("good", good.url))
        async with gateway(failover("bad", "good"), *entries) as gw:
            answered = await gw.send(chat(stream=stream))
            assert answered.status == 200
            assert answered.headers["x-switchboard-reason"] == "fallback:protocol"
            # An exporter that another test left may meet the proxy, too.
            assert sum(b"/chat/completions" in one for one in bad.seen) == 1
            assert [one.endswith(why) for one in warnings_of(caplog)] == [True]
            await gw.publish(failover("bad"), *entries)
            error = (await gw.send(chat(stream=stream))).error
            assert error["code"] == "upstream_protocol"
            assert why in error["message"]
