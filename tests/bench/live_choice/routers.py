"""A router trained on some rows of a table, as ``switchboard train`` does, for policies to name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from fakes.outcome_tables import Table
from switchboard_cli.train.command import main as train
from switchboard_cli.train.rows import Row
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.choosing.routers import file_name


class Trained(NamedTuple):
    """A router, and the folder where a data plane finds it."""

    router: Router
    folder: str


@contextmanager
def trained(table: Table, places: Sequence[int]) -> Iterator[Trained]:
    """Train on these rows of a table; its models are the tiers."""
    with TemporaryDirectory() as name:
        export, output = Path(name) / "export.jsonl", Path(name) / "router"
        with export.open("wb") as file:
            for place in places:
                said = {model: table.qualities[model][place] for model in table.models}
                file.write(msgspec.json.encode(Row(table.prompts[place], said)) + b"\n")
        # What it says of itself is of no interest here.
        with redirect_stdout(StringIO()):
            assert train([str(export), "--output", str(output)]) == 0
        router = load_router(output.read_bytes())
        output.rename(output.with_name(file_name(router.digest)))
        yield Trained(router, name)
