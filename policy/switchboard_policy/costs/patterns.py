"""How long a regular expression takes at worst for each character of a text.

RE2 builds an automaton state by state while it reads, which takes nanoseconds for each character.
Where these states do not fit its memory it goes through all places of the pattern at each character
instead: ``a.{20}b`` can be half matched in a million ways at once, and each way is a state. Which
it may come to is told by two counts: of places, which a state remembers, and of those among them
that hold whatever the text says, each of which may double the states: a class, what is
repeated or may be left out, the alternatives of a group.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

#: So many free places, and so many places in all states together, fit the automaton's memory.
FREE_MAX: Final = 10
REMEMBERED_MAX: Final = 2**19
#: With an automaton; measured up to 60, while its states are built.
AUTOMATON_NS: Final = 60
#: Without one, for each place; measured up to 38, in texts of two bytes a character.
STEP_NS: Final = 40
STEPS_NS: Final = 500
#: Patterns are compiled at each evaluation: this, for each place, and for each free one.
BUILD_NS: Final = 10_000
BUILD_PLACE_NS: Final = 1_000
BUILD_FREE_NS: Final = 10_000
#: A class of Unicode (``\pL``) is as large as so many places. It is built like many more.
UNICODE_PLACES: Final = 20
BUILD_UNICODE_NS: Final = 3_000_000
KEPT: Final = 4_096

_TOKEN: Final = re.compile(
    r"""
    (?P<quoted>\\Q.*?(?:\\E|\Z))
  | (?P<nothing>\^|\$|\\[AbBz])
  | (?P<free>\.|\\[dDsSwWC]|\\[pP](?:\{[^}]*\}|.)|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])
  | (?P<literal>\\x\{[0-9A-Fa-f]*\}|\\x..|\\[0-7]{1,3}|\\.)
  | (?P<flags>\(\?[a-zA-Z-]+\))
  | (?P<opens>\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?)
  | (?P<closes>\))
  | (?P<either>\|)
  | (?P<repeated>(?:[*+?]|\{(?P<least>\d+)(?P<comma>,(?P<most>\d*))?\})\??)
  | (?P<character>.)
    """,
    re.VERBOSE | re.DOTALL,
)
#: Longer repetitions are none to RE2.
_REPEATED_MAX: Final = 1_000


class Pattern(NamedTuple):
    """What a pattern takes: to be built, each time, and for each character."""

    build_ns: int
    ns: int


class _Part(NamedTuple):
    """A piece of a pattern: its places, how many of them are free, its classes of Unicode."""

    places: int = 0
    free: int = 0
    unicode: int = 0

    def with_(self, other: "_Part") -> "_Part":
        """Return both pieces, one after the other."""
        return _Part(*map(sum, zip(self, other, strict=True)))

    def times(self, least: int, most: int) -> "_Part":
        """Return the piece repeated; all of one that is repeated any number of times is free."""
        times = max(1, least, most)
        free = self.free if least == most else self.places
        return _Part(self.places * times, free * times, self.unicode * times)


@lru_cache(KEPT)
def measure_pattern(pattern: str) -> Pattern:
    """Return what a pattern takes at worst."""
    whole = _read(pattern)
    build_ns = (
        BUILD_NS
        + whole.places * BUILD_PLACE_NS
        + whole.free * BUILD_FREE_NS
        + whole.unicode * BUILD_UNICODE_NS
    )
    fits = whole.free <= FREE_MAX and whole.places**2 << whole.free <= REMEMBERED_MAX
    return Pattern(build_ns, AUTOMATON_NS if fits else STEPS_NS + STEP_NS * whole.places)


class _Group:
    """A group that is being read: what is behind, and the last piece, which may yet be repeated."""

    def __init__(self) -> None:
        self._behind = _Part()
        self._last = _Part()
        self.either = False

    def add(self, part: _Part) -> None:
        """Take in the next piece."""
        self._behind = self._behind.with_(self._last)
        self._last = part

    def repeat(self, least: int, most: int) -> None:
        """Repeat the last piece."""
        self._last = self._last.times(least, most)

    def end(self) -> _Part:
        """Return the whole."""
        return self._behind.with_(self._last).with_(_Part(free=int(self.either)))


def _read(pattern: str) -> _Part:
    groups = [_Group()]
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        match kind:
            case "quoted":
                groups[-1].add(_Part(len(text)))
            case "free":
                groups[-1].add(_class(text))
            case "literal" | "character":
                groups[-1].add(_Part(1))
            case "opens":
                groups.append(_Group())
            case "either":
                # Whole patterns that are alternatives share their beginnings, as words do.
                groups[-1].add(_Part())
                groups[-1].either = len(groups) > 1
            case "repeated":
                groups[-1].repeat(*_times(token))
            case "closes" if len(groups) > 1:
                done = groups.pop()
                groups[-1].add(done.end())
            case _:
                pass
    whole = _Part()
    for group in groups:
        whole = whole.with_(group.end())
    return whole


def _class(text: str) -> _Part:
    # What is beyond ASCII is several bytes, and so are its ranges.
    unicode = text.count(r"\p") + text.count(r"\P")
    beyond = sum(not character.isascii() for character in text) + text.count(r"\x")
    places = 1 + beyond + UNICODE_PLACES * unicode
    return _Part(places, places, unicode)


def _times(token: re.Match[str]) -> tuple[int, int]:
    if token["least"] is None:
        return 0, 1
    least = min(int(token["least"]), _REPEATED_MAX)
    if token["comma"] is None:
        return least, least
    return least, min(int(token["most"] or least + 1), _REPEATED_MAX)
