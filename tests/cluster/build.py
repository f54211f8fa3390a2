"""Build Go programs for the tests, once, into the cache folder: Kubernetes, and what goes with it.

``python -m cluster.build`` (from tests/) builds what a control plane needs and prints the folder.
Only the standard library is used. A folder is named after the version and the contents of go.mod
and go.sum, so a new pin never meets an old binary; a second call finds everything there.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import pin
from cluster.pin import BuildUnavailable, cache_folder, find_go

__all__ = ["BuildUnavailable", "Say", "build", "build_missing", "cache_folder", "say_on_stderr"]

CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
NODE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
FIRST_BUILD_SECONDS = {
    "etcd": 75,
    "kube-apiserver": 300,
    "kubectl": 45,
    "kube-controller-manager": 80,
    "kubelet": 30,
    "dns": 240,
}
"""What a first build took on two cores; said beforehand, so that nobody takes it for a hang."""
PROGRESS_SECONDS = 30
LOG_TAIL_LINES = 30

Say = Callable[[str], None]


def say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def build(names: Sequence[str] = CONTROL_PLANE, *, say: Say = say_on_stderr) -> Path:
    """Build what is missing among these parts of Kubernetes; return the folder that holds them.

    Two calls at once are safe: the second waits for the first. Raises BuildUnavailable.
    """
    module = pin.module_folder()
    version, packages = pin.version_of(module), pin.packages_of(module)
    folder = cache_folder() / "kubernetes" / f"{version}-{pin.fingerprint_of(module)}"
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    flags = (
        f"-s -w -X {stamp}.gitVersion={version}"
        f" -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    )
    wanted = {name: packages[name] for name in names}
    return build_missing(wanted, module=module, folder=folder, flags=flags, say=say)


def build_missing(
    packages: Mapping[str, str],
    *,
    module: Path,
    folder: Path,
    flags: str = "-s -w",
    say: Say = say_on_stderr,
) -> Path:
    """Build those of a module's packages whose binary is not in ``folder`` yet; return that.

    ``packages`` are by the name of the binary, ``flags`` are the linker's. Two calls at once are
    safe: the second waits for the first. Raises BuildUnavailable.
    """
    if all((folder / name).exists() for name in packages):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", say=say) as lock:
        for name, package in packages.items():
            if not (folder / name).exists():
                command = [find_go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", flags]
                output = ["-o", str(folder / f"{name}.partial"), package]
                _build_one(name, [*command, *output], module, folder, lock=lock, say=say)
    return folder


@contextmanager
def locked(path: Path, *, say: Say) -> Iterator[int]:
    """Hold a lock that the kernel gives up with this process; its descriptor."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another build is under way in {path.parent}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _build_one(
    name: str, command: Sequence[str], module: Path, folder: Path, *, lock: int, say: Say
) -> None:
    log = folder / f"{name}.log"
    expected = FIRST_BUILD_SECONDS.get(name)
    hint = f" (about {expected} s the first time on two cores)" if expected else ""
    say(f"building {name} for {folder.name}{hint}")
    started = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            command,
            cwd=module,
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
    (folder / f"{name}.partial").replace(folder / name)
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
