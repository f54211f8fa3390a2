"""What is wrong with client Secrets among manifests; nothing that they hold is ever shown."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from functools import reduce

from switchboard_cli.findings import Finding
from switchboard_cli.manifests import Manifest
from switchboard_policy import names
from switchboard_policy.v1alpha1.json_values import is_map
from switchboard_policy.v1alpha1.problems import field_below


def is_client(manifest: Manifest) -> bool:
    """Say whether a manifest is of a Secret that is labelled as a client's."""
    core = not manifest.group and manifest.kind == "Secret"
    return core and names.CLIENT_LABEL in _map(_map(manifest.data, "metadata"), "labels")


def client_findings(manifest: Manifest) -> Iterator[Finding]:
    """Check a client Secret: its labels, and what it says of the client."""
    from switchboard_policy.compiler.clients import FIELDS, read_client

    labels = _map(_map(manifest.data, "metadata"), "labels")
    for label in (names.SECRET_LABEL, names.CLIENT_LABEL):
        if labels.get(label) != names.LABELLED:
            message = f"the label {label} is not {names.LABELLED!r}: no operator takes it for a key"
            fix = f'write {label}: "{names.LABELLED}"'
            yield _finding(manifest, ("metadata", "labels", label), message, fix)
    if not manifest.name:
        yield _finding(manifest, ("metadata", "name"), "it is missing", "name the client")
    data: dict[str, bytes] = {}
    unread: set[str] = set()
    for place in ("data", "stringData"):
        for name, said in _map(manifest.data, place).items():
            found = _decoded(said) if place == "data" else _plain(said)
            if found is not None:
                data[name] = found
                continue
            unread.add(f"data.{name}")
            data[name] = b""
            what = "is no base64" if place == "data" else "is no text"
            fix = "use stringData for plain text" if place == "data" else "put it in quotes"
            # A name that is none of these may be a key: name and value changed places.
            yield _finding(manifest, (place, name) if name in FIELDS else (place,), what, fix)
    for problem in read_client(data)[1]:
        if problem.field not in unread:
            yield _finding(manifest, _place(manifest, problem.field), problem.message, problem.fix)


def _place(manifest: Manifest, field: str) -> tuple[str, ...]:
    """Return where the manifest says a field of the data, or would: there, and its name."""
    from switchboard_policy.compiler.clients import FIELDS

    plain, encoded = _map(manifest.data, "stringData"), _map(manifest.data, "data")
    if field == "data":
        return ("stringData",) if not plain.keys() <= set(FIELDS) else ("data",)
    name = field.removeprefix("data.")
    # What is missing is missed where the rest is.
    said_plainly = name in plain or (plain and name not in encoded)
    return "stringData" if said_plainly else "data", name


def _decoded(said: object) -> bytes | None:
    try:
        return base64.b64decode(said, validate=True) if isinstance(said, str) else None
    except (binascii.Error, ValueError):
        return None


def _plain(said: object) -> bytes | None:
    return said.encode(errors="surrogateescape") if isinstance(said, str) else None


def _map(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = of.get(name)
    return found if is_map(found) else {}


def _finding(manifest: Manifest, place: tuple[str, ...], message: str, fix: str) -> Finding:
    return Finding(
        file=manifest.file,
        line=manifest.line_of(reduce(field_below, place, "")),
        object=manifest.title,
        field=".".join(place),
        message=message,
        value="",
        fix=fix,
    )
