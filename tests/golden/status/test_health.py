"""What Argo CD and Flux make of statuses that the operator wrote on a real API server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import kstatus
from fakes.argocd import FOLDER as ARGOCD
from fakes.argocd import SCRIPT, assess_health

REPO = Path(__file__).parents[3]
FOLDER = Path(__file__).parent
PAGE = REPO / "docs" / "operations" / "gitops-health.md"
OBJECTS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))
}
HEALTH = {
    "claimed": ("Degraded", "InProgress"),
    "dangling": ("Degraded", "InProgress"),
    "invalid": ("Degraded", "Failed"),
    "no-data-planes": ("Healthy", "Current"),
    "not-referenced": ("Healthy", "Current"),
    "pending": ("Progressing", "InProgress"),
    "quarantined": ("Degraded", "Failed"),
    "ready": ("Healthy", "Current"),
    "ready-backend": ("Healthy", "Current"),
    "refused": ("Degraded", "Failed"),
    "secret-missing": ("Degraded", "InProgress"),
    "stale": ("Progressing", "InProgress"),
    "store-unavailable": ("Progressing", "InProgress"),
    "waiting": ("Progressing", "InProgress"),
    "warned": ("Healthy", "Current"),
}
"""Each golden status: Argo CD's health, and kstatus'.

kstatus has no word for what another object may mend: a dangling reference is on its way there.
"""


def with_status(case: str, **changes: str) -> dict[str, Any]:
    """A golden object with other statuses of conditions."""
    found = OBJECTS[case]
    conditions = [
        {**each, "status": changes.get(each["type"], each["status"])}
        for each in found["status"]["conditions"]
    ]
    return {**found, "status": {**found["status"], "conditions": conditions}}


def test_every_recorded_status_has_a_verdict() -> None:
    assert OBJECTS.keys() == HEALTH.keys()


@pytest.mark.parametrize("case", HEALTH)
def test_argo_cd_shows_the_health_of_a_status(case: str) -> None:
    health = assess_health(OBJECTS[case])
    assert health.status == HEALTH[case][0]
    assert health.message


@pytest.mark.parametrize("case", HEALTH)
def test_kstatus_tells_flux_what_becomes_of_it(case: str) -> None:
    assert kstatus.compute(OBJECTS[case]).status == HEALTH[case][1]


@pytest.mark.parametrize("case", HEALTH)
def test_an_edit_that_no_operator_has_seen_is_never_healthy(case: str) -> None:
    found = OBJECTS[case]
    edited = {**found, "metadata": {**found["metadata"], "generation": 99}}
    if case != "pending":
        assert "not 99" in assess_health(edited).message
        assert "99" in kstatus.compute(edited).message
    assert assess_health(edited).status == "Progressing"
    assert kstatus.compute(edited).status == "InProgress"


@pytest.mark.parametrize("kind", ["ModelBackend", "RoutingPolicy"])
@pytest.mark.parametrize("status", [{}, {"conditions": []}, {"observedGeneration": 1}, None])
def test_an_object_without_a_status_is_progressing(kind: str, status: Any) -> None:
    bare = {"kind": kind, "metadata": {"generation": 1}}
    manifest = bare if status is None else bare | {"status": status}
    assert assess_health(manifest).status == "Progressing"


def test_the_message_names_what_to_look_at() -> None:
    assert assess_health(OBJECTS["refused"]).message.startswith("RefusedByPod: 1/2 pods at")
    assert "pod-2: unknown format 9" in assess_health(OBJECTS["refused"]).message
    assert "ai/nobody" in assess_health(OBJECTS["dangling"]).message
    assert "spec.rules[0].when" in assess_health(OBJECTS["quarantined"]).message
    assert "; but UnreachableRule: " in assess_health(OBJECTS["warned"]).message


def test_what_is_not_accepted_is_degraded_whatever_else_is_said() -> None:
    assert assess_health(with_status("ready", Accepted="False")).status == "Degraded"
    assert assess_health(with_status("ready", ResolvedRefs="False")).status == "Degraded"
    assert assess_health(with_status("ready", Ready="False")).status == "Progressing"
    assert assess_health(with_status("ready", Ready="Unknown")).status == "Progressing"


def test_a_deletion_and_an_object_without_conditions_are_read_as_kstatus_has_it() -> None:
    found = OBJECTS["ready"]
    going = {**found, "metadata": {**found["metadata"], "deletionTimestamp": "2026-05-01"}}
    assert kstatus.compute(going).status == "Terminating"
    assert kstatus.compute({"metadata": {"generation": 1}}).status == "Current"


def test_the_patch_for_argo_cd_holds_the_very_script_for_each_kind() -> None:
    patch = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    for kind in ("ModelBackend", "RoutingPolicy"):
        script = patch.pop(f"resource.customizations.health.switchboard.dev_{kind}")
        assert script == SCRIPT.read_text()
        assert assess_health(OBJECTS["refused"] | {"kind": kind}, script).status == "Degraded"
    assert patch == {}


def test_the_page_shows_what_becomes_of_each_case() -> None:
    rows = {
        cells[1].strip(" `"): (cells[-3].strip(), cells[-2].strip())
        for line in PAGE.read_text().splitlines()
        if len(cells := line.split("|")) == 6
    }
    assert {case: rows.get(case) for case in HEALTH} == HEALTH


def test_the_page_shows_the_script() -> None:
    assert SCRIPT.read_text() in PAGE.read_text()
