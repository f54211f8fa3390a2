"""The programs that images and a node of our own take, and the Debian packages that have them."""

import shutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from cluster.node.configuration import CNI_PROGRAMS

Programs = Mapping[str, str]
"""A program's name, or its path, to its package."""

BUILD_IMAGES: Final[Programs] = MappingProxyType(
    {"buildah": "buildah", "debootstrap": "debootstrap"}
)
RUN_NODE: Final[Programs] = MappingProxyType(
    {
        "containerd": "containerd",
        "ctr": "containerd",
        "runc": "runc",
        "nft": "nftables",
        "conntrack": "conntrack",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "unshare": "util-linux",
        f"{CNI_PROGRAMS}/bridge": "containernetworking-plugins",
    }
)


def programs_for(kind: str, *, docker: bool) -> Programs:
    """What a cluster of this kind takes, and the images that are loaded into it."""
    if kind == "own":
        # The images of the node itself are made by buildah, even where Docker runs.
        return {**BUILD_IMAGES, **RUN_NODE}
    return {} if docker else BUILD_IMAGES


def missing(programs: Iterable[str]) -> list[str]:
    """Those that are not on this machine."""
    return [name for name in programs if not shutil.which(name)]
