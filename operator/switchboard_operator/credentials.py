"""The keys of each scope: a Secret that the operator makes, rotates and shows to nobody.

It is never part of the chart: a rendered key would end up in a release's history. Data planes
mount it. All that a rotation knows is in it, so another replica goes on where the last one ended;
``rotation`` decides the steps.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple

import msgspec

from switchboard_operator.errors import Conflict
from switchboard_operator.kept import ROTATION_FILE, Secrets, announce, demand, read_rotation
from switchboard_operator.kube import NO_LABELS, SecretRecord
from switchboard_operator.rotation import (
    Add,
    Drop,
    Keys,
    Pace,
    Step,
    Use,
    holding_back,
    next_step,
    take,
)
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed
from switchboard_policy.names import gateway_scope
from switchboard_policy.seal import (
    KEY_BYTES,
    Keyring,
    ScopeSecrets,
    read_key_file,
    read_keyring,
    write_key_file,
)
from switchboard_policy.store import PodSeen, Revision

KEY_FILE: Final = "scope-key.json"
NAMED_PODS_MAX: Final = 20
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""A key that is added has to be newer than all others."""

log = logging.getLogger(__name__)


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _RotationFile(msgspec.Struct, frozen=True, omit_defaults=True):
    created: dict[str, _Moment] = {}
    in_use_since: _Moment | None = None
    request: str = ""


class Place(NamedTuple):
    """Where the keys of a scope are kept.

    A Secret that is made anew gets the ``labels``, and ``beside`` the keys what that returns.
    """

    scope: str
    secret: Name
    labels: Mapping[str, str] = NO_LABELS
    beside: Callable[[], Mapping[str, bytes]] = dict[str, bytes]


def gateway_place(namespace: str, gateway: str) -> Place:
    """Return where the keys of a gateway's scope are kept."""
    return Place(gateway_scope(gateway), secret_name(namespace, gateway))


def secret_name(namespace: str, gateway: str) -> Name:
    """Return the name of the Secret with a gateway's scope keys."""
    return Name(namespace, f"switchboard-scope-{gateway}")


