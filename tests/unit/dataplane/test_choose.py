"""Which origins are exempt from a forward proxy, and which proxies can be used."""

import ssl

import pytest

from fakes.loopback import GUARD
from switchboard_dataplane.upstream.choose import choose_upstream, goes_direct
from switchboard_dataplane.upstream.http1 import Http1Upstream

TLS = ssl.create_default_context()


@pytest.mark.parametrize(
    ("netloc", "no_proxy", "direct"),
    [
        ("api.openai.com", "", False),
        ("api.openai.com", "*", True),
        ("api.openai.com", "openai.com", True),
        ("api.openai.com", ".openai.com", True),
        ("api.openai.com", "*.openai.com", True),
        ("api.openai.com", " x , API.OpenAI.com ", True),
        ("api.openai.com", "api.openai.com:443", False),
        ("api.openai.com:443", "api.openai.com:443", True),
        ("api.openai.com:444", "api.openai.com:443", False),
        ("api.openai.com:444", "openai.com", True),
        ("notopenai.com", "openai.com", False),
        ("openai.com", "api.openai.com", False),
        ("llm.corp", ",,", False),
        ("10.1.2.3:8000", "10.0.0.0/8", True),
        ("10.1.2.3:8000", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8/9", False),
        ("llm.corp", "10.0.0.0/8", False),
        ("[fd00::1]:80", "fd00::/8", True),
        ("[fd00::1]:80", "10.0.0.0/8", False),
        ("127.0.0.1:80", "", True),
        ("[::1]:80", "", True),
        ("localhost:80", "", True),
    ],
)
def test_what_is_exempt_from_a_proxy(netloc: str, no_proxy: str, direct: bool) -> None:
    assert goes_direct(netloc, no_proxy) is direct


async def test_without_a_proxy_there_is_but_our_transport() -> None:
    upstream = choose_upstream(
        tls=TLS, guard=GUARD, proxies={"no": "*", "ftp": "http://proxy:3128"}
    )
    assert isinstance(upstream, Http1Upstream)
    await upstream.close()


async def test_a_proxy_without_a_scheme_is_one_of_http() -> None:
    upstream = choose_upstream(tls=TLS, guard=GUARD, proxies={"https": "me:secret@proxy:3128"})
    assert not isinstance(upstream, Http1Upstream)
    await upstream.close()


@pytest.mark.parametrize("said", ["socks5://me:secret@proxy:1080", "http://:secret@/", "http://"])
async def test_a_proxy_that_cannot_be_used_is_told_without_its_password(said: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY") as problem:
        choose_upstream(tls=TLS, guard=GUARD, proxies={"https": said})
    assert "secret" not in str(problem.value)
