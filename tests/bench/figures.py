"""Writes a benchmark's figures: a table for people, a JSON file for scripts."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
FOLDER = "SWITCHBOARD_BENCH_FOLDER"
"""Where figures go instead of ``.bench``: a smoke run must not replace what was measured."""


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": commit.stdout.strip(),
    }


def cpu_model() -> str:
    """The name of the processor, "" where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def save_figures(name: str, figures: Mapping[str, Any] | list[Mapping[str, Any]]) -> None:
    """Write the figures to ``.bench/NAME.json``."""
    folder = Path(os.environ.get(FOLDER) or REPO / ".bench")
    folder.mkdir(exist_ok=True)
    said = figures if isinstance(figures, list) else {**figures, "machine": machine()}
    (folder / f"{name}.json").write_text(json.dumps(said, indent=2) + "\n")


def write_figures(name: str, figures: Mapping[str, Any] | list[Mapping[str, Any]]) -> None:
    """Print the figures and write them to ``.bench/NAME.json``."""
    save_figures(name, figures)
    rows = figures if isinstance(figures, list) else [figures]
    for row in rows:
        for key, value in row.items():
            print(f"{key:>28}  {value}")
        print()
