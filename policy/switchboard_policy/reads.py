"""What an expression over requests reads, by its text: facts, and which headers and metadata.

Both planes go by it: the data plane records those values of a request that its policy reads, and
who replays the record knows which of them are there.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from switchboard_policy.facts import REQUEST_FACTS

#: Headers that hold credentials: never recorded, whatever an expression says.
SECRET_HEADERS: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "api-key", "x-api-key", "cookie", "set-cookie"),
        *("x-forwarded-client-cert", "x-goog-api-key", "x-auth-token"),
    }
)

_LITERAL: Final = r"(?P<quote>['\"])(?P<key>[^'\"\\]*)(?P=quote)"
_FACT: Final = re.compile(r"\b(?:request|client|signals)\s*\.\s*[A-Za-z]+")
_STRINGS: Final = re.compile(
    r"'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL
)


class Keys(NamedTuple):
    """The keys of a map that an expression names; ``open`` where it reads others, too."""

    names: frozenset[str]
    open: bool


_NO_KEYS: Final = Keys(frozenset(), open=False)


class _Ways:
    """The ways in which an expression names a key of a map."""

    def __init__(self, fact: str) -> None:
        self._name: Final = fact.rpartition(".")[2]
        place = r"\s*\.\s*".join(map(re.escape, fact.split(".")))
        self._fact: Final = re.compile(rf"\b{place}\b")
        self._keyed: Final = (
            re.compile(rf"\b{place}\s*\[\s*{_LITERAL}\s*\]"),
            re.compile(rf"\b{place}\s*\.\s*get\s*\(\s*{_LITERAL}\s*\)"),
            re.compile(rf"{_LITERAL}\s+in\s+{place}\b(?!\s*[\[.])"),
        )

    def keys_in(self, source: str) -> Keys:
        """Return the keys that an expression names."""
        if self._name not in source:
            return _NO_KEYS
        found = [one.group("key") for way in self._keyed for one in way.finditer(source)]
        mentions = len(self._fact.findall(_STRINGS.sub("''", source)))
        return Keys(frozenset(found), open=mentions > len(found))


_HEADERS: Final = _Ways("request.headers")
_METADATA: Final = _Ways("request.metadata")


def facts_in(source: str) -> frozenset[str]:
    """Return the facts that an expression reads."""
    named = _FACT.findall(_STRINGS.sub("''", source))
    return frozenset("".join(one.split()) for one in named) & REQUEST_FACTS.keys()


def headers_in(source: str) -> Keys:
    """Return the headers (lower case) that an expression names."""
    found = _HEADERS.keys_in(source)
    return Keys(frozenset(map(str.lower, found.names)), found.open)


def metadata_in(source: str) -> Keys:
    """Return the keys of ``request.metadata`` that an expression names."""
    return _METADATA.keys_in(source)


def may_record(headers: Iterable[str]) -> tuple[str, ...]:
    """Return those headers that may be recorded, in order: none that holds a credential."""
    return tuple(sorted(set(headers) - SECRET_HEADERS))
