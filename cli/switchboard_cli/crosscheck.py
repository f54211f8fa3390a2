"""What the operator would say of the objects together: references, precedence, analysis."""

from collections.abc import Iterator
from typing import Final

from switchboard_cli.client_secrets import is_client
from switchboard_cli.compiling import compiler_of_files
from switchboard_cli.findings import Finding
from switchboard_cli.folder import DEFAULT_NAMESPACE, Folder
from switchboard_cli.manifests import Manifest, Manifests
from switchboard_policy import names
from switchboard_policy.compiler.clients import DUPLICATE
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.conditions import Reason

_GATEWAY: Final = "validate"
#: What is wrong with an object itself has been said with its place in the file.
_SAID_ALREADY: Final = (Reason.INVALID, Reason.INVALID_EXPRESSION)


def cross_check(manifests: Manifests, *, platform_namespace: str) -> Iterator[Finding]:
    """Compile all objects as one gateway would, and yield what comes of it, object by object.

    They are warnings: in a cluster there may be objects that these files do not hold.
    """
    folder = Folder(())
    folder.take(manifests)
    yield from folder.misread
    compiler = compiler_of_files(_GATEWAY, platform_namespace=platform_namespace)
    places = {
        (one.kind, Name(one.namespace or DEFAULT_NAMESPACE, one.name)): one
        for one in manifests.objects
        if one.group == names.GROUP or is_client(one)
    }
    compilation = compiler.compile(folder.inventory.world)
    for name, refusal in compilation.refused_clients.items():
        if refusal.reason == DUPLICATE:
            yield _finding(places["Secret", name], refusal.reason, refusal.message)
    for key, report in compilation.reports.items():
        for found in (*report.rejected, *report.unresolved, *report.warnings):
            if found.reason not in _SAID_ALREADY:
                yield _finding(places[key], found.reason, found.message)


def _finding(manifest: Manifest, reason: str, message: str) -> Finding:
    return Finding(
        file=manifest.file,
        line=manifest.line,
        object=manifest.title,
        field="",
        message=f"{reason}: {message}",
        value="",
        fix="",
    )
