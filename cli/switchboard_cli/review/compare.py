"""Two compiled sets to everything that changes in effect, the most important first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from switchboard_cli.folder import DEFAULT_NAMESPACE
from switchboard_cli.review.backends import changed_backends
from switchboard_cli.review.changes import Change, in_order
from switchboard_cli.review.clients import changed_clients
from switchboard_cli.review.guards import changed_guardrails, left_behind
from switchboard_cli.review.policies import changed_policies
from switchboard_cli.review.renames import renamed_objects
from switchboard_cli.review.running import snapshot_of
from switchboard_cli.review.served import changed_names, handed_on
from switchboard_cli.review.sides import Side
from switchboard_dataplane.decision.running import Snapshot
from switchboard_policy.compiler.report import ROUTING_POLICY, ObjectReport
from switchboard_policy.v1alpha1.conditions import Reason

#: Said otherwise, and of both sides.
_SAID_ALREADY: Final = frozenset(
    {
        *(Reason.UNREACHABLE_RULE, Reason.MODEL_NAME_CLAIMED, Reason.TIER_EMPTIED_BY_GUARDRAIL),
        Reason.RULE_WITHOUT_BACKENDS,
    }
)


#: What a backend names anew need not be in the same manifests.
_MAYBE_ELSEWHERE: Final = frozenset({Reason.SERVICE_NOT_FOUND, Reason.SECRET_NOT_FOUND})

#: What `validate` says of an object that two manifests hold.
_TWICE: Final = "is there already, in "


@dataclass(frozen=True, slots=True)
class Compared:
    """What changes, the most important first, and both sets as they would run.

    ``old`` has the names of the new set, for what is only called otherwise.
    """

    changes: list[Change]
    old: Side
    before: Snapshot
    after: Snapshot


def compared(old: Side, new: Side) -> Compared:
    """Compare two sets; a set and itself have no change."""
    taken, renamed = renamed_objects(old, new)
    before, after = snapshot_of(taken), snapshot_of(new)
    changes = in_order(
        (
            *refused(new, old),
            *_changes(taken, new, before, after),
            *renamed,
            *_said(taken, new),
        )
    )
    return Compared(changes, taken, before, after)


def _changes(old: Side, new: Side, before: Snapshot, after: Snapshot) -> Iterator[Change]:
    yield from changed_names(old, new, before, after)
    yield from changed_guardrails(old, new)
    yield from left_behind(old, new, handed_on(old, new, before, after))
    yield from changed_policies(old, new)
    yield from changed_backends(old, new)
    yield from changed_clients(old, new)


def refused(new: Side, old: Side | None = None) -> Iterator[Change]:
    """Yield the objects that would be refused, with what becomes of them."""
    known = {str(name): report for (_, name), report in new.reports.items() if report.rejected}
    before = {f"{kind} {name}" for kind, name in old.reports} if old is not None else set[str]()
    for finding in new.findings:
        kind, _, name = finding.object.partition(" ")
        report = known.get(name) or known.get(f"{DEFAULT_NAMESPACE}/{name}")
        keeps = old is not None and report is not None and report.quarantined
        if finding.field == "apiVersion":
            full = name if "/" in name else f"{DEFAULT_NAMESPACE}/{name}"
            keeps = f"{kind} {full}" in before
        stays = "its last good form stays in force" if keeps else "nothing of it comes into force"
        where = f"{finding.file}:{finding.line}" if finding.line else finding.file
        told = ": ".join(filter(None, (finding.field, _first_line(finding.message))))
        who = finding.object or "an object"
        twice = _TWICE in finding.message
        text = f"{who} would be refused, and {stays}: {told}"
        if twice:
            text = f"{who} is there twice: which of the two comes into force is left to chance"
        yield Change(
            severity="refused",
            kind="object is there twice" if twice else "object refused",
            text=text,
            policy=name if kind == ROUTING_POLICY else "",
            backend=name if kind == "ModelBackend" else "",
            details=(f"{where}: {finding.fix}",) if finding.fix else (where,),
        )


def _first_line(message: str) -> str:
    """Return what is wrong, without the caret under its place."""
    return message.partition("\n")[0]


def _said(old: Side, new: Side) -> Iterator[Change]:
    """Yield what the compiler says of objects now and did not say before."""
    refused_names = {one.object for one in new.findings}
    for (kind, name), report in new.reports.items():
        known = old.reports.get((kind, name))
        before = _findings(known)
        if kind != ROUTING_POLICY:
            if known is not None and str(name) in old.backends:
                yield from _missing(str(name), _findings(report) - before, old, new)
            continue
        for reason, message in _findings(report) - before:
            if reason == Reason.MODEL_NAME_CLAIMED and _claims_more(str(name), old, new):
                text = f"policy {name}: {message}"
                yield Change(
                    severity="note", kind="model name not won", text=text, policy=str(name)
                )
            if reason in _SAID_ALREADY:
                continue
            broken = any(one.message == message for one in report.unresolved)
            yield Change(
                severity="lost" if broken else "note",
                kind="reference broken" if broken else "warning",
                text=f"policy {name}: {message}",
                policy=str(name),
            )
        said = f"{kind} {name}" in refused_names
        if report.rejected and not said and (known is None or known.rejected != report.rejected):
            yield Change(
                severity="refused",
                kind="object refused",
                text=f"policy {name} would be refused: {report.rejected[0].message}",
                policy=str(name),
            )


def _missing(
    backend: str, findings: set[tuple[str, str]], old: Side, new: Side
) -> Iterator[Change]:
    named = {
        (spec.service, spec.credentials)
        for spec in (side.backend_specs.get(backend) for side in (old, new))
        if spec is not None
    }
    for reason, message in findings:
        if reason in _MAYBE_ELSEWHERE and len(named) > 1:
            continue
        yield Change(
            severity="lost",
            kind="reference broken",
            text=f"backend {backend}: {message}",
            backend=backend,
        )


def _claims_more(policy: str, old: Side, new: Side) -> bool:
    """Say whether a policy claims names that it did not; who loses one is told of otherwise."""
    was, now = (
        set(spec.models or ()) if spec is not None else set[str]()
        for spec in (side.policy_specs.get(policy) for side in (old, new))
    )
    return bool(now - was)


def _findings(report: ObjectReport | None) -> set[tuple[str, str]]:
    if report is None:
        return set()
    every = (*report.unresolved, *report.warnings)
    return {(one.reason, one.message) for one in every}
