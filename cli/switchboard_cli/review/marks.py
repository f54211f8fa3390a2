"""Texts of manifests in Markdown and on a terminal: nothing in them is markup, or a command."""

import re
from collections.abc import Sequence
from typing import Final

_MARKUP: Final = re.compile(r"([\\`*_<>|\[\]#~])")
_SPACE: Final = re.compile(r"\s+")
#: `&lt;` would be shown as <.
_ENTITY: Final = re.compile(r"&(?=[#\w])")


def plain(text: str) -> str:
    """Return a text in one line, without what a terminal obeys or an eye misses."""
    said = _SPACE.sub(" ", text)
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in said)


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is; nobody is mentioned by it."""
    said = _MARKUP.sub(r"\\\1", _ENTITY.sub("&amp;", plain(text)))
    return said.replace("@", "&#64;")


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a table of Markdown; all but the first column are numbers, to the right."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" + "---:|" * (len(header) - 1)]
    lines += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    return lines


def columns(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the same as plain columns."""
    every = [header, *((plain(cell) for cell in row) for row in rows)]
    cells = [tuple(row) for row in every]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
