"""The helm program for tests: built with Go, once, into the cache folder; else the one on PATH.

``python -m cluster.helm`` (from tests/) builds it and prints its path; a first build takes about
200 s on two cores. Only the standard library is used.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.build import Say, say_on_stderr
from cluster.pin import BuildUnavailable, cache_folder, find_go

PACKAGE = "helm.sh/helm/v4/cmd/helm"
VERSION = "v4.3.1"


def built_helm() -> Path:
    """Where the build of this pin is, or would be."""
    return cache_folder() / "helm" / VERSION / "helm"


def find_helm() -> Path | None:
    """Return a helm that is there already, rather the pinned one; None if none is."""
    if built_helm().exists():
        return built_helm()
    found = shutil.which("helm")
    return Path(found) if found else None


def build_helm(*, say: Say = say_on_stderr) -> Path:
    """Return helm, building it if need be. Raises BuildUnavailable."""
    if there := find_helm():
        return there
    go = find_go()
    say(f"building helm {VERSION} (once; about 200 s on two cores)")
    folder = built_helm().parent
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [go, "install", "-trimpath", f"{PACKAGE}@{VERSION}"],
        env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildUnavailable(f"go install {PACKAGE}@{VERSION}: {done.stderr.strip()[-2000:]}")
    return built_helm()


if __name__ == "__main__":
    try:
        print(build_helm())
    except BuildUnavailable as reason:
        sys.exit(str(reason))
