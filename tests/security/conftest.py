"""What attacks share: the defence that is in place or switched off, and both fronts."""

import pytest

from fakes import gateway


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
