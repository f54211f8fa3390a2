"""What the process asks of the machine."""

import os

import pytest

from switchboard_dataplane.process import ONE_THREAD, use_one_thread


def test_numpy_is_told_to_use_one_thread_unless_somebody_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, *others = ONE_THREAD
    monkeypatch.setenv(first, "4")
    for name in others:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    use_one_thread()
    assert [os.environ[name] for name in ONE_THREAD] == ["4", *["1"] * len(others)]
