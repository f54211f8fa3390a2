"""What of a request a bandit learns by: a few numbers that say nothing of what it holds.

They are in the log of decisions, so that ``switchboard train`` can count ratings without any text.
"""

import math
from typing import Final

from switchboard_dataplane.reading.tasks import TASKS

#: What the numbers are, in their order: a 1, which task it is (one of them is 1), and how long the
#: last turn is, from -2 to 2.
CONTEXT: Final = ("one", *(f"task_{task}" for task in TASKS), "length")

#: The logarithm of a middling turn's length in characters, and what a step is.
_MIDDLING: Final = 5.0
_STEP: Final = 2.0
_STEPS_MAX: Final = 2.0
#: More digits would say how long a turn was to the character.
_DIGITS: Final = 1

_ONE_OF: Final = {task: tuple(1.0 if other == task else 0.0 for other in TASKS) for task in TASKS}
_UNKNOWN: Final = (0.0,) * len(TASKS)


def context_of(task: str, chars: int) -> tuple[float, ...]:
    """Return the numbers for a last turn of so many characters that asks for a task."""
    steps = (math.log1p(chars) - _MIDDLING) / _STEP
    length = round(min(_STEPS_MAX, max(-_STEPS_MAX, steps)), _DIGITS)
    return (1.0, *_ONE_OF.get(task, _UNKNOWN), length)
