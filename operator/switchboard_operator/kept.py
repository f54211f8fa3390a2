"""What all Secrets of the operator's own have in common: the calls, the demand, the steps told."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import msgspec

from switchboard_operator.errors import KubeError
from switchboard_operator.kube import NO_LABELS, SecretRecord
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed

ROTATION_FILE: Final = "rotation.json"
"""What a rotation knows of itself."""
ROTATE_ANNOTATION: Final = "switchboard.dev/rotate"
"""On the Secret: any new value demands a rotation."""

log = logging.getLogger(__name__)

_Form = TypeVar("_Form", bound=msgspec.Struct)


class Secrets(Protocol):
    """The calls that are made; all may raise KubeError."""

    async def get_secret(self, name: Name) -> SecretRecord | None:
        """Return a Secret; None if there is none."""
        ...

    async def create_secret(
        self,
        name: Name,
        data: Mapping[str, bytes],
        *,
        type_: str = "Opaque",
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """Create a Secret. Raises Conflict if there is one."""
        ...

    async def patch_secret(
        self,
        name: Name,
        data: Mapping[str, bytes | None],
        *,
        version: str,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> SecretRecord:
        """Replace parts of a Secret's data (None: remove), and of its labels.

        Raises Conflict if it changed since.
        """
        ...

    async def record_event(
        self,
        about: Name,
        *,
        uid: str,
        warning: bool,
        reason: str,
        message: str,
        at: str,
        kind: str = "ConfigMap",
    ) -> None:
        """Post an Event about an object."""
        ...


def demand(record: SecretRecord) -> str:
    """Return what a person has written to demand a rotation; "" for nothing."""
    return record.annotations.get(ROTATE_ANNOTATION, "")


def read_rotation(record: SecretRecord, form: type[_Form]) -> _Form:
    """Return what a Secret says of its rotation; raises Malformed."""
    try:
        return msgspec.json.decode(record.data.get(ROTATION_FILE, b"{}"), type=form)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{ROTATION_FILE}: {error}") from error


async def announce(
    secrets: Secrets,
    name: Name,
    record: SecretRecord,
    *,
    reason: str,
    message: str,
    at: datetime,
    warning: bool = False,
) -> None:
    """Post an Event about a Secret; one that fails is lost."""
    try:
        await secrets.record_event(
            name,
            uid=record.uid,
            warning=warning,
            reason=reason,
            message=message,
            at=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            kind="Secret",
        )
    except KubeError as error:
        log.warning("no event about Secret %s: %s", name, error)
