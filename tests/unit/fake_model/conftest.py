"""Fake models on real sockets."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from switchboard_cli.fake_model.server import serve
from switchboard_cli.fake_model.settings import Settings, patch_settings
from unit.fake_model.caller import Fake, StartFake


@pytest.fixture
async def start_fake() -> AsyncGenerator[StartFake]:
    """Start fake models with the given settings; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Fake:
            serving = await stack.enter_async_context(serve(patch_settings(Settings(), settings)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Fake(serving, session)

        yield start
