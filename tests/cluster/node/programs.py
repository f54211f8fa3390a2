"""What runs in pods of the node itself, built with Go into the cache folder: DNS, and pause."""

import hashlib
from pathlib import Path
from typing import Final

from cluster import pin
from cluster.build import Say, build_missing, say_on_stderr

MODULE: Final = Path(__file__).parent / "sources"
PACKAGES: Final = {"pause": "./pause", "dns": "./dns"}


def build_programs(*, say: Say = say_on_stderr) -> Path:
    """Build what is missing; return the folder that holds it. Raises BuildUnavailable."""
    folder = pin.cache_folder() / "node" / f"programs-{fingerprint(MODULE)}"
    return build_missing(PACKAGES, module=MODULE, folder=folder, say=say)


def fingerprint(module: Path) -> str:
    """A few digits that change with what a module requires, and with its own sources."""
    said = hashlib.sha256(pin.fingerprint_of(module).encode())
    for path in sorted(module.rglob("*.go")):
        said.update(f"{path.relative_to(module)}\0".encode() + path.read_bytes())
    return said.hexdigest()[:12]
