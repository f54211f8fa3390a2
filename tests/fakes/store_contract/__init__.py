"""What every form of the store keeps to, as tests: a subclass gives the fixture ``rig``."""

from fakes.store_contract.distrusting import Distrusting
from fakes.store_contract.following import Following
from fakes.store_contract.hollow import Hollow
from fakes.store_contract.leading import Leading
from fakes.store_contract.losing import Losing
from fakes.store_contract.mending import Mending
from fakes.store_contract.pods import Pods
from fakes.store_contract.publishing import Publishing
from fakes.store_contract.recording import Recording
from fakes.store_contract.refusing import Refusing
from fakes.store_contract.sharing import Sharing


class StoreContract(Publishing, Leading, Mending, Hollow, Pods, Sharing, Recording):
    """Writers and readers."""


class FollowerContract(Following, Losing, Refusing, Distrusting):
    """A data plane that follows, whatever happens to the store."""
