"""Build the pinned Kubernetes binaries with Go, once, into the cache folder.

``python tests/cluster/build.py`` builds what a control plane needs and prints the folder. Only the
standard library is used. The folder is named after the Kubernetes version and the contents of
go.mod and go.sum, so a new pin never meets an old binary; a second call finds everything there.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MODULE = Path(__file__).parent / "binaries"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
FIRST_BUILD_SECONDS = {"etcd": 75, "kube-apiserver": 300, "kubectl": 45}
"""What a first build took on two cores; said beforehand, so that nobody takes it for a hang."""
PROGRESS_SECONDS = 30
LOG_TAIL_LINES = 30

Say = Callable[[str], None]


class BuildUnavailable(Exception):
    """The binaries are not there, and cannot be built on this machine; the text says why."""


def say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where everything that is built once is kept."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SWITCHBOARD_CACHE") or Path(caches) / "switchboard")


def kubernetes_version() -> str:
    """The pinned version, such as ``v1.36.3``."""
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", _go_mod(), re.MULTILINE)
    if not found:
        raise BuildUnavailable(f"{MODULE}/go.mod requires no k8s.io/kubernetes")
    return found[1]


def packages() -> dict[str, str]:
    """Binary name to Go package, from the ``tool`` lines of go.mod."""
    block = re.search(r"^tool \((.*?)^\)", _go_mod(), re.MULTILINE | re.DOTALL)
    tools = block[1].split() if block else []
    return {"etcd" if "/etcd/" in tool else tool.rpartition("/")[2]: tool for tool in tools}


def binaries_folder() -> Path:
    """Where :func:`build` puts the binaries of this pin."""
    pin = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes())
    return cache_folder() / "kubernetes" / f"{kubernetes_version()}-{pin.hexdigest()[:12]}"


def build(names: Sequence[str] = CONTROL_PLANE, *, say: Say = say_on_stderr) -> Path:
    """Build what is missing among ``names``; return the folder that holds them.

    Two calls at once are safe: the second waits for the first. Raises BuildUnavailable.
    """
    folder = binaries_folder()
    if all((folder / name).exists() for name in names):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock", say=say) as lock:
        for name in names:
            if not (folder / name).exists():
                _build_one(name, folder, lock=lock, say=say)
    return folder


def _go_mod() -> str:
    return (MODULE / "go.mod").read_text()


@contextmanager
def _locked(path: Path, *, say: Say) -> Iterator[int]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build is under way in {path.parent}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _go() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not go:
        raise BuildUnavailable("Go (1.26 or newer) is neither on PATH nor in /usr/local/go/bin")
    return go


def _build_one(name: str, folder: Path, *, lock: int, say: Say) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    flags = (
        f"-s -w -X {stamp}.gitVersion={version}"
        f" -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    )
    partial = folder / f"{name}.partial"
    log = folder / f"{name}.log"
    command = [_go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", flags]
    expected = FIRST_BUILD_SECONDS.get(name)
    hint = f", about {expected} s the first time on two cores" if expected else ""
    say(f"building {name} ({version}{hint})")
    started = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            [*command, "-o", str(partial), packages()[name]],
            cwd=MODULE,
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
            stdout=output,
            stderr=subprocess.STDOUT,
            # Should this program be killed, the lock lives on until the compiler has ended too.
            pass_fds=(lock,),
        )
        try:
            _wait(child, name=name, started=started, say=say)
        finally:
            child.kill()
            child.wait()
    if child.returncode:
        tail = "\n".join(log.read_text().splitlines()[-LOG_TAIL_LINES:])
        raise BuildUnavailable(f"go build of {name} failed, see {log}:\n{tail}")
    partial.replace(folder / name)
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def _wait(child: subprocess.Popen[bytes], *, name: str, started: float, say: Say) -> None:
    while True:
        try:
            child.wait(timeout=PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"  … {name}: {time.monotonic() - started:.0f} s")
        else:
            return


if __name__ == "__main__":
    try:
        print(build())
    except BuildUnavailable as reason:
        sys.exit(str(reason))
