"""Answers are composed on a loop whose clock jumps: nothing sleeps."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from fakes.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}
