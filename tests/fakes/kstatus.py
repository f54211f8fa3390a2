"""kstatus, which Flux and ``kubectl wait``-like tools read a custom resource by, as published.

The order matters: a deletion, then a generation that was not observed, then Reconciling and
Stalled as they come in the list, then Ready; without any of these an object counts as current.
(Kubernetes' own kinds have rules of their own, which are not here.)
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Status = Literal["InProgress", "Failed", "Current", "Terminating"]


class Result(NamedTuple):
    """What becomes of an object, and why."""

    status: Status
    message: str


def compute(manifest: Mapping[str, Any]) -> Result:
    """Return the status of a custom resource."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    if metadata.get("deletionTimestamp"):
        return Result("Terminating", "Resource scheduled for deletion")
    observed, generation = status.get("observedGeneration"), metadata.get("generation")
    if observed is not None and observed != generation:
        return Result("InProgress", f"generation is {generation}, but observed is {observed}")
    conditions = status.get("conditions", [])
    for condition in conditions:
        if condition["status"] != "True":
            continue
        if condition["type"] == "Reconciling":
            return Result("InProgress", condition["message"])
        if condition["type"] == "Stalled":
            return Result("Failed", condition["message"])
    for condition in conditions:
        if condition["type"] == "Ready":
            current = condition["status"] == "True"
            return Result("Current" if current else "InProgress", condition["message"])
    return Result("Current", "Resource is current")
