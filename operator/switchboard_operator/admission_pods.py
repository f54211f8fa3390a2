"""The mutating webhook: a review of a pod in, allowed with its sidecar or denied with a reason."""

import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from switchboard_operator.admission_review import one_line
from switchboard_operator.injector import Json, Sidecar, Unfit, opts_out, patch
from switchboard_policy.errors import Malformed

Outcome = Literal["injected", "unchanged", "denied"]

_FORBIDDEN: Final = 403

log = logging.getLogger(__name__)


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    namespace: str = ""
    operation: str = ""
    sub_resource: str = ""
    dry_run: bool = False
    object: dict[str, Any] | None = None


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: _Request


class Injection:
    """Answers reviews of pods.

    ``admit`` has all there that sidecars of a namespace need, and returns "" or why they get none.
    """

    def __init__(self, sidecar: Sidecar, admit: Callable[[str], Awaitable[str]]) -> None:
        self._sidecar = sidecar
        self._admit = admit

    async def answer(self, raw: bytes) -> tuple[bytes, Outcome]:
        """Return the body of the answer, and what became of the pod. Raises Malformed."""
        try:
            request = msgspec.json.decode(raw, type=_Review).request
        except (ValueError, RecursionError) as error:
            raise Malformed(f"no AdmissionReview of admission.k8s.io/v1: {error}") from error
        pod = request.object
        if request.operation != "CREATE" or request.sub_resource or pod is None or opts_out(pod):
            return _allowed(request), "unchanged"
        try:
            operations = patch(pod, request.namespace, self._sidecar)
        except Unfit as error:
            return _denied(request, str(error)), "denied"
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Malformed(f"no Pod: {error}") from error
        # A trial leaves nothing behind.
        if not request.dry_run and (why := await self._admit(request.namespace)):
            return _denied(request, why), "denied"
        return _allowed(request, operations), "injected" if operations else "unchanged"


def _allowed(request: _Request, operations: Sequence[Json] = ()) -> bytes:
    response: Json = {"uid": request.uid, "allowed": True}
    if operations:
        said = base64.b64encode(msgspec.json.encode(operations)).decode()
        response |= {"patchType": "JSONPatch", "patch": said}
    return _review(response)


def _denied(request: _Request, why: str) -> bytes:
    log.info("denied a pod of namespace %s: %s", one_line(request.namespace), one_line(why))
    status = {"status": "Failure", "code": _FORBIDDEN, "reason": "Forbidden", "message": why}
    return _review({"uid": request.uid, "allowed": False, "status": status})


def _review(response: Json) -> bytes:
    return msgspec.json.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    )
