"""Models of tests are on the loopback of this machine, where nothing is called without leave."""

from typing import Final

from switchboard_dataplane.upstream.addresses import LOOPBACK, AddressGuard, read_networks

#: What a data plane is told that calls them, in the process's environment.
ENVIRONMENT: Final = {"SWITCHBOARD_ALLOW_ADDRESSES": LOOPBACK}
#: What lets a transport call them.
GUARD: Final = AddressGuard(read_networks(LOOPBACK))
