"""From the compiler's report and the pods' acks to the status that people read. Pure.

Accepted, ResolvedRefs, Programmed and Ready are always there; Degraded, Reconciling and Stalled
only while they are true, as kstatus has it. A status is written again when a condition changes;
counts alone (``differs`` says ``COUNTS``) can wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Literal

from switchboard_operator.resources import Raw, parts
from switchboard_operator.standing import Standing
from switchboard_policy.compiler.report import Finding, ObjectReport
from switchboard_policy.v1alpha1.conditions import (
    ACCEPTED,
    DEGRADED,
    PROGRAMMED,
    READY,
    RECONCILING,
    RESOLVED_REFS,
    STALLED,
    Reason,
)

MESSAGE_CHARACTERS_MAX: Final = 1024
"""A screen; the schema would take 32 KiB."""
NAMED_PODS_MAX: Final = 3
"""Pods that a message names; the rest is a number."""

Truth = Literal["True", "False"]
OURS: Final = frozenset(
    {ACCEPTED, RESOLVED_REFS, PROGRAMMED, READY, DEGRADED, RECONCILING, STALLED}
)
#: Reasons for which a backend or policy that is not programmed is ready all the same.
_READY_UNPROGRAMMED: Final = frozenset({Reason.NOT_REFERENCED, Reason.NO_DATA_PLANES})
#: Reasons for which it will be programmed without anybody's doing.
_UNDER_WAY: Final = frozenset({Reason.WAITING_FOR_PODS, Reason.PENDING, Reason.STORE_UNAVAILABLE})
#: Reasons whose message counts pods.
_COUNTING: Final = frozenset(
    {Reason.WAITING_FOR_PODS, Reason.PROGRAMMED, Reason.NO_DATA_PLANES, Reason.READY}
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times."""

    type: str
    holds: bool
    reason: str
    message: str

    @property
    def status(self) -> Truth:
        """As Kubernetes spells it."""
        return "True" if self.holds else "False"


@dataclass(frozen=True, slots=True)
class Status:
    """All that is written to one object; ``endpoints`` is (ready, total) of a backend."""

    generation: int
    verdicts: tuple[Verdict, ...]
    revision: str = ""
    pods: str = ""
    endpoints: tuple[int, int] | None = None

    def verdict(self, of: str) -> Verdict | None:
        """Return the condition of that type."""
        return next((each for each in self.verdicts if each.type == of), None)


class Difference(Enum):
    """What a status that is held lacks of one that is wanted."""

    NONE = 0
    COUNTS = 1
    CONDITIONS = 2


def assess(
    report: ObjectReport, standing: Standing, held: Status | None, *, counted: bool = False
) -> Status:
    """Say what is so of one object, with the number of its endpoints if it is ``counted``.

    ``held`` is the status that it carries. What once was programmed at this revision stays so,
    however many pods came or went silent since (the summary of the scope counts those).
    """
    accepted = _accepted(report)
    resolved = _resolved(report)
    programmed = _programmed(report, standing)
    pods = f"{standing.acked}/{standing.pods}" if standing.revision and standing.pods else ""
    if held is not None and not programmed.holds and _was_programmed(held, report, standing):
        programmed = held.verdict(PROGRAMMED) or programmed
        pods = held.pods
    verdicts = [accepted, resolved, programmed]
    verdicts.extend(_degraded(report))
    if programmed.reason in _UNDER_WAY:
        verdicts.append(_yes(RECONCILING, programmed.reason, programmed.message))
    if not accepted.holds or programmed.reason == Reason.REFUSED_BY_POD:
        why = programmed if accepted.holds else accepted
        verdicts.append(_yes(STALLED, why.reason, why.message))
    verdicts.append(_ready(accepted, resolved, programmed))
    return Status(
        generation=report.generation,
        verdicts=tuple(verdicts),
        revision=str(standing.revision or ""),
        pods=pods,
        endpoints=(report.endpoints_ready, report.endpoints_total) if counted else None,
    )


def differs(held: Status | None, wanted: Status) -> Difference:
    """Say how much of ``wanted`` is not held yet.

    While an object waits for pods only their number changes in its messages: that is COUNTS.
    """
    if held is None or held.generation != wanted.generation:
        return Difference.CONDITIONS
    if held == wanted:
        return Difference.NONE
    if _essence(held) != _essence(wanted):
        return Difference.CONDITIONS
    return Difference.COUNTS


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
        "conditions": conditions,
        "revision": wanted.revision or None,
        "pods": wanted.pods or None,
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
        generation=min(each.get("observedGeneration") or 0 for each in ours),
        verdicts=tuple(
            Verdict(each["type"], each["status"] == "True", each["reason"], each["message"])
            for each in ours
        ),
        revision=status.get("revision") or "",
        pods=status.get("pods") or "",
        endpoints=(counts["ready"], counts["total"]) if counts else None,
    )


