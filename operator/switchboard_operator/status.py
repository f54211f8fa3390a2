"""From the compiler's report and the pods' acks to the status that people read. Pure.

Accepted, ResolvedRefs, Programmed and Ready are always there; Degraded, Reconciling and Stalled
only while they are true, and never the last two together, as kstatus has it. A status is written
again when a condition changes; counts alone (``differs`` says ``COUNTS``) can wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

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
    {
        Reason.WAITING_FOR_PODS,
        Reason.PROGRAMMED,
        Reason.NO_DATA_PLANES,
        Reason.LAST_GOOD_IN_FORCE,
        Reason.REFUSED_BY_POD,
        Reason.READY,
    }
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
    """All that is written to one object; ``endpoints`` is (ready, total) of a backend.

    ``propagation`` is how long the revision took to all pods, as ``41ms``; "" if nobody measured.
    """

    generation: int
    verdicts: tuple[Verdict, ...]
    revision: str = ""
    pods: str = ""
    propagation: str = ""
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

    ``held`` is the status that it carries. What once was programmed at this revision stays so, in
    the same words, however many pods came or went since (the summary of the scope counts those).
    """
    accepted = _accepted(report)
    resolved = _resolved(report)
    programmed = _programmed(report, standing)
    counted_pods = standing.revision and standing.pods and not standing.pending
    pods = f"{standing.acked}/{standing.pods}" if counted_pods else ""
    propagation = _duration(standing.took_s) if standing.took_s is not None else ""
    if held is not None and _stays_programmed(held, report, standing):
        programmed = held.verdict(PROGRAMMED) or programmed
        pods, propagation = held.pods, held.propagation
    verdicts = [accepted, resolved, programmed]
    verdicts.extend(_degraded(report))
    if not accepted.holds or programmed.reason == Reason.REFUSED_BY_POD:
        why = programmed if accepted.holds else accepted
        verdicts.append(_yes(STALLED, why.reason, why.message))
    elif programmed.reason in _UNDER_WAY:
        verdicts.append(_yes(RECONCILING, programmed.reason, programmed.message))
    verdicts.append(_ready(accepted, resolved, _answering(report), programmed))
    return Status(
        generation=report.generation,
        verdicts=tuple(verdicts),
        revision=str(standing.revision or ""),
        pods=pods,
        propagation=propagation,
        endpoints=(report.endpoints_ready, report.endpoints_total) if counted else None,
    )


def differs(held: Status | None, wanted: Status) -> Difference:
    """Say how much of ``wanted`` is not held yet.

    While pods lack or refuse an object only their numbers and names change in its messages: that
    is COUNTS.
    """
    if held is None or held.generation != wanted.generation:
        return Difference.CONDITIONS
    if held == wanted:
        return Difference.NONE
    if _essence(held) != _essence(wanted):
        return Difference.CONDITIONS
    return Difference.COUNTS


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
        nameless=all(report.nameless for report in every),
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
    reason, message = _reached(standing)
    if report.quarantined:
        message = f"The last good spec, not this edit: {message}"
        if reason is Reason.PROGRAMMED:
            reason = Reason.LAST_GOOD_IN_FORCE
    holds = reason is Reason.PROGRAMMED
    return Verdict(PROGRAMMED, holds=holds, reason=reason, message=_bounded(message))


def _reached(standing: Standing) -> tuple[Reason, str]:
    """Say how far what is published has come."""
    at = f"revision {standing.revision}"
    if not standing.pods:
        return Reason.NO_DATA_PLANES, f"Published at {at}; no data plane runs yet"
    count = f"{standing.acked}/{standing.pods} pods at {at}"
    if standing.refused:
        return Reason.REFUSED_BY_POD, f"{count}; refused by {_named(standing.refused)}"
    if standing.behind:
        return Reason.WAITING_FOR_PODS, f"{count}; waiting for {_named(standing.behind)}"
    took = "" if standing.took_s is None else f" after {_duration(standing.took_s)}"
    return Reason.PROGRAMMED, count + took


def _unpublished(report: ObjectReport) -> Verdict:
    if report.rejected:
        return _no(PROGRAMMED, report.rejected[0].reason, "Not published: it is not accepted")
    return _no(PROGRAMMED, Reason.NOT_REFERENCED, "Not published: no policy in force refers to it")


def _degraded(report: ObjectReport) -> Iterable[Verdict]:
    if report.quarantined:
        found = _sentence((*report.rejected, *report.warnings))
        message = f"The last good spec is in force until the edit is corrected: {found}"
        yield _yes(DEGRADED, Reason.LAST_GOOD_IN_FORCE, _bounded(message))
    elif report.warnings:
        yield _yes(DEGRADED, report.warnings[0].reason, _sentence(report.warnings))


def _answering(report: ObjectReport) -> Verdict | None:
    """Say that a policy in good order gets no request; None if it does."""
    if not report.nameless:
        return None
    lost = [each for each in report.warnings if each.reason is Reason.MODEL_NAME_CLAIMED]
    return _no(READY, Reason.MODEL_NAME_CLAIMED, _sentence(lost))


def _ready(
    accepted: Verdict, resolved: Verdict, answering: Verdict | None, programmed: Verdict
) -> Verdict:
    for verdict in (accepted, resolved, answering):
        if verdict is not None and not verdict.holds:
            return _no(READY, verdict.reason, verdict.message)
    if programmed.holds or programmed.reason in _READY_UNPROGRAMMED:
        return _yes(READY, Reason.READY, programmed.message)
    return _no(READY, programmed.reason, programmed.message)


def _stays_programmed(held: Status, report: ObjectReport, standing: Standing) -> bool:
    """Say whether all pods once had this revision, for this very edit, and none refuses it."""
    before = held.verdict(PROGRAMMED)
    in_force = Reason.LAST_GOOD_IN_FORCE if report.quarantined else Reason.PROGRAMMED
    return (
        before is not None
        and before.reason == in_force
        and held.generation == report.generation
        and held.revision == str(standing.revision or "")
        and not standing.refused
        and not standing.unsure
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
    counting = (PROGRAMMED, RECONCILING, STALLED, READY)
    return verdict.type in counting and verdict.reason in _COUNTING


def _duration(seconds: float) -> str:
    """Write it as GEP-2257 has it, in at most two units: ``41ms``, ``1s230ms``, ``2m5s``."""
    total_ms = max(1, round(seconds * 1000))
    units = (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
    first = next(place for place, (_, unit_ms) in enumerate(units) if total_ms >= unit_ms)
    said = ""
    for name, unit_ms in units[first : first + 2]:
        count, total_ms = divmod(total_ms, unit_ms)
        said += f"{count}{name}" if count or not said else ""
    return said


def _named(pods: Sequence[str]) -> str:
    rest = len(pods) - NAMED_PODS_MAX
    return ", ".join(pods[:NAMED_PODS_MAX]) + (f" and {rest} more" if rest > 0 else "")


def _sentence(findings: Sequence[Finding]) -> str:
    return _bounded("; ".join(finding.message for finding in findings))


def _bounded(text: str) -> str:
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
