"""Check an object's metadata as the API server does: name, namespace, labels, annotations.

For manifests from files; what comes from the API server has passed this.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from switchboard_policy.v1alpha1.common import (
    LABEL_PATTERN,
    LABEL_VALUE_PATTERN,
    PATTERN_WORDS,
    SUBDOMAIN_PATTERN,
)
from switchboard_policy.v1alpha1.json_values import is_map
from switchboard_policy.v1alpha1.problems import Problem, field_below, show

NAME_LENGTH_MAX: Final = 253
LABEL_LENGTH_MAX: Final = 63
#: All annotations of an object together, in bytes.
ANNOTATIONS_SIZE_MAX: Final = 256 * 1024
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(LABEL_VALUE_PATTERN.removeprefix("^").removesuffix("$"))
_LABEL: Final = re.compile(LABEL_PATTERN.removeprefix("^").removesuffix("$"))
_SUBDOMAIN: Final = re.compile(SUBDOMAIN_PATTERN.removeprefix("^").removesuffix("$"))


def metadata_problems(manifest: Mapping[str, object]) -> Iterator[Problem]:
    """Yield what the API server would refuse in ``metadata``; any JSON value may be there."""
    metadata = manifest.get("metadata")
    if not is_map(metadata):
        yield _problem("metadata", "it is missing or no map", metadata, "write metadata.name")
        return
    yield from _name_problems(metadata)
    namespace: object = metadata.get("namespace")
    if namespace is not None and not (
        isinstance(namespace, str)
        and (not namespace or _LABEL.fullmatch(namespace))
        and len(namespace) <= LABEL_LENGTH_MAX
    ):
        fix = f"write {PATTERN_WORDS[LABEL_PATTERN]}, at most {LABEL_LENGTH_MAX}"
        yield _problem("metadata.namespace", "it is malformed", namespace, fix)
    yield from _text_map_problems(metadata, "labels")
    yield from _text_map_problems(metadata, "annotations")


def _name_problems(metadata: Mapping[str, object]) -> Iterator[Problem]:
    name = metadata.get("name")
    if not name and metadata.get("generateName"):
        return
    if not name:
        yield _problem("metadata.name", "it is missing", None, "add it")
    elif not isinstance(name, str):
        yield _problem("metadata.name", "it is no text", name, "put it in quotes")
    elif len(name) > NAME_LENGTH_MAX or not _SUBDOMAIN.fullmatch(name):
        fix = f"write {PATTERN_WORDS[SUBDOMAIN_PATTERN]}; at most {NAME_LENGTH_MAX} characters"
        yield _problem("metadata.name", "it is malformed", name, fix)


def _text_map_problems(metadata: Mapping[str, object], what: str) -> Iterator[Problem]:
    entries = metadata.get(what)
    field = f"metadata.{what}"
    if entries is None:
        return
    if not is_map(entries):
        yield _problem(field, "it is no map", entries, "write a map: lines of 'key: value'")
        return
    size = 0
    for key, value in entries.items():
        place = field_below(field, str(key))
        if not _is_label_name(str(key), lenient=what == "annotations"):
            fix = "write a name such as team or example.com/team"
            yield _problem(place, "the key is malformed", key, fix)
        if value is not None and not isinstance(value, str):
            yield _problem(place, "it is no text", value, "put it in quotes")
        elif what == "labels" and value and not _is_label_value(value):
            fix = f"write {PATTERN_WORDS[LABEL_VALUE_PATTERN]}, at most {LABEL_LENGTH_MAX}"
            yield _problem(place, "it is malformed", value, fix)
        size += len(f"{key}{value or ''}".encode(errors="replace"))
    if what == "annotations" and size > ANNOTATIONS_SIZE_MAX:
        fix = f"shorten them to {ANNOTATIONS_SIZE_MAX} bytes in all"
        yield _problem(field, "the annotations are too long", entries, fix)


def _is_label_name(key: str, *, lenient: bool) -> bool:
    prefix, slash, name = key.rpartition("/")
    if lenient:
        prefix = prefix.lower()
    prefix_fine = not slash or (len(prefix) <= NAME_LENGTH_MAX and _SUBDOMAIN.fullmatch(prefix))
    return bool(prefix_fine and _QUALIFIED.fullmatch(name))


def _is_label_value(value: str) -> bool:
    return len(value) <= LABEL_LENGTH_MAX and bool(_LABEL_VALUE.fullmatch(value))


def _problem(field: str, message: str, value: object, fix: str) -> Problem:
    return Problem(
        field=field, message=message, value="" if value is None else show(value), fix=fix
    )
