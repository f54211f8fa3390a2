"""Programs that the benchmark needs: from Debian's packages, built by Go, or in a venv by uv."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.build import cache_folder

MODEL = Path(__file__).parent / "model"
LOCKS = Path(__file__).parent / "locks"
_GO = "/usr/local/go/bin"
_INSTALL_S = 900


class Missing(Exception):
    """A program cannot be had on this machine; the text says how to get it."""


def debian_program(name: str) -> str:
    """The path of a program whose Debian package has its name; root installs it. Raises Missing."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/bin")
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _say(f"installing {name} with apt-get")
        # RUNLEVEL=1: the package must not start a server.
        env = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", name]):
            subprocess.run(["apt-get", *command], env=env, capture_output=True, check=False)
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        raise Missing(f"{name} is not on PATH (Debian: apt-get install {name})")
    return path


def model_program() -> Path:
    """Build the model server with Go, once for each form of its source. Raises Missing."""
    source = b"".join(path.read_bytes() for path in sorted(MODEL.iterdir()))
    folder = cache_folder() / "peers" / f"model-{hashlib.sha256(source).hexdigest()[:12]}"
    program = folder / "model"
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("go", path=_GO)
    if go is None:
        raise Missing(f"Go (1.26 or newer) is neither on PATH nor in {_GO}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"model.{os.getpid()}"
    _run(
        [go, "build", "-trimpath", "-buildvcs=false", "-o", str(partial), "."],
        cwd=MODEL,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
    )
    partial.replace(program)
    return program


def peer_environment(name: str) -> Path:
    """The folder of programs of ``locks/NAME.txt``, installed once for each form of the file.

    Raises Missing.
    """
    lock = LOCKS / f"{name}.txt"
    pin = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_folder() / "peers" / f"{name}-{pin}"
    done = folder / ".installed"
    if done.exists():
        return folder / "bin"
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise Missing("uv is not on PATH")
    _say(f"installing {name} into an environment of its own (a minute or two, once)")
    python = folder / "bin" / "python"
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    only_wheels = ("--only-binary", ":all:", "--no-deps", "--require-hashes")
    _run([uv, "pip", "install", "--python", str(python), *only_wheels, "-r", str(lock)])
    done.touch()
    return folder / "bin"


def pinned_version(name: str, package: str) -> str:
    """The version of a package in ``locks/NAME.txt``."""
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        found, equals, rest = line.partition("==")
        if equals and found == package:
            return rest.split()[0]
    raise Missing(f"locks/{name}.txt does not pin {package}")


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]}: {error}") from error
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
