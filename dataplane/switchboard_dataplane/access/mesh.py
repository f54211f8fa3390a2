"""The identity that a mesh's proxies vouch for: a SPIFFE URI in a header of theirs.

Anybody can write that header, so it counts from peers that are trusted alone, and of what stands
in it the last: what the nearest proxy said, and not what it was told.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.errors import Unauthenticated

Network = IPv4Network | IPv6Network

#: More than a proxy writes, and less than takes any time to read.
HEADER_CHARS_MAX: Final = 16_384
#: Peers whose trust is remembered: those of a mesh are few, and come again.
PEERS_MAX: Final = 4_096

_LABEL: Final = "[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_SPIFFE: Final = re.compile(
    rf"spiffe://(?P<domain>[-._a-z0-9]{{1,255}})/ns/(?P<namespace>{_LABEL})/sa/(?P<name>{_LABEL})"
)


class Mesh:
    """Reads identities out of the header of that lower-case name, from peers in ``trusted``."""

    def __init__(self, trusted: Sequence[Network], *, header: str) -> None:
        self.header: Final = header
        self._trusted: Final = trusted
        self._known: Final[dict[str, bool]] = {}

    def trusts(self, peer: str) -> bool:
        """Say whether an address, "" where it is not known, is one of a trusted proxy."""
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= PEERS_MAX:
                self._known.clear()
            known = self._known[peer] = self._is_trusted(peer)
        return known

    def identify(self, said: str) -> Client:
        """Return who the nearest proxy says it is; raises Unauthenticated."""
        uris = list(_spiffe_uris(_last_element(said)))
        match = _SPIFFE.fullmatch(uris[0]) if len(uris) == 1 else None
        if match is None:
            raise _unknown(f"{self.header} does not end in one identity of a ServiceAccount")
        return Client(
            "mesh",
            match["name"],
            match["namespace"],
            labels={"trust-domain": match["domain"]},
        )

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def _unknown(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"it cannot be told who calls: {why}, such as URI=spiffe://DOMAIN/ns/NAMESPACE/sa/NAME",
        why="bad_identity",
    )


def _last_element(said: str) -> str:
    """Return what follows the last comma that is not quoted."""
    if len(said) > HEADER_CHARS_MAX:
        raise _unknown(f"the header has over {HEADER_CHARS_MAX} characters")
    *_, last = _split(said, ",")
    return last.strip()


def _spiffe_uris(element: str) -> Iterator[str]:
    """Yield the SPIFFE URIs of an element: of its URI pairs, or the element itself."""
    for pair in _split(element, ";"):
        name, equals, value = pair.strip().partition("=")
        value = value if equals else name
        named = not equals or name.lower() == "uri"
        value = value.removeprefix('"').removesuffix('"')
        if named and value.startswith("spiffe://"):
            yield value


def _split(said: str, separator: str) -> Iterator[str]:
    """Yield the parts of a text; what is in quotes, where a backslash takes the next, is whole."""
    start, quoted, escaped = 0, False, False
    for place, one in enumerate(said):
        if escaped:
            escaped = False
        elif quoted and one == "\\":
            escaped = True
        elif one == '"':
            quoted = not quoted
        elif one == separator and not quoted:
            yield said[start:place]
            start = place + 1
    if quoted:
        raise _unknown("a quotation in the header has no end")
    yield said[start:]
