"""Every benchmark still runs: a smoke of each, small, and without a word on how fast it was."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
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
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(FOLDER.parent)])
    said = {"PYTHONPATH": paths, "SWITCHBOARD_BENCH_FOLDER": str(tmp_path)}
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
    written = tmp_path.glob(f"{path.stem}*.json")
    figures = [json.loads(one.read_text()) for one in written]
    assert not any(number < 0 for number in numbers(figures))
    assert any(number > 0 for number in numbers(figures))


def test_propagation_says_of_each_target_whether_it_is_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    said = import_module("propagation").targets_of({"p50_ms": 30.0, "p99_ms": 150.1}, edits=499)
    assert said == {"p50 <= 30 ms": "met", "p99 <= 150 ms": "MISSED", "edits >= 500": "MISSED"}


def test_each_mode_of_propagation_has_figures_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    name_of = import_module("propagation").name_of
    names = [
        name_of(sizes, after=after, traffic=traffic)
        for sizes in ("0x0", "0x0,2000x500")
        for after in ("", "sentinel", "hand-over")
        for traffic in (False, True)
    ]
    assert len(set(names)) == len(names)
    assert names[-1] == "propagation-hand-over-traffic-0x0-2000x500"


def test_every_follower_of_scale_is_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    size = import_module("scale").Size(followers=17, follower_processes=3)
    numbers = [one for first, count in size.shares() for one in range(first, first + count)]
    assert numbers == list(range(17))
    assert {count for _, count in size.shares()} == {5, 6}
