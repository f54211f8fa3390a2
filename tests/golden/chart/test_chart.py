"""The rendered chart: reviewed as text, and the source of the rights that other tests run under."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.helm import find_helm

HERE = Path(__file__).parent
CHART = HERE.parents[2] / "helm" / "switchboard"
CASES = {
    "cluster-wide": ["--set", "redis.url=redis://redis:6379/0"],
    "two-namespaces": [
        *("--set", "redis.existingSecret.name=store"),
        *("--set", "watchNamespaces={team-a,team-b}"),
        *("--set", "gateway.admit=Selector", "--set", "gateway.selector.team=a"),
        *("--set", "gateway.platformNamespace=team-a", "--set", "gateway.order={team-a}"),
        *("--set", "operator.replicas=2", "--set", "service.port=8000"),
        *("--set", "gateway.keys.rotateAfter=24h", "--set", "redis.caConfigMap=redis-ca"),
        *("--set", "gateway.upstreamCa.configMap=models-ca"),
        *("--set", "gateway.routers.persistentVolumeClaim.claimName=routers"),
        *(
            "--set",
            "gateway.env[0].name=HTTPS_PROXY",
            "--set",
            "gateway.env[0].value=http://p:3128",
        ),
    ],
}


@pytest.fixture
def helm() -> Path:
    found = find_helm()
    if found is None:
        why = "no helm; `make setup-test` builds one"
        if os.environ.get("CI"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return found


def run(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def render(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(helm, "template", "sb", str(CHART), "--namespace", "switchboard", *arguments)


@pytest.mark.parametrize("case", CASES)
def test_the_chart_renders_as_reviewed(
    case: str, helm: Path, golden: Callable[[Path, str], None]
) -> None:
    done = render(helm, *CASES[case])
    assert done.returncode == 0, done.stderr
    golden(HERE / f"{case}.yaml", done.stdout)


def test_the_chart_passes_lint(helm: Path) -> None:
    done = run(helm, "lint", "--strict", str(CHART), *CASES["cluster-wide"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_chart_without_a_store_says_what_to_set(helm: Path) -> None:
    done = render(helm)
    assert done.returncode != 0
    assert "set redis.url or redis.existingSecret.name" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "redis.url=http://redis",
        "gateway.admit=Some",
        "gateway.name=Big",
        "gateway.keys.rotateAfter=30d",
        "operator.replicas=many",
        "gatewayz.name=x",
        "service.port=0",
    ],
)
def test_a_wrong_value_is_refused_by_its_path(helm: Path, wrong: str) -> None:
    done = render(helm, *CASES["cluster-wide"], "--set", wrong)
    assert done.returncode != 0
    assert wrong.partition(".")[0] in done.stderr


def test_no_key_is_ever_part_of_a_release(helm: Path) -> None:
    assert "kind: Secret" not in render(helm, *CASES["cluster-wide"]).stdout
