"""What attacks share: the defence that is in place or switched off, and both fronts."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from fakes import gateway
from fakes.virtual_time import SocketTimeLoop

#: Who is slow or silent there is so by a clock that jumps; all parts are in this process.
IN_VIRTUAL_TIME = {
    "test_access_attacks",
    "test_exhaustion",
    "test_leaks",
    "test_smuggling",
    "test_ssrf",
    "test_tenancy",
    "test_upstream_attacks",
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in IN_VIRTUAL_TIME:
        return {"virtual": SocketTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def defended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the defence is in place: see ``fakes.defences``."""
    for switch in request.param:
        monkeypatch.setattr(switch.owner, switch.name, switch.instead)
    return not request.param


@pytest.fixture(params=[True, False], ids=["lane", "aiohttp"])
def each_front(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack both forms of the public port."""
    monkeypatch.setattr(gateway, "LANE", request.param)
