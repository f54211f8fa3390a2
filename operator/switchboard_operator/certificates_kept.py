"""Where the webhook's certificate comes from: a Secret that the leader makes, or files.

All that a renewal knows is in the Secret, so another replica goes on where the last one ended;
``certificates`` decides the steps. Every replica reads the Secret; the leader alone writes it, and
the authorities to the webhooks' configuration.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from switchboard_operator.certificates import (
    Begin,
    Drop,
    Held,
    Pace,
    Pair,
    Renew,
    Step,
    Use,
    authority_of,
    issue,
    next_step,
    read_facts,
    split_bundle,
    take,
)
from switchboard_operator.errors import Conflict, KubeError
from switchboard_operator.kept import ROTATION_FILE, Secrets, announce, demand, read_rotation
from switchboard_operator.kube import SecretRecord, WebhooksRecord
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
AUTHORITIES_FILE: Final = "ca.crt"
NEXT_CERTIFICATE_FILE: Final = "next.crt"
NEXT_KEY_FILE: Final = "next.key"
TLS_TYPE: Final = "kubernetes.io/tls"

log = logging.getLogger(__name__)


class Webhooks(Secrets, Protocol):
    """The calls that are made; all may raise KubeError."""

    async def get_webhooks(self, name: str, *, mutating: bool = False) -> WebhooksRecord | None:
        """Return what a configuration of validating or mutating webhooks trusts; None if none."""
        ...

    async def patch_webhooks(
        self, name: str, bundles: Mapping[str, bytes], *, version: str, mutating: bool = False
    ) -> None:
        """Replace the caBundle of webhooks, by name. Raises Conflict if it changed since."""
        ...


class Certificates(Protocol):
    """A source of the webhook's certificate."""

    @property
    def obstacle(self) -> str:
        """Why the API server does not trust what is served; "" if it does, or somebody else's."""
        ...

    async def turn(self) -> Pair | None:
        """Return what to serve with now, None if there is nothing yet.

        Raises KubeError, OSError.
        """
        ...


class _RotationFile(msgspec.Struct, frozen=True, omit_defaults=True):
    stepped: datetime | None = None
    request: str = ""


