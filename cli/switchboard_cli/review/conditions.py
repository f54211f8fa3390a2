"""What one condition of a guardrail is to another, as far as their trees tell it."""

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

from switchboard_policy.costs.tree import Node
from switchboard_policy.facts import Facts, request_facts

#: ``same`` and ``wider`` are sure, whatever a request is; ``other`` may be anything.
Relation = Literal["same", "wider", "narrower", "other"]
#: What a node says: its kind, its words, and what is in it.
_Said = tuple[object, ...]

#: By kind of node, the fields of CEL's public format that hold its words, and its nodes. What else
#: there is are the numbers of nodes, which differ from text to text.
_FIELDS: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "ident": ((1,), ()),
    "select": ((2,), (1,)),
    "call": ((2,), (1, 3)),
    "list": ((), (1,)),
    "comprehension": ((1, 3), (2, 4, 5, 6, 7)),
}
#: The last field of a select that only asks whether there is such a key.
_ASKS: Final = b"\x18\x01"
_OR: Final = "_||_"
_AND: Final = "_&&_"


def relation(was: str, now: str) -> Relation:
    """Say how a guardrail's condition relates to the one before; none means always."""
    if was == now:
        return "same"
    if not was or not now:
        return "narrower" if now else "wider"
    one, other = _tree(was), _tree(now)
    before, after = _parts(one, _OR), _parts(other, _OR)
    if before == after:
        return "same"
    if before < after:
        return "wider"
    return "narrower" if _parts(one, _AND) < _parts(other, _AND) else "other"


def _tree(source: str) -> Node:
    return _facts().compile(source).tree()


@cache
def _facts() -> Facts:
    return request_facts()


def _parts(node: Node, operator: str) -> frozenset[_Said]:
    """Return what an operator joins at the top of a tree; of another tree, itself."""
    if node.kind == "call" and node.text(2) == operator:
        return frozenset(part for one in node.nodes(3) for part in _parts(one, operator))
    return frozenset((_said(node),))


def _said(node: Node) -> _Said:
    if node.kind == "struct":
        return node.kind, *map(_said, node.entries(3, 4))
    if node.kind not in _FIELDS:
        return node.kind, node.message
    words, nodes = _FIELDS[node.kind]
    return (
        node.kind,
        node.kind == "select" and node.message.endswith(_ASKS),
        *(tuple(node.texts(field)) for field in words),
        *(tuple(map(_said, node.nodes(field))) for field in nodes),
    )
