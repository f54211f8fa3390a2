"""Opens a socket to a host by whichever of its addresses answers first (RFC 8305).

Not ``create_connection(happy_eyeballs_delay=…)``: cancelled as an address answers, that leaves an
open socket behind in Python 3.11.
"""

import asyncio
import socket
from itertools import chain, zip_longest
from typing import Any, Final, NamedTuple

from switchboard_dataplane.upstream.addresses import AddressGuard

#: How long one address of a name is tried before the next one joins in, in seconds.
ADDRESS_DELAY_S: Final = 0.25


class _Address(NamedTuple):
    family: int
    address: Any


async def dial(
    loop: asyncio.AbstractEventLoop, host: str, port: int, guard: AddressGuard
) -> socket.socket:
    """Return a connected socket; raises OSError, and ValueError for a name that is none.

    An address that the guard refuses is none of the host's. Cancelling it leaves nothing open.
    """
    addresses = await _resolve(loop, host, port)
    if len(addresses) == 1:
        return await _connect(loop, addresses[0], guard)
    return await _race(loop, addresses, guard)


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_Address]:
    """Return the addresses in the order of the resolver, but its families in turn."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [_Address(family, (host, port))]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [_Address(family, address) for family, _, _, _, address in found]
    if not addresses:
        raise OSError(f"{host} has no address")
    first = [one for one in addresses if one.family == addresses[0].family]
    others = [one for one in addresses if one.family != addresses[0].family]
    turns = chain.from_iterable(zip_longest(first, others))
    return [one for one in turns if one is not None]


async def _race(
    loop: asyncio.AbstractEventLoop, addresses: list[_Address], guard: AddressGuard
) -> socket.socket:
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError | None = None
    try:
        for number, address in enumerate(addresses, start=1):
            attempts.add(loop.create_task(_connect(loop, address, guard)))
            wait_s = ADDRESS_DELAY_S if number < len(addresses) else None
            while attempts:
                done, _ = await asyncio.wait(
                    attempts, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                for one in done:
                    attempts.discard(one)
                    error = one.exception()
                    if error is None:
                        return one.result()
                    if not isinstance(error, OSError):
                        raise error
                    failure = error
                if wait_s is not None:
                    # One that has failed, or takes long, is joined by the next.
                    break
        raise failure or OSError("no address answered")
    finally:
        for one in attempts:
            one.cancel()
            one.add_done_callback(_close)


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what came too late."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(
    loop: asyncio.AbstractEventLoop, address: _Address, guard: AddressGuard
) -> socket.socket:
    # Here and not where the name is resolved: nothing else comes between this and the connection.
    guard.check(address.address[0])
    one = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.settimeout(0.0)
        await loop.sock_connect(one, address.address)
    except BaseException:
        one.close()
        raise
    return one
