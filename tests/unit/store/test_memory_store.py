"""The in-process store keeps the store's contract."""

import pytest

from fakes.store_contract import FollowerContract, StoreContract
from fakes.stores import MemoryRig, StoreRig


@pytest.fixture
def rig() -> StoreRig:
    return MemoryRig()


class TestMemoryStore(StoreContract):
    pass


class TestFollowingMemoryStore(FollowerContract):
    pass
