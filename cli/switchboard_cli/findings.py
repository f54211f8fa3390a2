"""What a command found wrong with manifests, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its place; ``object`` is "" where a file as a whole is to blame.

    ``line`` counts from 1 and is 0 where no line is to blame.
    """

    file: str
    line: int
    object: str
    field: str
    message: str
    value: str
    fix: str
