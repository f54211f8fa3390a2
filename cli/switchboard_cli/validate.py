"""``switchboard validate``: what is wrong with manifests, before a cluster sees them."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from switchboard_cli.client_secrets import client_findings, is_client
from switchboard_cli.findings import Finding
from switchboard_cli.manifests import Manifest, Manifests, empty_folders, load_manifests
from switchboard_policy import names

if TYPE_CHECKING:
    from switchboard_policy.v1alpha1.parse import Parser

VALID: Final = 0
INVALID: Final = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it: how many objects were checked, and what is wrong.

    ``warnings`` are what the objects say together; other objects in a cluster may mend them.
    """

    checked: int
    findings: tuple[Finding, ...]
    warnings: tuple[Finding, ...] = ()


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "validate",
        help="check manifests without a cluster",
        description=(
            "Check ModelBackends and RoutingPolicies as the API server and the operator would, "
            "expressions included, and the Secrets of clients; say what they come to together: "
            "references, precedence, unreachable rules. Exits 1 if an object is wrong."
        ),
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, or - for stdin")
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 for warnings too (a dangling reference, …)"
    )
    parser.add_argument(
        "--platform-namespace",
        metavar="NAME",
        default="platform",
        help="where platform guardrails may be (default: platform)",
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check ``args.paths`` and print the findings; return the exit status."""
    from switchboard_cli.crosscheck import cross_check

    manifests = load_manifests(args.paths)
    warnings = (
        *map(_empty, empty_folders(args.paths)),
        *cross_check(manifests, platform_namespace=args.platform_namespace),
    )
    verdict = replace(validate(manifests), warnings=warnings)
    if args.output == "json":
        _print_json(verdict)
    else:
        _print_text(verdict)
    return INVALID if verdict.findings or (args.strict and verdict.warnings) else VALID


def validate(manifests: Manifests) -> Verdict:
    """Check each object by itself: shape, rules, expressions, metadata; none may be there twice."""
    from switchboard_policy.v1alpha1.parse import Parser

    parser = Parser()
    findings = [
        Finding(problem.file, problem.line, "", "", problem.message, "", problem.fix)
        for problem in manifests.problems
    ]
    seen: dict[tuple[str, str, str], Manifest] = {}
    checked = 0
    for manifest in manifests.objects:
        if not manifest.kind or not manifest.api_version:
            findings.append(_nameless(manifest))
        elif manifest.group == names.GROUP:
            checked += 1
            findings.extend(_object_findings(manifest, parser))
            findings.extend(_twice(manifest, seen))
        elif is_client(manifest):
            checked += 1
            findings.extend(client_findings(manifest))
            findings.extend(_twice(manifest, seen))
    order = {file: place for place, file in enumerate(dict.fromkeys(manifests.files))}
    findings.sort(key=lambda finding: (order.get(finding.file, 0), finding.line))
    return Verdict(checked, tuple(findings))


def _object_findings(manifest: Manifest, parser: "Parser") -> Iterator[Finding]:
    from switchboard_policy.v1alpha1.metadata import metadata_problems

    if manifest.api_version != names.API_VERSION:
        fix = f"write apiVersion: {names.API_VERSION}"
        yield _finding(manifest, "apiVersion", "there is no such version", fix)
        return
    match manifest.kind:
        case "ModelBackend":
            problems = parser.parse_backend(manifest.data).problems
        case "RoutingPolicy":
            problems = parser.parse_policy(manifest.data).problems
        case _:
            fix = "write kind: ModelBackend or kind: RoutingPolicy"
            yield _finding(manifest, "kind", "there is no such kind", fix)
            return
    for field in manifest.data.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        yield _finding(manifest, field, "there is no such field", "remove it")
    for problem in (*metadata_problems(manifest.data), *problems):
        yield Finding(
            file=manifest.file,
            line=manifest.line_of(problem.field),
            object=manifest.title,
            field=problem.field,
            message=problem.message,
            value=problem.value,
            fix=problem.fix,
        )


def _twice(manifest: Manifest, seen: dict[tuple[str, str, str], Manifest]) -> Iterator[Finding]:
    if not manifest.name:
        return
    first = seen.setdefault((manifest.kind, manifest.namespace, manifest.name), manifest)
    if first is not manifest:
        message = f"{manifest.title} is there already, in {first.file}:{first.line}"
        yield _finding(manifest, "metadata.name", message, "remove one of the two, or rename it")


def _empty(folder: str) -> Finding:
    return Finding(folder, 0, "", "", "there is no manifest in it", "", "name another folder")


def _nameless(manifest: Manifest) -> Finding:
    missing = "apiVersion" if not manifest.api_version else "kind"
    return _finding(manifest, missing, "it is missing", "add apiVersion and kind")


def _finding(manifest: Manifest, field: str, message: str, fix: str) -> Finding:
    value = manifest.data.get(field)
    return Finding(
        file=manifest.file,
        line=manifest.line_of(field),
        object=manifest.title,
        field=field,
        message=message,
        value=f'"{value}"' if isinstance(value, str) else "",
        fix=fix,
    )


def _print_text(verdict: Verdict) -> None:
    for finding in verdict.findings:
        # A caret shows the place, and most rules' messages have the value in them.
        told = "\n" in finding.message or finding.value.strip('"') in finding.message
        print(_line(finding, found="" if told else f" (found {finding.value})"))
        print(f"  fix: {finding.fix}")
    for finding in verdict.warnings:
        print(_line(finding, found="").replace(": ", ": warning: ", 1))
    counts = (
        _count(verdict.checked, "object"),
        _count(len(verdict.findings), "problem"),
        _count(len(verdict.warnings), "warning"),
    )
    print("{} checked, {}, {}".format(*counts))


def _line(finding: Finding, *, found: str) -> str:
    where = f"{finding.file}:{finding.line}" if finding.line else finding.file
    about = ": ".join(filter(None, (finding.object, finding.field)))
    return f"{where}: {about}{': ' if about else ''}{finding.message}{found}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print_json(verdict: Verdict) -> None:
    import msgspec

    body: dict[str, Any] = {
        "valid": not verdict.findings,
        "checked": verdict.checked,
        "problems": verdict.findings,
        "warnings": verdict.warnings,
    }
    print(msgspec.json.format(msgspec.json.encode(body)).decode())
