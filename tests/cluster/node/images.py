"""Container images for end-to-end tests: built with Docker where it runs, else with buildah.

Nothing is pulled with buildah: all images stand on a Debian that debootstrap makes, once. With
Docker they stand on the images that the Dockerfiles name. Archives are kept in the cache folder.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from cluster.build import BuildUnavailable, Say, cache_folder, locked, say_on_stderr
from cluster.control_plane import docker_runs

BASE: Final = "localhost/switchboard-base:1"
BASE_PACKAGES: Final = ("python3", "python3-venv", "python3-pip", "ca-certificates")
TRUST: Final = Path("/etc/ssl/certs/ca-certificates.crt")
APT_SOURCES: Final = Path("/etc/apt")
SOURCES: Final = ("index-url", "extra-index-url", "trusted-host")
LOG_TAIL: Final = 3000
_QUOTES: Final = "'\""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is built: ``inputs`` are the files that decide what is in it."""

    image: str
    context: Path
    dockerfile: Path
    inputs: Sequence[Path]
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """A few digits that change with what is put in."""
        said = hashlib.sha256(repr((self.image, self.target, self.arguments)).encode())
        for path in sorted(_files((self.dockerfile, *self.inputs))):
            said.update(f"{os.path.relpath(path, self.context)}\0".encode() + path.read_bytes())
        return said.hexdigest()[:12]


