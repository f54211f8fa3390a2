"""What is read out of a mesh's header, and whose word counts."""

from ipaddress import ip_network

import pytest

from switchboard_dataplane.access.mesh import HEADER_CHARS_MAX, PEERS_MAX, Mesh
from switchboard_dataplane.errors import Unauthenticated

WEB = "spiffe://cluster.local/ns/apps/sa/web"
EVIL = "spiffe://cluster.local/ns/kube-system/sa/admin"


def mesh(*networks: str) -> Mesh:
    return Mesh(tuple(map(ip_network, networks or ("10.0.0.0/8",))), header="xfcc")


@pytest.mark.parametrize(
    "said",
    [
        f"URI={WEB}",
        f'By=spiffe://cluster.local/ns/sb/sa/gateway;Hash=ab12;Subject="";URI={WEB}',
        f'By={EVIL};Hash=ab;URI="{WEB}";DNS=web.apps',
        f"Hash=ab;uri={WEB}",
        f"URI={EVIL},URI={WEB}",
        f"URI={EVIL}, Hash=1;URI={WEB}",
        f'Subject="CN=a,URI={EVIL}";URI={WEB}',
        f'Subject="CN=\\",URI={EVIL}";URI={WEB}',
        f'Subject="CN=\\\\";URI={WEB}',
        f"Cert=x%2Cy;URI=https://elsewhere.example;URI={WEB}",
        WEB,
        f"{EVIL},{WEB}",
    ],
)
def test_who_the_nearest_proxy_saw_is_the_caller(said: str) -> None:
    found = mesh().identify(said)
    assert (found.namespace, found.name) == ("apps", "web")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Hash=ab12",
        f"URI={WEB},",
        f"URI={WEB},Hash=ab12",
        f"By={WEB}",
        f"URI={WEB};URI={EVIL}",
        f'Subject="CN=a;URI={WEB}',
        f"Subject={WEB}",
        "URI=spiffe://cluster.local/ns/apps",
        "URI=spiffe://cluster.local/ns/apps/sa/",
        "URI=spiffe://cluster.local/ns/apps/sa/web/more",
        "URI=spiffe://cluster.local/ns/a/b/sa/web",
        "URI=spiffe://cluster.local/ns/Apps/sa/web",
        "URI=spiffe:///ns/apps/sa/web",
        "URI=spiffe://cluster.local/ns/apps/sa/web?x=y",
        "URI=https://cluster.local/ns/apps/sa/web",
        "URI=" + "a" * HEADER_CHARS_MAX,
    ],
)
def test_what_is_not_one_service_account_is_nobody(said: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        mesh().identify(said)
    assert caught.value.why == "bad_identity"


def test_peers_are_trusted_by_their_networks() -> None:
    one = mesh("10.0.0.0/8", "fd00::/16", "192.0.2.1/32")
    trusted = ["10.1.2.3", "fd00::1", "192.0.2.1", "::ffff:10.1.2.3", "fd00::1%eth0"]
    others = ["11.0.0.1", "fd01::1", "192.0.2.2", "::ffff:11.0.0.1", "", "name", "::"]
    for _ in range(2):
        assert [peer for peer in (*trusted, *others) if one.trusts(peer)] == trusted


def test_peers_without_number_are_not_remembered() -> None:
    one = mesh()
    for number in range(2 * PEERS_MAX):
        assert not one.trusts(f"192.0.{number >> 8}.{number & 255}")
    assert len(one._known) <= PEERS_MAX
    assert one.trusts("10.0.0.1")