class ScopeKeys:
    """The keys of one scope, as the Secret has them; ``load`` comes first.

    ``waiting_for`` names the live data planes that a rotation waits for; ``overruled`` counts the
    steps that were taken without some.
    """

    def __init__(
        self,
        secrets: Secrets,
        place: Place,
        *,
        pace: Pace,
        random_bytes: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self.scope = place.scope
        self.waiting_for: tuple[str, ...] = ()
        self.overruled = 0
        self._secrets = secrets
        self._name = place.secret
        self._place = place
        self._pace = pace
        self._random_bytes = random_bytes
        self._now = now
        self._raw: bytes | None = None
        self._keyring: Keyring | None = None
        self._keys: Keys | None = None
        self._agreed_since: datetime | None = None

    def keyring(self) -> Keyring:
        """Return the keys of this moment: the same object until they change."""
        assert self._keyring is not None, "load() comes first"  # noqa: S101
        return self._keyring

    @property
    def created(self) -> datetime:
        """When the key in use was made."""
        assert self._keys is not None, "load() comes first"  # noqa: S101
        return self._keys.created[self._keys.current]

    async def load(self) -> bool:
        """Read the Secret, making one if there is none; say whether the keys are other ones now.

        Raises KubeError, and Malformed where the Secret holds no key file: the keys then stay.
        """
        return self._adopt(await self._read())

    async def turn(self, pods: Sequence[PodSeen], signed: Callable[[str], Revision | None]) -> bool:
        """Read the Secret and take the step that is due; say whether the keys are other ones now.

        ``signed`` returns the revision since which a key signs all that is published. Raises
        KubeError; a Secret that cannot be read is told in the log, and the keys stay.
        """
        try:
            record = await self._read()
            if self._adopt(record):
                return True
        except Malformed as error:
            log.error("the scope keys stay as they were: %s", error)  # noqa: TRY400
            return False
        assert self._keys is not None  # noqa: S101 - just read
        keys, now = self._keys, self._now()
        self.waiting_for = holding_back(keys, pods, signed(keys.current))
        if self.waiting_for:
            self._agreed_since = None
        elif self._agreed_since is None:
            self._agreed_since = now
        step = next_step(
            keys,
            self._pace,
            now=now,
            request=demand(record),
            waiting_for=self.waiting_for,
            agreed=now - self._agreed_since if self._agreed_since else timedelta(0),
        )
        return step is not None and await self._take(record, keys, step, now)

    async def _read(self) -> SecretRecord:
        record = await self._secrets.get_secret(self._name)
        if record is None:
            now = self._now()
            key_id, key = self._make(now)
            keys = Keys(current=key_id, created={key_id: now}, in_use_since=now)
            try:
                await self._secrets.create_secret(
                    self._name,
                    {**self._place.beside(), **_write(keys, ScopeSecrets(key_id, {key_id: key}))},
                    labels=self._place.labels,
                )
                log.info("made a key for %s in Secret %s", self.scope, self._name)
            except Conflict:
                log.info("another replica made Secret %s", self._name)
            # What was stored counts, not what was sent.
            record = await self._secrets.get_secret(self._name)
        if record is None or KEY_FILE not in record.data:
            raise Malformed(
                f"Secret {self._name} has no {KEY_FILE}; put the key file back from a backup, or "
                "delete the Secret: the operator makes a new key, and data planes that cannot "
                "read what it signs keep their policy until the new file reaches them"
            )
        return record

    def _adopt(self, record: SecretRecord) -> bool:
        raw, keys = record.data[KEY_FILE], _read_keys(record)
        if raw == self._raw:
            self._keys = keys
            return False
        self._keyring = read_keyring(self.scope, raw)
        self._raw, self._keys, self._agreed_since = raw, keys, None
        log.info("%s: keys %s, %s in use", self.scope, self._keyring.ids, self._keyring.current)
        return True

    async def _take(self, record: SecretRecord, keys: Keys, step: Step, now: datetime) -> bool:
        secrets = read_key_file(record.data[KEY_FILE])
        made = self._make(now)
        after = take(keys, step, now=now, key_id=made[0])
        every = {**secrets.keys, **dict([made])}
        kept = ScopeSecrets(after.current, {key_id: every[key_id] for key_id in after.created})
        try:
            found = await self._secrets.patch_secret(
                self._name, _write(after, kept), version=record.version
            )
        except Conflict:
            log.info("Secret %s was changed meanwhile", self._name)
            return False
        changed = self._adopt(found)
        await self._tell(found, step, made[0], now)
        return changed

    async def _tell(self, record: SecretRecord, step: Step, made: str, now: datetime) -> None:
        without = () if isinstance(step, Add) else step.without
        self.overruled += bool(without)
        reason, message = _describe(step, made)
        if without:
            names = ", ".join(without[:NAMED_PODS_MAX])
            message += f", without waiting any longer for {names}"
        log.log(logging.WARNING if without else logging.INFO, "%s: %s", self.scope, message)
        await announce(
            self._secrets,
            self._name,
            record,
            reason=reason,
            message=f"{self.scope}: {message}",
            at=now,
            warning=bool(without),
        )

    def _make(self, now: datetime) -> tuple[str, bytes]:
        # Never an id that was used before: data planes say by the id which key they hold.
        key_id = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self._random_bytes(2).hex()}"
        return key_id, self._random_bytes(KEY_BYTES)


def _describe(step: Step, made: str) -> tuple[str, str]:
    match step:
        case Add():
            return "ScopeKeyAdded", f"made key {made}; it signs once the data planes hold it"
        case Use(key_id):
            return "ScopeKeyInUse", f"key {key_id} signs and seals from now on"
        case Drop(key_ids):
            return "ScopeKeyDropped", f"dropped {', '.join(sorted(key_ids))}"


def _read_keys(record: SecretRecord) -> Keys:
    """Return what the Secret says of its keys; raises Malformed.

    A key of which nothing is said is as old as the Secret: somebody put it there by hand.
    """
    said = read_key_file(record.data[KEY_FILE])
    rotation = read_rotation(record, _RotationFile)
    created = {name: rotation.created.get(name, record.created) for name in said.keys}
    if max(created.values()) > _LATEST:
        raise Malformed(f"{ROTATION_FILE}: a key was made at {max(created.values())}")
    return Keys(
        current=said.current,
        created=created,
        in_use_since=rotation.in_use_since or record.created,
        request=rotation.request,
    )


def _write(keys: Keys, secrets: ScopeSecrets) -> dict[str, bytes]:
    said = _RotationFile(dict(keys.created), keys.in_use_since, keys.request)
    return {
        KEY_FILE: write_key_file(secrets.current, secrets.keys),
        ROTATION_FILE: msgspec.json.encode(said),
    }
