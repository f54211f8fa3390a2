"""What the operator would say of the objects together: references, precedence, analysis."""

from collections.abc import Iterator
from typing import Final

from switchboard_cli.findings import Finding
from switchboard_cli.folder import DEFAULT_NAMESPACE, Folder
from switchboard_cli.manifests import Manifest, Manifests
from switchboard_policy import names
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.world import Gateway, Name
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file
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
    gateway = Gateway(
        name=_GATEWAY, namespace=DEFAULT_NAMESPACE, platform_namespace=platform_namespace
    )
    # Nothing that is sealed here is kept.
    keys = write_key_file(_GATEWAY, {_GATEWAY: bytes(KEY_BYTES)})
    keyring = read_keyring(names.gateway_scope(_GATEWAY), keys)
    places = {
        (one.kind, Name(one.namespace or DEFAULT_NAMESPACE, one.name)): one
        for one in manifests.objects
        if one.group == names.GROUP
    }
    for key, report in Compiler(gateway, keyring).compile(folder.inventory.world).reports.items():
        for found in (*report.rejected, *report.unresolved, *report.warnings):
            if found.reason not in _SAID_ALREADY:
                yield _finding(places[key], found.reason, found.message)


def _finding(manifest: Manifest, reason: Reason, message: str) -> Finding:
    return Finding(
        file=manifest.file,
        line=manifest.line,
        object=manifest.title,
        field="",
        message=f"{reason}: {message}",
        value="",
        fix="",
    )
