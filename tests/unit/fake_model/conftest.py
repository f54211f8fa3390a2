"""Fake models on real sockets, most of them on a loop whose clock jumps."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack

import aiohttp
import pytest

from fakes.virtual_time import SocketTimeLoop
from switchboard_cli.fake_model.server import serve
from switchboard_cli.fake_model.settings import Settings, patch_settings
from unit.fake_model.caller import Fake, StartFake

#: They wait for processes, or for threads.
IN_REAL_TIME = {"test_leaving", "test_openai_client"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in IN_REAL_TIME:
        return {"real": asyncio.new_event_loop}
    return {"virtual": SocketTimeLoop}


@pytest.fixture
async def start_fake() -> AsyncGenerator[StartFake]:
    """Start fake models with the given settings; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Fake:
            serving = await stack.enter_async_context(serve(patch_settings(Settings(), settings)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Fake(serving, session)

        yield start
