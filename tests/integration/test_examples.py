"""Every example is accepted by a real API server, and by `validate` without a warning."""

import subprocess
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import COMMAND

EXAMPLES = sorted(path for path in (Path(__file__).parents[2] / "examples").iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_applies(example: Path, api: ControlPlane) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ai"}}
    api.apply(namespace)
    api.kubectl("apply", "--server-side", "--dry-run=server", "-f", str(example))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_without_a_warning(example: Path) -> None:
    done = subprocess.run(
        [*map(str, COMMAND), "validate", "--strict", str(example)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (example / "README.md").exists()
