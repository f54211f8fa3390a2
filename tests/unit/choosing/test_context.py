"""What of a request a bandit learns by."""

import pytest

from switchboard_dataplane.choosing.context import CONTEXT, context_of
from switchboard_dataplane.reading.tasks import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_one_of_all(task: str) -> None:
    said = dict(zip(CONTEXT, context_of(task, 100), strict=True))
    assert said["one"] == 1.0
    assert [name for name in CONTEXT[1:-1] if said[name]] == [f"task_{task}"]


def test_a_task_that_nobody_knows_is_none_of_them() -> None:
    assert sum(context_of("singing", 0)[1:-1]) == 0


def test_the_length_goes_by_its_logarithm_and_says_nothing_to_the_character() -> None:
    lengths = [context_of("chat", chars)[-1] for chars in (0, 20, 150, 1_000, 8_000, 10**6)]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (-2.0, 2.0)
    assert context_of("chat", 1_000) == context_of("chat", 1_003)
