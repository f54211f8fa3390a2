"""The bound of a condition's time, from its tree: each node, as often as loops come to it."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from switchboard_policy.costs.cost import ENTRIES_MAX, UNBOUNDED_NS, Cost
from switchboard_policy.costs.patterns import measure_pattern
from switchboard_policy.costs.tree import Node, read_tree

#: The engine ends an evaluation after so many rounds of all its loops.
ROUNDS_MAX: Final = 10_000
#: Facts whose texts have no bound but the body's; all others are shorter than SHORT_CHARS.
LONG_FACTS: Final = frozenset(
    {
        "request.prompt",
        "request.system",
        "request.user",
        "request.role",
        "request.stage",
        "request.headers",
        "request.metadata",
        "answer.text",
        "answer.finishReason",
    }
)
SHORT_CHARS: Final = 256
#: Facts that are lists or maps, by the most that is in them.
ENTRIES: Final[Mapping[str, int]] = {
    "request.modalities": 16,
    "request.headers": ENTRIES_MAX,
    "request.tags": 32,
    "request.metadata": ENTRIES_MAX,
    "request.labels": 16,
    "client.labels": 64,
    "client.models": 256,
    "signals.pii": 64,
    "signals.secrets": 64,
    "signals.intents": 64,
    "backend.labels": 64,
}

# What each takes at worst, measured.
#: A node, beside what its function takes.
NODE_NS: Final = 60
#: A character that is handed over, counted, compared or converted.
CHAR_NS: Final = 4
#: A character in which a piece of text is looked for; where each place begins as the piece does.
SEARCH_NS: Final = 12
#: By so many characters of the piece a place takes a nanosecond more.
COMPARED_CHARS: Final = 32
#: The engine makes a map of ours of its own for each call of ``get``.
GET_ENTRY_NS: Final = 250

#: Functions whose outcome is neither a text nor holds any.
_TELLING: Final = frozenset(
    {
        "!_",
        "@in",
        "@not_strictly_false",
        "_!=_",
        "_&&_",
        "_<=_",
        "_<_",
        "_==_",
        "_>=_",
        "_>_",
        "_||_",
        "contains",
        "endsWith",
        "matches",
        "size",
        "startsWith",
    }
)


class _Value(NamedTuple):
    """What is known of a node's outcome.

    ``long`` are the long facts whose text it may hold, ``chars`` bounds all other text in it;
    ``entries`` is how many there are of a list's or a map's, ``inner`` of each of theirs;
    ``literals`` are the texts that it is one of, where all of them stand in the condition.
    """

    long: frozenset[str] = frozenset()
    chars: int = 0
    entries: int = 0
    inner: int = 0
    literals: tuple[str, ...] | None = None


_NOTHING: Final = _Value()
_Scope = Mapping[str, _Value]


def estimate(serialized: bytes) -> Cost:
    """Return what a compiled condition takes at worst."""
    counting = _Counting()
    counting.value_of(read_tree(serialized), {}, times=1)
    return counting.cost


class _Counting:
    """Goes through a tree once, and sums up."""

    def __init__(self) -> None:
        self._ns = 0
        self._per_char: dict[str, int] = {}

    @property
    def cost(self) -> Cost:
        return Cost(min(self._ns, UNBOUNDED_NS), tuple(self._per_char.items()))

    def value_of(self, node: Node, scope: _Scope, *, times: int) -> _Value:
        """Count a node and all below it, which is evaluated so many times."""
        self._ns += NODE_NS * times
        value = _NOTHING
        match node.kind:
            case "const":
                said = node.constant
                value = _NOTHING if said is None else _Value(chars=len(said), literals=(said,))
            case "ident":
                value = self._named(node.text(1), scope)
            case "select":
                value = _member(self.value_of(node.node(1), scope, times=times))
            case "call":
                value = self._called(node, scope, times)
            case "list":
                value = _holding(self._values_of(node.nodes(1), scope, times))
            case "struct":
                value = _holding(self._values_of(node.entries(3, 4), scope, times))
            case "comprehension":
                value = self._looped(node, scope, times)
            case "none":
                pass
        return value

    def _values_of(self, nodes: Iterable[Node], scope: _Scope, times: int) -> list[_Value]:
        return [self.value_of(one, scope, times=times) for one in nodes]

    def _named(self, name: str, scope: _Scope) -> _Value:
        if name in scope:
            return scope[name]
        fact = name.removeprefix(".")
        entries = ENTRIES.get(fact, 0)
        if fact not in LONG_FACTS:
            return _Value(chars=SHORT_CHARS, entries=entries)
        # It is handed to the engine once, whatever becomes of it.
        self._per_char.setdefault(fact, CHAR_NS)
        return _Value(frozenset({fact}), entries=entries)

    def _looped(self, node: Node, scope: _Scope, times: int) -> _Value:
        through = self.value_of(node.node(2), scope, times=times)
        rounds = min(ROUNDS_MAX, times * max(1, through.entries))
        # What all, exists and exists_one sum up is no text.
        inside = {**scope, node.text(3): _NOTHING, node.text(1): _member(through)}
        self.value_of(node.node(4), scope, times=times)
        for part in (5, 6):
            self.value_of(node.node(part), inside, times=rounds)
        return self.value_of(node.node(7), inside, times=times)

    def _called(self, node: Node, scope: _Scope, times: int) -> _Value:
        function = node.text(2)
        args = self._values_of((*node.nodes(1), *node.nodes(3)), scope, times)
        whole = _union(args)
        if function == "contains":
            self._search(args[0], args[1], times)
        elif function == "matches":
            self._match(args[0], args[1], times)
        else:
            per_entry = GET_ENTRY_NS if function == "get" else NODE_NS
            self._ns += per_entry * sum(one.entries for one in args) * times
            self._read(whole, CHAR_NS, times)
        return _NOTHING if function in _TELLING else whole

    def _search(self, text: _Value, piece: _Value, times: int) -> None:
        if piece.long:
            # A long text in a long text is their product.
            self._ns = UNBOUNDED_NS
        self._read(text, SEARCH_NS + piece.chars // COMPARED_CHARS, times)

    def _match(self, text: _Value, pattern: _Value, times: int) -> None:
        if pattern.literals is None:
            self._ns = UNBOUNDED_NS
            return
        measured = [measure_pattern(one) for one in pattern.literals]
        self._ns += max(one.build_ns for one in measured) * times
        self._read(text, max(one.ns for one in measured), times)

    def _read(self, text: _Value, ns: int, times: int) -> None:
        self._ns += text.chars * ns * times
        for fact in text.long:
            self._per_char[fact] += ns * times


def _member(whole: _Value) -> _Value:
    """Return what is known of a list's element, or of a map's key or value."""
    return whole._replace(entries=whole.inner)


def _holding(members: list[_Value]) -> _Value:
    """Return what is known of a list or a map of these."""
    literals = [text for one in members for text in one.literals or ()]
    known = all(one.literals is not None for one in members)
    return _union(members)._replace(
        entries=sum(max(1, one.entries) for one in members),
        inner=max((max(one.entries, one.inner) for one in members), default=0),
        literals=tuple(literals) if known else None,
    )


def _union(members: list[_Value]) -> _Value:
    return _Value(
        frozenset[str]().union(*(one.long for one in members)),
        chars=max((one.chars for one in members), default=0),
        entries=max((one.entries for one in members), default=0),
        inner=max((one.inner for one in members), default=0),
    )
