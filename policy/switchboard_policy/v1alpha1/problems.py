"""What is wrong with an object, in words: the field, what was there, and what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.json_values import is_list, is_map

#: A person compares it with the file at a glance; longer values are cut.
VALUE_LENGTH_MAX: Final = 80
#: The first ones lead to the rest; a status message has its own bound.
PROBLEMS_MAX: Final = 32

#: Below it a mistake may have put a key in the place of its name.
_CREDENTIALS: Final = "spec.credentials"
_WORD: Final = 1 << 64
_USER_IN_URL: Final = re.compile(r"//[^/]*@")
_QUERY_IN_URL: Final = re.compile(r"[?#].*", re.DOTALL)

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    ``field`` is a path such as ``spec.rules[2].when``, ``message`` a sentence without an end,
    ``value`` what was there in short ("" if nothing was), ``fix`` what to do about it.
    """

    field: str
    message: str
    value: str
    fix: str
    reason: Reason = Reason.INVALID

    def __str__(self) -> str:
        return f"{self.field}: {self.message}: {self.fix}"


def field_of(path: Sequence[str | int]) -> str:
    """Return a path as people write it: ``spec.rules[2].when``."""
    text = ""
    for part in path:
        text = field_below(text, part)
    return text


def field_below(path: str, part: str | int) -> str:
    """Return the path of a field, or of an item, of what is at ``path`` ("" for the root)."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    if part.isidentifier():
        return f"{path}.{part}" if path else part
    return f'{path}["{_cut(part)}"]'


def show(value: object, *, field: str = "") -> str:
    """Return a value in short. Texts below the credentials, and what a URL hides, are not shown."""
    if isinstance(value, str):
        if field.startswith(_CREDENTIALS):
            return f"a text of {len(value)} characters"
        if "://" in value:
            value = _QUERY_IN_URL.sub("…", _USER_IN_URL.sub("//…@", value))
        return f'"{_cut(value)}"'
    if is_map(value) or is_list(value):
        return f"a {'map' if is_map(value) else 'list'} of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= _WORD:
        return "a number of more than 64 bits"
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _cut(text: str) -> str:
    # Escaped: a control character would end the line, a lone surrogate could not be written.
    clean = text[: VALUE_LENGTH_MAX + 1].encode("unicode_escape").decode("ascii")
    if text.isprintable():
        clean = text
    return clean if len(clean) <= VALUE_LENGTH_MAX else clean[: VALUE_LENGTH_MAX - 1] + "…"


def bounded(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return the first problems; the last of them says how many there are beyond."""
    if len(problems) <= PROBLEMS_MAX:
        return tuple(problems)
    rest = len(problems) - PROBLEMS_MAX + 1
    more = Problem(
        field="spec", message=f"{rest} more problems", value="", fix="mend those before them first"
    )
    return (*problems[: PROBLEMS_MAX - 1], more)