@dataclass(slots=True)
class Images:
    """Builds images into archives, with ``docker`` or else with buildah."""

    folder: Path
    docker: bool
    say: Say = say_on_stderr
    _alone: bool = field(default=False, init=False)

    @classmethod
    def of_this_machine(cls) -> Self:
        """With Docker where it runs."""
        return cls(cache_folder() / "images", docker=docker_runs())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts no other process builds or removes images here; may be nested."""
        if self._alone:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock", say=self.say):
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def build(self, recipe: Recipe) -> Path:
        """The archive of an image, built if what it is made of has changed.

        Another build of the image, of other sources, removes it: see :meth:`alone`. Raises
        BuildUnavailable with the end of what the builder said.
        """
        with self.alone():
            return self._build(recipe)

    def one_program(self, program: Path, image: str) -> Path:
        """The archive of an image that holds one static program and nothing else."""
        with self.alone():
            return self._one_program(program, image)

    def make_base(self) -> None:
        """Make the image that all others stand on, with buildah: Debian with its Python."""
        with self.alone():
            if not (self.docker or self._known(BASE)):
                self._make_base()

    def _build(self, recipe: Recipe) -> Path:
        name = recipe.image.replace("/", "-").replace(":", "-")
        archive = self.folder / f"{name}-{recipe.fingerprint()}.tar"
        if archive.exists() and self._known(recipe.image):
            return archive
        for old in self.folder.glob(f"{name}-*.tar"):
            old.unlink()
        self.say(f"building the image {recipe.image}")
        target = ["--target", recipe.target] if recipe.target else []
        arguments = [f"--build-arg={name}={value}" for name, value in recipe.arguments.items()]
        options = [*target, *arguments, "--file", str(recipe.dockerfile), "--tag", recipe.image]
        if self.docker:
            self._docker("build", "--quiet", *options, str(recipe.context))
        else:
            self._build_with_buildah(options, recipe.context)
        self._save(recipe.image, archive)
        return archive

    def _one_program(self, program: Path, image: str) -> Path:
        name = image.replace("/", "-").replace(":", "-")
        archive = self.folder / f"{name}-{program.parent.name}.tar"
        if not archive.exists():
            container = self._buildah("from", "scratch").strip()
            self._buildah("copy", "--quiet", container, str(program), f"/{program.name}")
            self._buildah("config", "--entrypoint", f'["/{program.name}"]', container)
            self._buildah("commit", "--quiet", "--rm", container, image)
            self._save(image, archive)
        return archive

    def _build_with_buildah(self, options: Sequence[str], context: Path) -> None:
        self.make_base()
        pip = self.folder / "pip.conf"
        pip.write_text(_pip_config())
        mounts = [f"--volume={pip}:/etc/pip.conf:ro"]
        if TRUST.exists():
            mounts.append(f"--volume={TRUST}:/run/trust.crt:ro")
        base = f"--build-arg=BASE_IMAGE={BASE}"
        self._buildah("build", "--quiet", "--layers", base, *mounts, *options, str(context))

    def _make_base(self) -> None:
        release = _os_release().get("VERSION_CODENAME", "stable")
        self.say(f"building the base image from Debian {release} (about 90 s)")
        with TemporaryDirectory(dir=self.folder) as made:
            root = Path(made) / "root"
            include = f"--include={','.join(BASE_PACKAGES)}"
            command = ["debootstrap", "--variant=minbase", include, release, str(root)]
            mirror = _debian_mirror()
            _run([*command, *([mirror] if mirror else [])])
            for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc"):
                shutil.rmtree(root / unneeded, ignore_errors=True)
            (root / "var/cache/apt/archives/partial").mkdir(parents=True)
            (root / "usr/bin/python").symlink_to("python3")
            container = self._buildah("from", "scratch").strip()
            self._buildah("add", "--quiet", container, str(root), "/")
            self._buildah("config", "--cmd", "python3", "--env", "LANG=C.UTF-8", container)
            self._buildah("commit", "--quiet", "--rm", container, BASE)

    def _known(self, image: str) -> bool:
        inspect = ["inspect", "--type", "image", image]
        command = ["docker", *inspect] if self.docker else self._buildah_command(*inspect)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _save(self, image: str, archive: Path) -> None:
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        if self.docker:
            self._docker("save", "--output", str(partial), image)
        else:
            self._buildah("push", "--quiet", image, f"docker-archive:{partial}:{image}")
        partial.replace(archive)

    def _docker(self, *args: str) -> str:
        return _run(["docker", *args])

    def _buildah(self, *args: str) -> str:
        return _run(self._buildah_command(*args))

    def _buildah_command(self, *args: str) -> list[str]:
        store = ["--root", f"{self.folder}/store", "--runroot", f"{self.folder}/run"]
        isolation = ["--isolation", "chroot"] if args[0] == "build" else []
        return ["buildah", "--storage-driver", "overlay", *store, args[0], *isolation, *args[1:]]


def layers_of(archive: Path) -> Mapping[str, int]:
    """The layers of an image's archive, by their digests, and their sizes in bytes."""
    with tarfile.open(archive) as opened:
        said = opened.extractfile("manifest.json")
        assert said, f"{archive} has no manifest"
        (manifest,) = json.load(said)
        return {name: opened.getmember(name).size for name in manifest["Layers"]}


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_file():
            yield path
        else:
            found = (one for one in path.rglob("*") if one.is_file())
            yield from (one for one in found if "__pycache__" not in one.parts)


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise BuildUnavailable(f"{missing}; run tools/setup.sh e2e") from missing
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-LOG_TAIL:]
        raise BuildUnavailable(f"{shlex.join(command)}:\n{said}")
    return done.stdout


def _pip_config() -> str:
    """What the pip of a build is told: where this machine's finds packages, and whom it trusts."""
    lines = ["[global]", "break-system-packages = true"]
    if TRUST.exists():
        lines.append("cert = /run/trust.crt")
    ask = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        if name.rpartition(".")[2] in SOURCES:
            lines.append(f"{name.rpartition('.')[2]} = {value.strip(_QUOTES)}")
    return "\n".join(lines) + "\n"


def _debian_mirror() -> str | None:
    """The mirror that apt uses here; None leaves the choice to debootstrap."""
    for path in sorted(APT_SOURCES.glob("sources.list.d/*.sources")):
        for line in path.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    for path in (APT_SOURCES / "sources.list", *APT_SOURCES.glob("sources.list.d/*.list")):
        for line in path.read_text().splitlines() if path.exists() else ():
            if line.startswith("deb ") and "://" in line:
                return next(word for word in line.split() if "://" in word)
    return None


def _os_release() -> Mapping[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
