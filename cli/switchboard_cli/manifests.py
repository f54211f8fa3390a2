"""Files and folders → Kubernetes objects that know their file and line; nothing is raised.

Shared by ``validate`` and ``dev``: a file that cannot be read is a problem, and the others go on.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from switchboard_cli.yaml_documents import Document, UnreadableYaml, read_documents
from switchboard_policy.v1alpha1.json_values import is_list, is_map

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
#: 2,500 policies of 5 KiB make 12 MiB; more is no manifest.
FILE_SIZE_MAX: Final = 32 * 1024 * 1024
STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object as it stands in a file. ``lines`` knows the fields' lines, ``prefix`` where in
    the document the object is (an item of a List), "" for the document itself.
    """

    file: str
    line: int
    data: Mapping[str, Any]
    lines: Mapping[str, int]
    prefix: str = ""

    @property
    def api_version(self) -> str:
        """The ``apiVersion``, "" if there is none."""
        return _text(self.data.get("apiVersion"))

    @property
    def group(self) -> str:
        """The API group, "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """The ``kind``, "" if there is none."""
        return _text(self.data.get("kind"))

    @property
    def name(self) -> str:
        """The ``metadata.name``, "" if there is none."""
        return _text(self._metadata.get("name"))

    @property
    def namespace(self) -> str:
        """The ``metadata.namespace``, "" if there is none: kubectl's current one is meant."""
        return _text(self._metadata.get("namespace"))

    @property
    def title(self) -> str:
        """What people call it: ``RoutingPolicy ai/chat``."""
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind or 'object'} {place}{self.name or '(no name)'}"

    def line_of(self, field: str) -> int:
        """Return the line of a field, or of the nearest thing around it that is in the file."""
        path = f"{self.prefix}.{field}" if self.prefix else field
        while path and path != self.prefix:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.line

    @property
    def _metadata(self) -> Mapping[str, Any]:
        metadata = self.data.get("metadata")
        return metadata if is_map(metadata) else {}


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Something that could not be read at all; ``line`` is 0 where no line is to blame."""

    file: str
    line: int
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Manifests:
    """What the files hold, in the order of the paths, of the names in a folder, of the lines.

    ``files`` are all that were read, or should have been.
    """

    objects: tuple[Manifest, ...]
    problems: tuple[FileProblem, ...]
    files: tuple[str, ...] = ()


def load_manifests(paths: Iterable[str | Path]) -> Manifests:
    """Read files, folders (and those below them, hidden ones left out) and ``-`` for stdin."""
    files = tuple(dict.fromkeys(file for path in paths for file in _files(str(path))))
    found = [each for file in files for each in _read(file)]
    return Manifests(
        objects=tuple(each for each in found if isinstance(each, Manifest)),
        problems=tuple(each for each in found if isinstance(each, FileProblem)),
        files=files,
    )


def empty_folders(paths: Iterable[str | Path]) -> Iterator[str]:
    """Yield those paths that are folders without any file of manifests."""
    for path in map(str, paths):
        if path != STDIN and Path(path).is_dir() and not any(_files(path)):
            yield path


def _files(path: str) -> Iterator[str]:
    if path == STDIN or not Path(path).is_dir():
        yield path
        return
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        # A link may lead to where it stands: it is not followed, and `_read` says so.
        yield from (str(link) for name in below if (link := Path(folder, name)).is_symlink())
        for name in sorted(names):
            if Path(name).suffix in SUFFIXES and not name.startswith("."):
                yield str(Path(folder, name))


def _read(file: str) -> Iterator[Manifest | FileProblem]:
    if file != STDIN and Path(file).is_dir():
        message = "it is a link to a folder, which is not followed"
        yield FileProblem(file, 0, message, "name the folder itself")
        return
    try:
        raw = sys.stdin.buffer.read(FILE_SIZE_MAX + 1) if file == STDIN else _bytes(Path(file))
    except OSError as error:
        yield FileProblem(file, 0, error.strerror or "it cannot be read", "check the path")
        return
    if len(raw) > FILE_SIZE_MAX:
        limit = f"the file is larger than {FILE_SIZE_MAX // 1024 // 1024} MiB"
        yield FileProblem(file, 0, limit, "split it")
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield FileProblem(file, line, "the file is not UTF-8", "save it as UTF-8")
        return
    try:
        for document in read_documents(text):
            yield from _objects(file, document)
    except UnreadableYaml as error:
        yield FileProblem(file, error.line, f"no readable YAML: {error}", "correct the line")


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(FILE_SIZE_MAX + 1)


def _objects(file: str, document: Document) -> Iterator[Manifest | FileProblem]:
    value = document.value
    if value is None:
        return
    if not is_map(value):
        message = "the document is no Kubernetes object, which is a map"
        yield FileProblem(file, document.line, message, "write apiVersion, kind, metadata and spec")
        return
    items = value.get("items")
    if is_list(items) and _text(value.get("kind")).endswith("List"):
        yield from _items(file, document, items)
        return
    yield Manifest(file, document.line, value, document.lines)


def _items(
    file: str, document: Document, items: Sequence[object]
) -> Iterator[Manifest | FileProblem]:
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        line = document.lines.get(prefix, document.line)
        if is_map(item):
            yield Manifest(file, line, item, document.lines, prefix)
        else:
            message = "an item of the List is no Kubernetes object, which is a map"
            yield FileProblem(file, line, message, "remove it")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
