"""A gateway, its callers and its models on one loop whose clock jumps: an hour takes a second.

They talk over real sockets. All are in one process; what runs in another cannot be waited for. A
machine that stands still takes no time here, so no test fails by it: whatever needs no other
process and no real thread belongs here.
"""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from fakes.virtual_time import SocketTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": SocketTimeLoop}
