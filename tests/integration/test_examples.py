"""Every example is accepted by a real API server, and by `validate` without a warning."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.control_plane import ControlPlane
from cluster.line import COMMAND

REPO = Path(__file__).parents[2]
# A repository for Argo CD and Flux has tests of its own: test_gitops.py.
EXAMPLES = sorted(path for path in (REPO / "examples").iterdir() if path.name != "gitops")
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_applies(example: Path, api: ControlPlane) -> None:
    for name in ("ai", "switchboard"):
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
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


def test_the_autoscaler_of_the_page_on_load_applies_and_reads_what_its_rule_makes(
    api: ControlPlane, namespace: str
) -> None:
    blocks = BLOCK.findall((REPO / "docs" / "load.md").read_text())
    objects = [one for block in blocks for one in yaml.safe_load_all(block)]
    (scaler,) = (one for one in objects if one.get("kind") == "HorizontalPodAutoscaler")
    (rules,) = (one["rules"]["external"] for one in objects if "rules" in one)
    read = [one["external"]["metric"]["name"] for one in scaler["spec"]["metrics"]]
    assert read == [one["name"]["as"] for one in rules]
    scaler["metadata"]["namespace"] = namespace
    api.apply(scaler)
