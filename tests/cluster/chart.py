"""The chart, rendered: from values files beside their golden files, by the pinned helm."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.helm import find_helm

CHART = Path(__file__).parents[2] / "helm" / "switchboard"
CASES = Path(__file__).parents[1] / "golden" / "chart"
"""CASE.values.yaml is what a person would write, CASE.yaml what comes of it."""
NAMES = sorted(path.name.removesuffix(".values.yaml") for path in CASES.glob("*.values.yaml"))
RELEASE = "sb"
NAMESPACE = "switchboard"
STORE = ("--set", "redis.url=redis://redis:6379/0")
"""The least that has to be said."""
SECONDS = 600

JsonObject = dict[str, Any]


def values_of(case: str) -> tuple[str, ...]:
    """The flags that choose a case's values."""
    return "--values", str(CASES / f"{case}.values.yaml")


class Helm:
    """The helm program, for one cluster or none."""

    def __init__(self, program: Path, environ: Mapping[str, str] | None = None) -> None:
        self._program = program
        self._environ = {**os.environ, **(environ or {})}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        return subprocess.run(
            [self._program, *arguments],
            # What documents say is said from there.
            cwd=CHART.parents[1],
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def must(self, *arguments: str) -> str:
        """Run it; return its standard output. An error fails the test with what it said."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def template(
        self, *arguments: str, namespace: str = NAMESPACE
    ) -> subprocess.CompletedProcess[str]:
        """Render the chart without a look at a cluster."""
        return self.run("template", RELEASE, str(CHART), "--namespace", namespace, *arguments)

    def documents(self, *arguments: str, namespace: str = NAMESPACE) -> Iterator[JsonObject]:
        """Yield what the chart renders."""
        done = self.template(*arguments, namespace=namespace)
        assert done.returncode == 0, done.stderr
        yield from (found for found in yaml.safe_load_all(done.stdout) if found)


def require_helm(environ: Mapping[str, str] | None = None) -> Helm:
    """The helm that is there; in CI it must be."""
    found = find_helm()
    if found is None:
        why = "no helm; `make setup-test` builds one"
        if os.environ.get("CI"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return Helm(found, environ)


def pods_of(documents: Iterator[JsonObject]) -> Iterator[tuple[str, JsonObject]]:
    """Yield name and spec of every Pod and of every workload's template."""
    for found in documents:
        if found["kind"] == "Pod":
            yield found["metadata"]["name"], found["spec"]
        elif found["kind"] == "Deployment":
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def only(documents: list[JsonObject], kind: str, name: str) -> JsonObject:
    """The one document of a kind and a name."""
    (found,) = (
        each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found
