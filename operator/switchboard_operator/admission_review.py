"""What the API server asks of the webhook, and how it is answered: AdmissionReview v1. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from switchboard_policy.compiler.report import Finding
from switchboard_policy.errors import Malformed
from switchboard_policy.names import GROUP

WARNING_CHARACTERS_MAX: Final = 256
WARNINGS_CHARACTERS_MAX: Final = 4096
"""The API server takes long warnings while all of them have this many characters; above, it cuts
each to 256 and drops the rest without a word."""
MESSAGE_CHARACTERS_MAX: Final = 16_384
CAUSES_MAX: Final = 32

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class GroupVersionKind(msgspec.Struct, frozen=True):
    """What kind an object is of."""

    kind: str
    group: str = ""
    version: str = ""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an object's metadata that counts here."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class Reviewed(msgspec.Struct, frozen=True):
    """An object under review, or the one that it replaces."""

    metadata: Meta = Meta()
    spec: Any = None


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """One request of the API server's; ``object`` is None for DELETE."""

    uid: str
    kind: GroupVersionKind
    operation: Operation
    name: str = ""
    namespace: str = ""
    sub_resource: str = ""
    object: Reviewed | None = None
    old_object: Reviewed | None = None

    @property
    def title(self) -> str:
        """Kind, namespace and name, on one line."""
        named = self.name or (self.object.metadata.name if self.object is not None else "")
        return one_line(f"{self.kind.kind} {self.namespace}/{named}")


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: Request


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an object is denied; ``field`` is a path, "" where it is none of the object's fields."""

    message: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome: denied if there are causes; ``code`` is the HTTP status."""

    causes: tuple[Cause, ...] = ()
    warnings: tuple[Finding, ...] = ()
    code: Literal[200, 400, 403, 422] = 200

    @property
    def outcome(self) -> Literal["allowed", "warned", "denied"]:
        """In one word."""
        if self.causes:
            return "denied"
        return "warned" if self.warnings else "allowed"

    @property
    def message(self) -> str:
        """All causes, in the words of the status."""
        return _cut("; ".join(str(cause) for cause in self.causes), MESSAGE_CHARACTERS_MAX)


ALLOWED: Final = Verdict()
_REASONS: Final[Mapping[int, str]] = {400: "BadRequest", 403: "Forbidden", 422: "Invalid"}


def read_review(raw: bytes) -> Request:
    """Read the body of a review. Raises Malformed."""
    try:
        return msgspec.json.decode(raw, type=_Review).request
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no AdmissionReview of admission.k8s.io/v1: {error}") from error


def write_review(request: Request, verdict: Verdict) -> bytes:
    """Return the body of the answer."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": not verdict.causes}
    if verdict.causes:
        response["status"] = {
            "status": "Failure",
            "code": verdict.code,
            "reason": _REASONS[verdict.code],
            "message": verdict.message,
            "details": _details(request, verdict),
        }
    if verdict.warnings:
        response["warnings"] = bounded_warnings(verdict.warnings)
    return msgspec.json.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    )


def bounded_warnings(findings: Iterable[Finding]) -> list[str]:
    """Return findings as texts that reach the person, whatever their number and length.

    No text has a control character: the API server would drop it.
    """
    texts = list(dict.fromkeys(one_line(f"{each.reason}: {each.message}") for each in findings))
    if sum(map(len, texts)) <= WARNINGS_CHARACTERS_MAX:
        return texts
    kept: list[str] = []
    # Room for the last one, which counts what is left out.
    left = WARNINGS_CHARACTERS_MAX - WARNING_CHARACTERS_MAX
    for text in texts:
        cut = _cut(text, WARNING_CHARACTERS_MAX)
        if len(cut) > left:
            break
        kept.append(cut)
        left -= len(cut)
    if more := len(texts) - len(kept):
        kept.append(f"and {more} more findings: the object's status tells them once it is applied")
    return kept


def one_line(text: str) -> str:
    """Return a text without line ends and other characters that cannot be printed."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _details(request: Request, verdict: Verdict) -> dict[str, Any]:
    details = {"group": GROUP, "kind": request.kind.kind, "name": request.name}
    if any(cause.field for cause in verdict.causes):
        # kubectl prints these, a line each, and not the message.
        details["causes"] = _causes(verdict.causes[:CAUSES_MAX])
    return details


def _causes(causes: Sequence[Cause]) -> Any:
    return [
        {"reason": "FieldValueInvalid", "field": cause.field, "message": cause.message}
        for cause in causes
    ]


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
