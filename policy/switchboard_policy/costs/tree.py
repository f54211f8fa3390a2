"""Reads the tree of a compiled CEL expression out of its bytes.

The engine gives the tree away in one form alone: ``cel.expr.CheckedExpr``, in protocol buffers.
What is needed of it is small, and the numbers of its fields are CEL's public format.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Kind = Literal["const", "ident", "select", "call", "list", "struct", "comprehension", "none"]

#: Fields of an ``Expr`` that say what it is.
_KINDS: Final[dict[int, Kind]] = {
    3: "const",
    4: "ident",
    5: "select",
    6: "call",
    7: "list",
    8: "struct",
    9: "comprehension",
}
#: Of an ``Any``, and of a ``CheckedExpr``.
_VALUE: Final = 2
_EXPR: Final = 4
#: Of a ``Constant``.
_STRING_VALUE: Final = 6
_BYTES_VALUE: Final = 7
#: Wire types of protocol buffers.
_VARINT: Final = 0
_EIGHT_BYTES: Final = 1
_LENGTH: Final = 2


class Node(NamedTuple):
    """A node: what it is, and its message."""

    kind: Kind
    message: bytes

    def texts(self, field: int) -> Iterator[str]:
        """Yield a field's texts."""
        return (one.decode(errors="replace") for one in _fields(self.message, field))

    def text(self, field: int) -> str:
        """Return a field's text, "" where it is not there."""
        return next(self.texts(field), "")

    def nodes(self, field: int) -> Iterator["Node"]:
        """Yield a field's nodes."""
        return (_node(one) for one in _fields(self.message, field))

    def node(self, field: int) -> "Node":
        """Return a field's node."""
        return next(self.nodes(field), Node("none", b""))

    def entries(self, key: int, value: int) -> Iterator["Node"]:
        """Yield the keys and values of a map that is written out."""
        for entry in _fields(self.message, 2):
            for field in (key, value):
                yield from (_node(one) for one in _fields(entry, field))

    @property
    def constant(self) -> str | None:
        """The text that stands there; None for a constant of another type."""
        found = [*_fields(self.message, _STRING_VALUE), *_fields(self.message, _BYTES_VALUE)]
        return found[0].decode(errors="replace") if found else None


def read_tree(serialized: bytes) -> Node:
    """Return the root of a compiled expression that was serialized."""
    checked = next(_fields(serialized, _VALUE))
    return _node(next(_fields(checked, _EXPR)))


def _node(message: bytes) -> Node:
    for field, kind in _KINDS.items():
        for inner in _fields(message, field):
            return Node(kind, inner)
    return Node("none", b"")


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield what a message has in a field, of those with a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire == _LENGTH:
            size, at = _varint(message, at)
            if tag >> 3 == wanted:
                yield message[at : at + size]
            at += size
        else:
            at += 8 if wire == _EIGHT_BYTES else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that there is more
            return number, at
        shift += 7