class FileCertificates:
    """Files that somebody else makes, such as a mounted Secret of cert-manager's."""

    def __init__(self, folder: str) -> None:
        self.obstacle = ""
        self._folder = Path(folder)

    async def turn(self) -> Pair | None:
        """Read the files. Raises OSError."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Pair:
        certificate = (self._folder / CERTIFICATE_FILE).read_bytes()
        return Pair(certificate, (self._folder / KEY_FILE).read_bytes())


class KeptCertificates:
    """The Secret, and the configurations of webhooks ("" for none) that trust its authorities.

    ``configuration`` is of validating webhooks, ``mutating`` of mutating ones.
    """

    def __init__(
        self,
        secrets: Webhooks,
        name: Name,
        *,
        configuration: str,
        mutating: str = "",
        names: Sequence[str],
        pace: Pace,
        leads: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._secrets = secrets
        self._name = name
        self._configurations = [
            (name, of_mutating)
            for name, of_mutating in ((configuration, False), (mutating, True))
            if name
        ]
        self._names = tuple(names)
        self._pace = pace
        self._leads = leads
        self._now = now
        self._held: Held | None = None
        self._lost = True
        self._trusted: Sequence[bytes] | None = None
        self._untrusted = ""
        self._published: tuple[tuple[bytes, ...], datetime] | None = None
        self._told = ""

    @property
    def obstacle(self) -> str:
        """Why the API server does not trust what is served, as far as the leader knows."""
        return self._untrusted if self._leads() else ""

    async def turn(self) -> Pair | None:
        """Read the Secret; the leader also takes the step that is due. Raises KubeError."""
        record = await self._secrets.get_secret(self._name)
        held = self._adopt(record)
        if self._leads():
            published = held is not None and await self._publish(held)
            step = self._due(record, held, published=published)
            if step is not None:
                held = await self._take(record, held, step)
        return held.serving if held is not None else None

    def _adopt(self, record: SecretRecord | None) -> Held | None:
        """Return what the Secret holds; what was held last while it holds nothing of use."""
        self._lost = True
        if record is not None:
            try:
                self._held = _read_held(record)
                self._lost = False
            except Malformed as error:
                self._tell_once(f"Secret {self._name}: {error}")
        return self._held

    def _due(
        self, record: SecretRecord | None, held: Held | None, *, published: bool
    ) -> Step | None:
        """Return the step that is due. What was lost with the Secret is held here, and renewed."""
        now, request = self._now(), demand(record) if record is not None else ""
        since = self._published[1] if published and self._published is not None else None
        step = next_step(
            held,
            self._pace,
            now=now,
            names=self._names,
            request=request,
            published_for=now - since if since is not None else None,
        )
        return Renew(request) if step is None and self._lost and held and not held.coming else step

    async def _take(
        self, record: SecretRecord | None, held: Held | None, step: Step
    ) -> Held | None:
        now = self._now()
        issued = await asyncio.to_thread(issue, self._names, self._pace.lifetime, now=now)
        after = take(held, step, issued, now=now)
        if not self._leads():
            return held
        try:
            if record is None:
                data = {key: value for key, value in _write(after).items() if value is not None}
                await self._secrets.create_secret(self._name, data, type_=TLS_TYPE)
                record = await self._secrets.get_secret(self._name)
            else:
                record = await self._secrets.patch_secret(
                    self._name, _write(after), version=record.version
                )
        except Conflict:
            log.info("Secret %s was changed meanwhile", self._name)
            return held
        held = self._adopt(record)
        if held is not None:
            await self._publish(held)
        if record is not None:
            await self._tell(record, step)
        return held

    async def _publish(self, held: Held) -> bool:
        """Have the configuration trust the authorities; say whether it does, or there is none."""
        try:
            await self._write_bundle(b"".join(held.authorities))
        except KubeError as error:
            self._untrusted = ""
            if self._trusted is None or not _trust(self._trusted, held):
                self._untrusted = f"the authority is not published, so edits fail: {error}"
            self._tell_once(f"cannot write the caBundle: {error}")
            self._published = None
            return False
        self._untrusted = ""
        if self._published is None or self._published[0] != held.authorities:
            self._published = held.authorities, self._now()
        return True

    async def _write_bundle(self, bundle: bytes) -> None:
        found: dict[tuple[str, bool], WebhooksRecord] = {}
        for name, mutating in self._configurations:
            record = await self._secrets.get_webhooks(name, mutating=mutating)
            if record is not None:
                found[name, mutating] = record
            else:
                kind = "Mutating" if mutating else "Validating"
                self._tell_once(f"there is no {kind}WebhookConfiguration {name}")
        self._trusted = _bundles_of(found.values())
        for (name, mutating), record in list(found.items()):
            wrong = _other_than(bundle, record.bundles)
            if wrong and self._leads():
                await self._secrets.patch_webhooks(
                    name, dict.fromkeys(wrong, bundle), version=record.version, mutating=mutating
                )
                found[name, mutating] = WebhooksRecord(
                    dict.fromkeys(record.bundles, bundle), record.version
                )
                self._trusted = _bundles_of(found.values())
                self._published = None
                log.info("wrote the caBundle of %s", ", ".join(wrong))

    async def _tell(self, record: SecretRecord, step: Step) -> None:
        reason, message = _describe(step)
        log.info("the webhook's certificate: %s", message)
        await announce(
            self._secrets, self._name, record, reason=reason, message=message, at=self._now()
        )

    def _tell_once(self, what: str) -> None:
        if what != self._told:
            self._told = what
            log.warning("%s", what)


def _other_than(bundle: bytes, said: Mapping[str, bytes]) -> list[str]:
    return [webhook for webhook, theirs in said.items() if theirs != bundle]


def _bundles_of(records: Iterable[WebhooksRecord]) -> list[bytes]:
    return [bundle for record in records for bundle in record.bundles.values()]


def _trust(bundles: Iterable[bytes], held: Held) -> bool:
    authority = authority_of(held.serving, held.authorities)
    return authority is not None and all(authority in bundle for bundle in bundles)


def _read_held(record: SecretRecord) -> Held:
    """Return what the Secret keeps; raises Malformed."""
    serving = Pair(record.data.get(CERTIFICATE_FILE, b""), record.data.get(KEY_FILE, b""))
    read_facts(serving)
    rotation = read_rotation(record, _RotationFile)
    authorities = split_bundle(record.data.get(AUTHORITIES_FILE, b""))
    if authority_of(serving, authorities) is None:
        raise Malformed(f"{AUTHORITIES_FILE}: not the authority of {CERTIFICATE_FILE}")
    coming = None
    if NEXT_CERTIFICATE_FILE in record.data:
        coming = Pair(record.data[NEXT_CERTIFICATE_FILE], record.data.get(NEXT_KEY_FILE, b""))
        read_facts(coming)
        if authority_of(coming, authorities) is None:
            # Nobody would trust it: it is made anew.
            coming = None
    return Held(
        serving=serving,
        authorities=authorities,
        coming=coming,
        stepped=rotation.stepped or record.created,
        request=rotation.request,
    )


def _write(held: Held) -> dict[str, bytes | None]:
    return {
        CERTIFICATE_FILE: held.serving.certificate,
        KEY_FILE: held.serving.key,
        AUTHORITIES_FILE: b"".join(held.authorities),
        NEXT_CERTIFICATE_FILE: held.coming.certificate if held.coming is not None else None,
        NEXT_KEY_FILE: held.coming.key if held.coming is not None else None,
        ROTATION_FILE: msgspec.json.encode(_RotationFile(held.stepped, held.request)),
    }


def _describe(step: Step) -> tuple[str, str]:
    match step:
        case Begin():
            return "CertificateMade", "made one, with an authority of its own; it is in use"
        case Renew():
            return "CertificateRenewed", "made the next one; its authority is published first"
        case Use():
            return "CertificateInUse", "the next one is in use"
        case Drop():
            return "AuthorityDropped", "the old authority is no longer trusted"
