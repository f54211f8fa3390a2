"""What is learned is tested on a loop whose clock jumps: nothing sleeps."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from fakes.stores import MemoryRig
from fakes.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def rig() -> MemoryRig:
    """A store whose time is that of the loop, an hour ahead of it."""
    rig, loop = MemoryRig(), asyncio.get_running_loop()
    rig.store.clock_ms = lambda: round((loop.time() + 3_600) * 1000)
    return rig
