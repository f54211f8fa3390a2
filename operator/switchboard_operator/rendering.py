"""A status as JSON, and back: what is written to an object, and what one carries. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from switchboard_operator.resources import Raw, parts
from switchboard_operator.status import OURS, Status, Verdict
from switchboard_policy.v1alpha1.conditions import PROGRAMMED


def render(wanted: Status, held: Sequence[Raw], *, now: datetime) -> dict[str, Any]:
    """Return the status as JSON: times move on transitions only, others' conditions stay."""
    before = {each["type"]: each for each in held}
    conditions: list[Raw] = [each for each in held if each["type"] not in OURS]
    for verdict in wanted.verdicts:
        last = before.get(verdict.type)
        since = last["lastTransitionTime"] if last and last["status"] == verdict.status else None
        conditions.append(
            {
                "type": verdict.type,
                "status": verdict.status,
                "reason": str(verdict.reason),
                "message": verdict.message,
                "observedGeneration": wanted.generation,
                "lastTransitionTime": since or now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    status: dict[str, Any] = {
        "observedGeneration": wanted.generation,
        "conditions": conditions,
        "revision": wanted.revision or None,
        "pods": wanted.pods or None,
        "propagation": wanted.propagation or None,
    }
    if wanted.endpoints is not None:
        status["endpoints"] = {"ready": wanted.endpoints[0], "total": wanted.endpoints[1]}
    return status


def read(status: Raw) -> Status | None:
    """Read back what ``render`` wrote; None where no operator has written yet."""
    ours = [each for each in parts(status, "conditions") if each["type"] in OURS]
    if not any(each["type"] == PROGRAMMED for each in ours):
        return None
    counts = status.get("endpoints")
    return Status(
        generation=min(each.get("observedGeneration") or 0 for each in (status, *ours)),
        verdicts=tuple(
            Verdict(each["type"], each["status"] == "True", each["reason"], each["message"])
            for each in ours
        ),
        revision=status.get("revision") or "",
        pods=status.get("pods") or "",
        propagation=status.get("propagation") or "",
        endpoints=(counts["ready"], counts["total"]) if counts else None,
    )
