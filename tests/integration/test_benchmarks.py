"""Every benchmark still runs: a smoke of each, small, and without a word on how fast it was."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "bench"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "figures")
SMOKE_S = 240
"""Against a hang alone: on a busy machine a smoke of seconds takes minutes."""


def numbers(said: Any) -> Iterator[float]:
    """Yield every number of a benchmark's figures, but for differences, which may go either way."""
    if isinstance(said, dict):
        for name, value in said.items():
            if not name.startswith(("ahead", "added")):
                yield from numbers(value)
    elif isinstance(said, list):
        for value in said:
            yield from numbers(value)
    elif isinstance(said, int | float):
        yield said


def test_there_are_benchmarks() -> None:
    assert {"balance", "decide", "propagation"} <= {path.stem for path in BENCHMARKS}


@pytest.mark.timeout(SMOKE_S + 10)
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_runs_and_writes_its_figures(
    path: Path, addresses: tuple[str, ...], tmp_path: Path
) -> None:
    if path.stem == "propagation" and not addresses:
        pytest.skip("it needs a network namespace of its own: run as root")
    said = {"PYTHONPATH": str(FOLDER.parent), "SWITCHBOARD_BENCH_FOLDER": str(tmp_path)}
    done = subprocess.run(
        # Its figures mean nothing here: it leaves the cores to the tests at its side.
        ["nice", "-n", "10", sys.executable, path, "--smoke"],  # noqa: S607
        env={**os.environ, **said},
        capture_output=True,
        text=True,
        timeout=SMOKE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / f"{path.stem}.json").read_text())
    assert not any(number < 0 for number in numbers(figures))
    assert any(number > 0 for number in numbers(figures))