def merge(reports: Mapping[str, ObjectReport]) -> ObjectReport:
    """Return the one report of an object that several gateways (by name) speak of.

    Gateways that do not admit its namespace are left out if another one does.
    """
    admitting = {
        gateway: report
        for gateway, report in reports.items()
        if not any(each.reason is Reason.NAMESPACE_NOT_ADMITTED for each in report.rejected)
    } or dict(reports)
    first, *others = admitting.values()
    if not others:
        return first
    every = (first, *others)
    return ObjectReport(
        kind=first.kind,
        name=first.name,
        generation=first.generation,
        rejected=_union(report.rejected for report in every),
        unresolved=_union(report.unresolved for report in every),
        warnings=_union(report.warnings for report in every),
        keys=tuple(dict.fromkeys(key for report in every for key in report.keys)),
        quarantined=any(report.quarantined for report in every),
        endpoints_ready=first.endpoints_ready,
        endpoints_total=first.endpoints_total,
    )


def _union(findings: Iterable[tuple[Finding, ...]]) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(finding for each in findings for finding in each))


def _yes(of: str, reason: str, message: str) -> Verdict:
    return Verdict(type=of, holds=True, reason=reason, message=message)


def _no(of: str, reason: str, message: str) -> Verdict:
    return Verdict(type=of, holds=False, reason=reason, message=message)


def _accepted(report: ObjectReport) -> Verdict:
    if report.rejected:
        return _no(ACCEPTED, report.rejected[0].reason, _sentence(report.rejected))
    return _yes(ACCEPTED, Reason.ACCEPTED, "The object is valid")


def _resolved(report: ObjectReport) -> Verdict:
    if report.unresolved:
        return _no(RESOLVED_REFS, report.unresolved[0].reason, _sentence(report.unresolved))
    return _yes(RESOLVED_REFS, Reason.RESOLVED_REFS, "All references resolve")


def _programmed(report: ObjectReport, standing: Standing) -> Verdict:
    if standing.pending:
        reason = Reason.STORE_UNAVAILABLE if standing.store_away else Reason.PENDING
        return _no(PROGRAMMED, reason, _bounded(standing.pending))
    if standing.revision is None:
        return _unpublished(report)
    at = f"revision {standing.revision}"
    count = f"{standing.acked}/{standing.pods} pods at {at}"
    if not standing.pods:
        return _no(PROGRAMMED, Reason.NO_DATA_PLANES, f"Published at {at}; no data plane runs yet")
    if standing.refused:
        message = f"{count}; refused by {_named(standing.refused)}"
        return _no(PROGRAMMED, Reason.REFUSED_BY_POD, message)
    if standing.behind:
        message = f"{count}; waiting for {_named(standing.behind)}"
        return _no(PROGRAMMED, Reason.WAITING_FOR_PODS, message)
    return _yes(PROGRAMMED, Reason.PROGRAMMED, count)


def _unpublished(report: ObjectReport) -> Verdict:
    if report.rejected:
        return _no(PROGRAMMED, report.rejected[0].reason, "Not published: it is not accepted")
    return _no(PROGRAMMED, Reason.NOT_REFERENCED, "Not published: no policy in force refers to it")


def _degraded(report: ObjectReport) -> Iterable[Verdict]:
    if report.quarantined:
        yield _yes(
            DEGRADED,
            Reason.LAST_GOOD_IN_FORCE,
            _bounded(
                "The last good spec is in force until the edit is corrected: "
                + _sentence(report.rejected)
            ),
        )
    elif report.warnings:
        yield _yes(DEGRADED, report.warnings[0].reason, _sentence(report.warnings))


def _ready(accepted: Verdict, resolved: Verdict, programmed: Verdict) -> Verdict:
    for verdict in (accepted, resolved):
        if not verdict.holds:
            return _no(READY, verdict.reason, verdict.message)
    if programmed.holds or programmed.reason in _READY_UNPROGRAMMED:
        return _yes(READY, Reason.READY, programmed.message)
    return _no(READY, programmed.reason, programmed.message)


def _was_programmed(held: Status, report: ObjectReport, standing: Standing) -> bool:
    before = held.verdict(PROGRAMMED)
    return (
        before is not None
        and before.holds
        and held.generation == report.generation
        and held.revision == str(standing.revision or "")
        and not standing.refused
        and not standing.pending
    )


def _essence(status: Status) -> tuple[tuple[str, bool, str, str], ...]:
    """The conditions without what merely counts pods."""
    return tuple(
        sorted(
            (each.type, each.holds, str(each.reason), "" if _counts_pods(each) else each.message)
            for each in status.verdicts
        )
    )


def _counts_pods(verdict: Verdict) -> bool:
    return verdict.type in (PROGRAMMED, RECONCILING, READY) and verdict.reason in _COUNTING


def _named(pods: Sequence[str]) -> str:
    rest = len(pods) - NAMED_PODS_MAX
    text = ", ".join(pods[:NAMED_PODS_MAX]) + (f" and {rest} more" if rest > 0 else "")
    return _bounded(text)


def _sentence(findings: Sequence[Finding]) -> str:
    return _bounded("; ".join(finding.message for finding in findings))


def _bounded(text: str) -> str:
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
