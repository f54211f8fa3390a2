"""Readers for tests that need no learned ones."""

from typing import TYPE_CHECKING

from switchboard_dataplane.reader import Reader
from switchboard_policy import ir

if TYPE_CHECKING:
    from switchboard_dataplane.reading.intents import Intents


def reader(complexity: float = 0.5) -> Reader:
    """A reader to which every text is equally hard, and which knows no intents."""
    return Reader(complexity=lambda _: complexity, embed_intents=_none)


def _none(declared: tuple[ir.Intent, ...]) -> "Intents":
    raise AssertionError(f"nobody embeds {declared}")
