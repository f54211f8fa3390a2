"""The last user turn as lexical readings see it: cut, in lower case, in words; each made once."""

# ruff: noqa: RUF001

import re
from string import punctuation
from typing import Final

from switchboard_dataplane.reading.texts import TURN_CHARS_MAX, head_and_tail

_WORDS: Final = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*")
_TO_SPACE: Final = str.maketrans(dict.fromkeys(punctuation.replace("'", ""), " "))


class Turn:
    """One turn of a user. ``whole`` is all of it, ``text`` at most TURN_CHARS_MAX of it."""

    def __init__(self, whole: str, *, tools: bool = False, chars_max: int = TURN_CHARS_MAX) -> None:
        self.whole: Final = whole
        self.text: Final = head_and_tail(whole, chars_max)
        self.tools: Final = tools
        #: Of the reading of code, which others build on.
        self.code_score: int | None = None
        self._lower: str | None = None
        self._words: list[str] | None = None
        self._bag: frozenset[str] | None = None

    @property
    def lower(self) -> str:
        """The text in lower case."""
        if self._lower is None:
            self._lower = self.text.lower()
        return self._lower

    @property
    def words(self) -> list[str]:
        """The words and numbers in order, in lower case."""
        if self._words is None:
            lower = self.lower
            # Four times as fast, and most texts are so.
            plain = lower.isascii()
            self._words = lower.translate(_TO_SPACE).split() if plain else _WORDS.findall(lower)
        return self._words

    @property
    def bag(self) -> frozenset[str]:
        """The different words."""
        if self._bag is None:
            self._bag = frozenset(self.words)
        return self._bag
