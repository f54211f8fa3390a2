"""Which addresses may be called: every network that is refused, in every spelling of it."""

import pytest

from switchboard_dataplane.upstream.addresses import (
    LOOPBACK,
    AddressGuard,
    AddressRefused,
    read_networks,
)

GUARD = AddressGuard()
METADATA = "169.254.169.254"
UNSPECIFIED = "0.0.0.0"  # noqa: S104 - no socket listens there

REFUSED = {
    UNSPECIFIED: "is unspecified",
    "0.1.2.3": "is unspecified",
    "127.0.0.1": "is loopback",
    "127.255.255.254": "is loopback",
    METADATA: "is link-local",
    "169.254.170.2": "is link-local",
    "224.0.0.1": "is multicast",
    "239.255.255.255": "is multicast",
    "255.255.255.255": "is broadcast",
    "100.100.100.200": "hands out the cloud's credentials",
    "168.63.129.16": "hands out the cloud's credentials",
    "192.0.0.192": "hands out the cloud's credentials",
    "::": "is unspecified",
    "::1": "is loopback",
    "fe80::1": "is link-local",
    "fe80::1%eth0": "is link-local",
    "febf::1": "is link-local",
    "ff02::1": "is multicast",
    "fd00:ec2::254": "hands out the cloud's credentials",
    "fd00:ec2::23": "hands out the cloud's credentials",
    "fd20:ce::254": "hands out the cloud's credentials",
    "fd00:42::42": "hands out the cloud's credentials",
    "::ffff:169.254.169.254": "is link-local",
    "::ffff:7f00:1": "is loopback",
    "::ffff:127.0.0.1%1": "is loopback",
    "::127.0.0.1": "which is loopback",
    "::ffff:0:169.254.169.254": "which is link-local",
    "64:ff9b::a9fe:a9fe": "which is link-local",
    "64:ff9b:1::127.0.0.1": "which is loopback",
    "2002:a9fe:a9fe::1": "which is link-local",
    # Teredo: the server's address as it is, the client's inverted.
    "2001:0:a9fe:a9fe::": "which is link-local",
    "2001:0:4136:e378:8000:63bf:5601:5601": "which is link-local",
}
"""Addresses as a resolver returns them, and why nothing is sent there."""

CALLED = (
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "8.8.8.8",
    "1.1.1.1",
    "240.0.0.1",
    "169.253.255.255",
    "169.255.0.0",
    "fd12:3456::1",
    "2606:4700::1111",
    "::ffff:10.0.0.1",
    "64:ff9b::808:808",
    "2002:808:808::1",
)

SPELLINGS = {
    "2130706433": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "0x7f.0.0.1": "127.0.0.1",
    "0X7F.1": "127.0.0.1",
    "0177.0.0.01": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "0": UNSPECIFIED,
    "2852039166": METADATA,
    "0xa9fea9fe": METADATA,
    "0xa9.0376.169.0xfe": METADATA,
    "\uff11\uff16\uff19.254.169.254": METADATA,
    "169\u3002254\u3002169\u3002254": METADATA,
    "[::1]": "::1",
    "[::ffff:a9fe:a9fe]": METADATA,
    "fe80::1%25eth0": "fe80::1",
    "localhost": "127.0.0.1",
    "LocalHost.": "127.0.0.1",
    "anything.localhost": "127.0.0.1",
}
"""What a host of a URL may look like, and the address that is meant."""


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_of_the_pod_or_the_node_or_the_cloud_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match=REFUSED[address]):
        GUARD.check(address)
    assert REFUSED[address] in GUARD.refusal(address)


@pytest.mark.parametrize("address", CALLED)
def test_addresses_where_models_live_are_called(address: str) -> None:
    GUARD.check(address)
    assert GUARD.refusal(address) == ""


@pytest.mark.parametrize("host", SPELLINGS)
def test_an_odd_spelling_hides_no_address(host: str) -> None:
    assert GUARD.refusal(host).startswith(f"{SPELLINGS[host]} ")


@pytest.mark.parametrize("host", ["api.example.com", "127.0.0.1.nip.io", "localhost.example", "-"])
def test_a_name_is_left_to_its_resolution(host: str) -> None:
    assert GUARD.refusal(host) == ""


def test_what_is_no_address_is_not_connected_to() -> None:
    with pytest.raises(AddressRefused, match="is no address"):
        GUARD.check("api.example.com")


def test_what_is_allowed_may_be_called_and_nothing_else() -> None:
    guard = AddressGuard(read_networks("127.0.0.1, ::1,169.254.170.0/24"))
    for address in ("127.0.0.1", "::1", "169.254.170.2", "::ffff:127.0.0.1"):
        guard.check(address)
    for address in ("127.0.0.2", METADATA, "::ffff:127.0.0.2"):
        with pytest.raises(AddressRefused):
            guard.check(address)


def test_leave_to_call_an_address_is_none_to_call_its_translations() -> None:
    """On the far side of a translator 127.0.0.1 is another machine's."""
    guard = AddressGuard(read_networks(LOOPBACK))
    for address in ("64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"):
        with pytest.raises(AddressRefused):
            guard.check(address)
    AddressGuard(read_networks("64:ff9b::/96")).check("64:ff9b::7f00:1")


@pytest.mark.parametrize("said", ["127.0.0.1/8", "localhost", "10.0.0.0/33", "a,b"])
def test_a_wrong_network_is_named(said: str) -> None:
    with pytest.raises(ValueError, match="is no network such as"):
        read_networks(said)


def test_no_network_is_none() -> None:
    assert read_networks(" , ") == ()
