"""Reads an export: one JSON object a line, a prompt and how well each model answered it.

What ``switchboard export`` writes is read as well: decisions, with how they were rated.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

ROW_BYTES_MAX: Final = 4 * 1024 * 1024

_OPTION: Final = re.compile(r"\n\s*\(?A[.)] ")
_PUNCTUATION: Final = re.compile(r"[^\w\s]|_")


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One prompt. ``qualities`` are in [0, 1] by model or tier; fields unknown here are passed by.

    ``task`` is what kind of work it is, "" if nobody said; ``source`` the set that it is of.
    ``context`` is what a bandit learns by, and ``id`` a decision's: without a text there is no
    more.
    """

    prompt: str
    qualities: dict[str, float]
    task: str = ""
    source: str = ""
    context: tuple[float, ...] = ()
    id: str = ""

    @property
    def question(self) -> str:
        """What tells it from other rows: the same question is always in one part."""
        return self.prompt or self.id


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""


#: Makes a row of a line of another kind, None where it is not wanted.
Convert = Callable[[bytes], Row | None]


class RowRefused(Exception):
    """A line of an export is no row; the text says which and why."""


def read_rows(path: Path, decision: Convert) -> list[Row]:
    """Read an export (JSON lines); raises RowRefused, OSError.

    ``decision`` reads the lines that are decisions.
    """
    decoder, kinds = msgspec.json.Decoder(Row), msgspec.json.Decoder(_Kind)
    rows: list[Row] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                is_row = kinds.decode(line).kind != "decision"
                row = decoder.decode(line) if is_row else decision(line)
            except msgspec.DecodeError as error:
                raise RowRefused(f"{path}:{number}: {error}") from error
            if row is None:
                continue
            if not row.qualities or not all(0 <= said <= 1 for said in row.qualities.values()):
                raise RowRefused(f"{path}:{number}: qualities: one at least, all in [0, 1]")
            rows.append(row)
    return rows


def stem(prompt: str) -> str:
    """Return the question before its answer options, in plain lower case."""
    question = _OPTION.split(prompt, maxsplit=1)[0]
    return " ".join(_PUNCTUATION.sub("", question.lower()).split())


def stem_number(prompt: str, salt: str = "") -> int:
    """Return a number in [0, 2**32) that depends on the question alone, and on ``salt``."""
    said = f"{salt}:{stem(prompt)}" if salt else stem(prompt)
    return int(hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:8], 16)


def fold_of(prompt: str, folds: int, salt: str = "fold") -> int:
    """Return which of ``folds`` parts a prompt is in: the same question is always in one part."""
    return stem_number(prompt, salt) % folds


def targets_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return all models and tiers that rows name, in their order."""
    return tuple(sorted({name for row in rows for name in row.qualities}))


def quality_table(
    qualities: Sequence[Mapping[str, float]], targets: Sequence[str]
) -> NDArray[np.float64]:
    """Return (N, T) qualities, NaN where a prompt was not asked of a target."""
    return np.array([[said.get(name, np.nan) for name in targets] for said in qualities])
