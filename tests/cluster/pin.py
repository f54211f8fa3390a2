"""Which Kubernetes the tests build: the one that binaries/go.mod pins, or one that is named.

``SWITCHBOARD_KUBERNETES=1.34.2`` names another release. Its module is made in the cache folder,
from the release's own go.mod (a minute, once). Only the standard library is used.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

NAMED = "SWITCHBOARD_KUBERNETES"
PINNED = Path(__file__).parent / "binaries"
KUBERNETES = "k8s.io/kubernetes"


class BuildUnavailable(Exception):
    """The binaries are not there, and cannot be built on this machine; the text says why."""


def cache_folder() -> Path:
    """Where everything that is built once is kept."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SWITCHBOARD_CACHE") or Path(caches) / "switchboard")


def find_go() -> str:
    """The path of the go command. Raises BuildUnavailable."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not go:
        raise BuildUnavailable("Go (1.26 or newer) is neither on PATH nor in /usr/local/go/bin")
    return go


def module_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the Go module that is built. Raises BuildUnavailable."""
    named = environ.get(NAMED, "").removeprefix("v")
    if not named or f"v{named}" == version_of(PINNED):
        return PINNED
    if not re.fullmatch(r"1\.\d+\.\d+", named):
        raise BuildUnavailable(f"{NAMED}={named} is no release such as 1.34.2")
    return _resolved(f"v{named}")


def version_of(module: Path) -> str:
    """The version of Kubernetes that a module requires, such as ``v1.36.3``."""
    text = (module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{KUBERNETES} (v\S+)", text, re.MULTILINE)
    if not found:
        raise BuildUnavailable(f"{module}/go.mod requires no {KUBERNETES}")
    return found[1]


def packages_of(module: Path) -> dict[str, str]:
    """Binary name to Go package, from the ``tool`` lines of a module."""
    block = _block("tool", (module / "go.mod").read_text())
    return {"etcd" if "/etcd/" in tool else tool.rpartition("/")[2]: tool for tool in block.split()}


def fingerprint_of(module: Path) -> str:
    """A few digits that change with what the module requires."""
    said = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    return hashlib.sha256(said).hexdigest()[:12]


def _block(directive: str, go_mod: str) -> str:
    found = re.search(rf"^{directive} \((.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _resolved(version: str) -> Path:
    made = cache_folder() / "kubernetes" / f"module-{version}"
    if (made / "go.sum").exists():
        return made
    told = _go("mod", "download", "-json", f"{KUBERNETES}@{version}", folder=PINNED)
    theirs = Path(json.loads(told)["GoMod"]).read_text()
    # Its staging modules are folders of its own tree there, which a dependant does not have.
    staging = re.findall(r"^\s*(\S+) => \./staging/", theirs, re.MULTILINE)
    released = f"v0.{version.removeprefix('v1.')}"
    directive = re.search(r"^go \S+", theirs, re.MULTILINE)
    lines = [
        "module switchboard.dev/tests/cluster/binaries",
        directive[0] if directive else "go 1.26.0",
        f"tool (\n{_block('tool', (PINNED / 'go.mod').read_text())})",
        f"require {KUBERNETES} {version}",
        *(f"replace {name} => {name} {released}" for name in staging),
    ]
    fresh = made.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / "go.mod").write_text("\n".join(lines) + "\n")
    _go("mod", "tidy", folder=fresh)
    shutil.rmtree(made, ignore_errors=True)
    fresh.rename(made)
    return made


def _go(*args: str, folder: Path) -> str:
    done = subprocess.run(
        [find_go(), *args],
        cwd=folder,
        env={**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildUnavailable(f"go {' '.join(args)}: {done.stderr.strip()[-2000:]}")
    return done.stdout
