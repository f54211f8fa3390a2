"""YAML text → plain documents that know their lines: strict, bounded, and read as kubectl reads.

Built from the parser's events without recursion, so that neither depth nor aliases can exhaust
anything: an alias shares its value and counts for as many nodes as it stands for. Scalars mean
what they mean to kubectl: YAML 1.1, without sexagesimal numbers and dates.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import yaml

from switchboard_policy.v1alpha1.json_values import is_list, is_map
from switchboard_policy.v1alpha1.problems import field_below

#: An object of ours is eleven deep.
DEPTH_MAX: Final = 64
#: 2,500 large policies in one List; an alias counts for all that it stands for.
NODES_MAX: Final = 2_000_000

_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_CORE_TAGS: Final = frozenset(
    _TAG_PREFIX + name for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
_TRUE: Final = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE: Final = frozenset(
    {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
)
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_NUMBER_START: Final = frozenset("+-.0123456789")
_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: Longer ones are no numbers of any field; int() would refuse them at 4300 digits.
_NUMBER_LENGTH_MAX: Final = 400


class _Mark(Protocol):
    """A place, whose line counts from 0: the two parsers of PyYAML have a class each."""

    @property
    def line(self) -> int: ...


class UnreadableYaml(Exception):
    """The text is no YAML, or more than a manifest can need; ``line`` counts from 1."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its value and the line of each field, by path (``spec.rules[2].when``)."""

    value: Any
    line: int
    lines: dict[str, int]


@dataclass(slots=True)
class _Open:
    """A list or map under construction; ``key`` is the one whose value comes next.

    ``merged`` are the values of ``<<`` and their lines: they may still be under construction.
    """

    value: dict[str, Any] | list[Any]
    path: str
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    merged: list[tuple[Any, int]] = field(default_factory=list)
    merging: bool = False


@dataclass(slots=True)
class _Anchored:
    value: Any
    nodes: int


