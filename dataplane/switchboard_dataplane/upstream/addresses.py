"""Which addresses nothing is sent to, whatever a custom resource says.

Whoever may write a ModelBackend chooses where a data plane connects to. Models live in the cluster
and outside of it; what no model has is an address of the pod or the node itself, or one that hands
out credentials to whoever asks. Those are refused unless the data plane's settings allow them.

The address is checked that the socket is then connected to, after the name was resolved: a name
that resolves to another one a moment later changes nothing. What hosts of URLs say is read as well,
where the policy is taken in, so that its author is told.
"""

import re
import socket
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

#: What a data plane on somebody's own machine allows, in the form of ``--allow-addresses``.
LOOPBACK: Final = "127.0.0.0/8,::1"

#: Verdicts kept, by host (200 bytes each): with each change all endpoints of a backend are judged.
VERDICTS_MAX: Final = 16_384

_METADATA: Final = "hands out the cloud's credentials"

#: Networks that are refused, and what they are. "IANA" are its special-purpose registries.
_REFUSED: Final = (
    ("0.0.0.0/8", "is unspecified"),  # RFC 1122, 3.2.1.3; Linux connects it to the pod itself
    ("127.0.0.0/8", "is loopback"),  # RFC 1122, 3.2.1.3; IANA
    ("169.254.0.0/16", "is link-local"),  # RFC 3927; IANA: among them 169.254.169.254
    ("224.0.0.0/4", "is multicast"),  # RFC 5771; IANA
    ("255.255.255.255/32", "is broadcast"),  # RFC 919 and 8190; IANA
    ("100.100.100.200/32", _METADATA),  # Alibaba Cloud, within RFC 6598's shared space
    ("168.63.129.16/32", _METADATA),  # Azure's WireServer, a public address that is the host's
    ("192.0.0.192/32", _METADATA),  # Oracle Cloud Classic, within RFC 6890's protocol assignments
    ("::/128", "is unspecified"),  # RFC 4291, 2.5.2; IANA
    ("::1/128", "is loopback"),  # RFC 4291, 2.5.3; IANA
    ("fe80::/10", "is link-local"),  # RFC 4291, 2.5.6; IANA
    ("ff00::/8", "is multicast"),  # RFC 4291, 2.7; IANA
    ("fd00:ec2::/32", _METADATA),  # AWS: ::254 is the instance's, ::23 the pod's; within RFC 4193
    ("fd20:ce::254/128", _METADATA),  # Google Cloud, within RFC 4193
    ("fd00:42::42/128", _METADATA),  # Scaleway, within RFC 4193
)

#: IPv6 addresses with an IPv4 address in their last four bytes, to which something on the way
#: translates them. (IPv4-mapped ones are no such: the socket speaks IPv4.)
_TRANSLATED: Final = (
    "::/96",  # IPv4-compatible: RFC 4291, 2.5.5.1
    "::ffff:0:0:0/96",  # IPv4-translated: RFC 2765, 2.1
    "64:ff9b::/96",  # NAT64: RFC 6052, 2.1; IANA
    "64:ff9b:1::/48",  # NAT64 of the network's own: RFC 8215; IANA
)

#: How ``inet_aton``, and with it a resolver, writes IPv4: up to four numbers, 0x… or 0… perhaps.
_NUMBERS: Final = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)
#: RFC 6761, 6.3: these names are the loopback's wherever they are resolved.
_LOCAL_NAMES: Final = ("localhost", "ip6-localhost", "ip6-loopback")


class AddressRefused(OSError):
    """No connection is opened to this address: see ``AddressGuard``."""


class AddressGuard:
    """Says what may not be connected to; ``allowed`` as read by ``read_networks``."""

    __slots__ = ("_allowed", "_judge", "_refused", "_translated")

    def __init__(self, allowed: tuple[_Network, ...] = ()) -> None:
        self._allowed = allowed
        self._refused = tuple((ip_network(one), what) for one, what in _REFUSED)
        self._translated = tuple(map(ip_network, _TRANSLATED))
        self._judge = lru_cache(VERDICTS_MAX)(self._refusal)

    def check(self, address: str) -> None:
        """Raise AddressRefused where no connection may be opened to an address.

        It is one as a resolver returns it, perhaps with a zone; what is none is refused too.
        """
        read = _read(address)
        why = f"{address[:64]!r} is no address" if read is None else self._why(read)
        if why:
            raise AddressRefused(f"{why}, and --allow-addresses does not name it")

    def refusal(self, host: str) -> str:
        """Say why the host of a URL may not be called, "" where it may or where it is a name.

        All spellings are read that a resolver would read: numbers in tens, eights and sixteens,
        with less than three dots, a dot at the end, digits of other scripts.
        """
        return self._judge(host)

    def _refusal(self, host: str) -> str:
        read = _read(host)
        return "" if read is None else self._why(read)

    def _why(self, address: _Address) -> str:
        if any(address in network for network in self._allowed):
            return ""
        for network, what in self._refused:
            if address in network:
                return f"{address} {what}"
        if isinstance(address, IPv6Address):
            for inner in self._inner(address):
                for network, what in self._refused:
                    if inner in network:
                        return f"{address} leads to {inner}, which {what}"
        return ""

    def _inner(self, address: IPv6Address) -> Iterator[IPv4Address]:
        """Yield the IPv4 addresses that an IPv6 address stands for on its way."""
        if any(address in network for network in self._translated):
            yield IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.sixtofour is not None:  # 2002::/16: RFC 3056, 2
            yield address.sixtofour
        if address.teredo is not None:  # 2001::/32: RFC 4380, 4; a server and a client
            yield from address.teredo


def read_networks(text: str) -> tuple[_Network, ...]:
    """Read networks and addresses that are separated by commas; raises ValueError naming one."""
    networks: list[_Network] = []
    for one in filter(None, map(str.strip, text.split(","))):
        try:
            networks.append(ip_network(one))
        except ValueError as error:
            raise ValueError(f"{one!r} is no network such as 127.0.0.0/8: {error}") from error
    return tuple(networks)


def _read(host: str) -> _Address | None:
    """Return the address that a host is, None for a name."""
    plain = _plain(host)
    if plain in _LOCAL_NAMES or plain.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        read = ip_address(plain)
    except ValueError:
        return _read_numbers(plain)
    if isinstance(read, IPv6Address) and read.ipv4_mapped is not None:
        # RFC 4291, 2.5.5.2: the socket speaks IPv4, to that very address.
        return read.ipv4_mapped
    return read


def _read_numbers(text: str) -> IPv4Address | None:
    if _NUMBERS.fullmatch(text) is None:
        return None
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _plain(host: str) -> str:
    """Return a host without brackets, zone and final dot, its characters those of ASCII."""
    text = host.strip("[]").partition("%")[0]
    if not text.isascii():
        try:
            # What asyncio does with a name before it resolves it.
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return text
    return text.removesuffix(".").lower()
