"""Writes the pooled sets as an export, which ``switchboard train`` makes the shipped router of."""

import sys
from pathlib import Path

import msgspec
import numpy as np

from routing_data.tables import load_sets
from routing_data.transfer import pooled
from switchboard_cli.train.rows import Row


def main() -> None:
    """Read the folder of the first argument, write JSON lines to the second."""
    pool = pooled(load_sets(Path(sys.argv[1])))
    with Path(sys.argv[2]).open("wb") as export:
        for place, prompt in enumerate(pool.prompts):
            measured = zip(pool.models, pool.qualities[place].tolist(), strict=True)
            qualities = {name: round(said, 4) for name, said in measured if np.isfinite(said)}
            task = pool.tasks[place]
            row = Row(prompt, qualities, task=task, source=task.partition("/")[0])
            export.write(msgspec.json.encode(row) + b"\n")


if __name__ == "__main__":
    main()