def read_documents(text: str) -> Iterator[Document]:
    """Yield the documents of a text one by one. Raises UnreadableYaml where it stops."""
    try:
        builder = _Builder(line=1)
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(line=_line_of(event.end_mark))
            elif isinstance(event, yaml.AliasEvent):
                builder.repeat(event)
            elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
                builder.add(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.close()
            elif isinstance(event, yaml.DocumentEndEvent):
                yield builder.document()
    except yaml.MarkedYAMLError as error:
        line = _line_of(error.problem_mark or error.context_mark)
        raise UnreadableYaml(error.problem or error.context or "no YAML", line=line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableYaml(f"a character is not allowed: {error.reason}", line=line) from error


class _Builder:
    """Builds one document from its events."""

    def __init__(self, *, line: int) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._lines: dict[str, int] = {}
        self._nodes = 0
        self._root: Any = None
        self._line = line
        self._seen = False

    def document(self) -> Document:
        return Document(value=self._root, line=self._line, lines=self._lines)

    def repeat(self, event: yaml.AliasEvent) -> None:
        line = _line_of(event.start_mark)
        found = self._alias(event.anchor or "", line=line)
        self._place(found.value, nodes=found.nodes, line=line)

    def add(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        line = _line_of(event.start_mark)
        if not self._seen:
            self._seen, self._line = True, line
        tag = _checked_tag(event.tag, line=line)
        anchor = event.anchor
        if isinstance(event, yaml.ScalarEvent):
            parent = self._open[-1] if self._open else None
            if parent is not None and isinstance(parent.value, dict) and not _awaits_value(parent):
                self._key(parent, event, line=line)
                return
            value = _scalar(event, tag, line=line)
            if anchor:
                self._anchors[anchor] = _Anchored(value, nodes=1)
            self._place(value, nodes=1, line=line)
        else:
            self._enter({} if isinstance(event, yaml.MappingStartEvent) else [], anchor, line=line)

    def close(self) -> None:
        done = self._open.pop()
        if isinstance(done.value, dict):
            for merged, line in done.merged:
                for source in _merge_sources(merged, line=line):
                    for key, value in source.items():
                        done.value.setdefault(key, value)
        if done.anchor:
            self._anchors[done.anchor] = _Anchored(done.value, nodes=done.nodes)
        if self._open:
            self._open[-1].nodes += done.nodes

    def _enter(self, value: dict[str, Any] | list[Any], anchor: str | None, *, line: int) -> None:
        if len(self._open) >= DEPTH_MAX:
            raise UnreadableYaml(f"it is nested more than {DEPTH_MAX} deep", line=line)
        path = self._place(value, nodes=0, line=line)
        self._nodes += 1
        if anchor:
            self._anchors[anchor] = None
        self._open.append(_Open(value, path=path, anchor=anchor))

    def _alias(self, name: str, *, line: int) -> _Anchored:
        if name not in self._anchors:
            raise UnreadableYaml(f"the alias *{name} has no anchor before it", line=line)
        found = self._anchors[name]
        if found is None:
            raise UnreadableYaml(f"the anchor &{name} contains itself", line=line)
        return found

    def _key(self, parent: _Open, event: yaml.ScalarEvent, *, line: int) -> None:
        if event.value == "<<" and event.implicit[0]:
            parent.merging = True
            return
        key = _key_text(_scalar(event, event.tag, line=line), line=line)
        if key in parent.value:
            raise UnreadableYaml(f'the key "{key[:80]}" is there twice', line=line)
        parent.key = key
        self._lines[field_below(parent.path, key)] = line

    def _place(self, value: Any, *, nodes: int, line: int) -> str:
        """Put a value where it belongs; return its path."""
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise UnreadableYaml(
                f"it stands for more than {NODES_MAX:,} values (do aliases multiply?)", line=line
            )
        if not self._open:
            self._root = value
            return ""
        parent = self._open[-1]
        parent.nodes += nodes
        if isinstance(parent.value, list):
            path = field_below(parent.path, len(parent.value))
            self._lines[path] = line
            parent.value.append(value)
            return path
        if parent.merging:
            parent.merging = False
            parent.merged.append((value, line))
            return parent.path
        if parent.key is None:
            raise UnreadableYaml("a key is a list or a map; write a name", line=line)
        key, parent.key = parent.key, None
        parent.value[key] = value
        return field_below(parent.path, key)


def _line_of(mark: _Mark | None) -> int:
    return mark.line + 1 if mark else 1


def _awaits_value(parent: _Open) -> bool:
    return parent.merging or parent.key is not None


def _merge_sources(value: Any, *, line: int) -> Iterator[dict[str, Any]]:
    sources = value if is_list(value) else [value]
    for source in sources:
        if not is_map(source):
            raise UnreadableYaml("<< takes a map, or a list of maps", line=line)
        yield source


def _checked_tag(tag: str | None, *, line: int) -> str | None:
    if tag in {None, "!"} or tag in _CORE_TAGS:
        return tag
    raise UnreadableYaml(f"the tag {str(tag)[:80]} is not read here", line=line)


def _key_text(key: object, *, line: int) -> str:
    """Return a key as JSON has it: kubectl turns numbers and booleans into text."""
    if key is None:
        raise UnreadableYaml("a key is empty (null); write a name", line=line)
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _scalar(event: yaml.ScalarEvent, tag: str | None, *, line: int) -> object:
    plain_and_untagged = event.implicit[0]
    if tag == _TAG_PREFIX + "str" or not (plain_and_untagged or tag in _CORE_TAGS):
        return event.value
    value = _plain(event.value)
    if tag is None or tag == "!" or _fits(value, tag):
        return value
    raise UnreadableYaml(f"{event.value[:80]!r} is no {tag.removeprefix(_TAG_PREFIX)}", line=line)


def _fits(value: object, tag: str) -> bool:
    match tag.removeprefix(_TAG_PREFIX):
        case "null":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return False


def _plain(text: str) -> object:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] in _NUMBER_START and len(text) <= _NUMBER_LENGTH_MAX:
        return _number(text)
    return text


def _number(text: str) -> object:
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        sign = -1 if digits[0] == "-" else 1
        bare = digits.lstrip("+-")
        # A leading 0 alone means octal, as in C.
        octal = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
        return sign * int(bare, 8 if octal else 0)
    if _FLOAT.fullmatch(digits) and not math.isinf(number := float(digits)):
        return number
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
