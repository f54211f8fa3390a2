"""Crowds of callers before a pool of endpoints, and what is left of them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from types import CoroutineType
from typing import Any

import aiohttp

from fakes.gateway import CHAT, Gateway, chat, until
from fakes.policies import endpoints, policy, rule, service, tier
from switchboard_cli.fake_model.server import Serving
from switchboard_policy import ir

PATIENT = ir.Timeouts(connect_ms=20_000, total_ms=60_000, first_token_ms=60_000)


#: What a caller that leaves may cost at most, after it has left.
SOON_S = 0.1


def pool(
    models: Sequence[Serving], name: str = "pool", **fields: Any
) -> tuple[ir.Backend, ir.Endpoints]:
    """A service with these models for endpoints, of one slot each unless the fields say."""
    said: dict[str, Any] = {"model": "fake-model", "timeouts": PATIENT, "max_in_flight": 1}
    addresses = (model.url.removeprefix("http://") for model in models)
    return service(name, **(said | fields)), endpoints(name, *addresses)


def tiers(*names: str, spill: ir.Spill | None = None) -> ir.Policy:
    first, *rest = names
    built = [tier("near", first, spill=spill), *(tier("far", name) for name in rest)]
    return policy("chat", rule("default", *built))


@asynccontextmanager
async def crowd(gw: Gateway) -> AsyncGenerator[aiohttp.ClientSession]:
    """A caller with as many connections as it likes; afterwards nothing is left of its requests."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before = own_tasks()
        yield session
    await idle(gw)
    await until(lambda: own_tasks() <= before)


def own_tasks() -> int:
    """How many tasks the data plane has, beside those of callers and models."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    codes = [one.cr_code for one in coroutines if isinstance(one, CoroutineType)]
    return sum("switchboard_dataplane" in code.co_filename for code in codes)


async def idle(gw: Gateway, *, within_s: float = 30.0) -> None:
    """Wait until nothing is in flight, kept for anybody, waited for, or served."""
    signals = gw.plane.in_force.signals
    await until(lambda: not len(gw.plane.live), within_s=within_s)
    assert {one.in_flight for one in signals.values()} <= {0}
    assert {signals.backend(f"ai/{name}").in_flight for name in ("pool", "far")} == {0}
    assert not any(one.waiting for one in signals.values())
    assert waiting(gw) == 0


def waits_for(gw: Gateway, count: int) -> bool:
    return waiting(gw) == count


def waiting(gw: Gateway) -> int:
    return sum(gw.plane.in_force.queued().values()) + sum(gw.plane.in_force.waking().values())


async def ask(
    gw: Gateway,
    session: aiohttp.ClientSession,
    *,
    headers: dict[str, str] | None = None,
    **body: Any,
) -> tuple[int, str, str]:
    """Ask; return the status, who answered, and why it ended there."""
    async with session.post(gw.url + CHAT, json=chat(**body), headers=headers) as response:
        await response.read()
        named = response.headers
        return (
            response.status,
            named.get("x-switchboard-backend", ""),
            named["x-switchboard-reason"],
        )


async def page(gw: Gateway) -> str:
    return (await gw.admin("/metrics")).body.decode()
