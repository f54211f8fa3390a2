"""A network of the tests' own: addresses that an EndpointSlice may name, on this machine alone.

The API server refuses loopback addresses in EndpointSlices. So the test process, and all that it
starts, moves into a network namespace that has nothing but its loopback interface, and that
interface gets addresses of TEST-NET-2 (RFC 5737). No packet can leave the machine.
"""

import ctypes
import fcntl
import os
import socket
import struct
from typing import Final

ADDRESSES: Final = ("198.51.100.2", "198.51.100.3")

_CLONE_NEWNET: Final = 0x40000000
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP: Final = 0x1


class NetworkUnavailable(Exception):
    """This process may not make a network namespace (it takes root)."""


def enter_own_network() -> tuple[str, ...]:
    """Move the calling thread, and what it starts from now on, into a network of its own.

    Returns the addresses there are beside 127.0.0.1. Raises NetworkUnavailable.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise NetworkUnavailable(os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _bring_up(control, "lo")
        for number, address in enumerate(ADDRESSES):
            alias = f"lo:{number}"
            _configure(control, _SIOCSIFADDR, alias, address)
            _configure(control, _SIOCSIFNETMASK, alias, "255.255.255.255")
    return ADDRESSES


def _bring_up(control: socket.socket, interface: str) -> None:
    request = struct.pack("16sH14x", interface.encode(), 0)
    (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
    request = struct.pack("16sH14x", interface.encode(), flags | _IFF_UP)
    fcntl.ioctl(control, _SIOCSIFFLAGS, request)


def _configure(control: socket.socket, call: int, interface: str, address: str) -> None:
    # struct ifreq: the name, then a sockaddr_in (family, port, address).
    request = struct.pack(
        "16sHH4s8x", interface.encode(), socket.AF_INET, 0, socket.inet_aton(address)
    )
    fcntl.ioctl(control, call, request)
