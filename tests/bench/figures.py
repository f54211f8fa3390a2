"""Writes a benchmark's figures: a table for people, a JSON file for scripts."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]


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
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": commit.stdout.strip(),
    }


def write_figures(name: str, figures: Mapping[str, Any] | list[Mapping[str, Any]]) -> None:
    """Print the figures and write them to ``.bench/NAME.json``."""
    folder = REPO / ".bench"
    folder.mkdir(exist_ok=True)
    said = figures if isinstance(figures, list) else {**figures, "machine": machine()}
    (folder / f"{name}.json").write_text(json.dumps(said, indent=2) + "\n")
    rows = figures if isinstance(figures, list) else [figures]
    for row in rows:
        for key, value in row.items():
            print(f"{key:>28}  {value}")
        print()
