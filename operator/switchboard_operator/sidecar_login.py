"""How the sidecars of a namespace log in to the store: a user of their own, or one for all.

The password is in the namespace's Secret and nowhere else; the user is made from it, by any
replica, as often as need be.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from switchboard_operator.errors import NotFound
from switchboard_operator.kept import Secrets
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import LABELLED, SIDECAR_LABEL, SIDECAR_SECRET, namespace_scope
from switchboard_policy.store.address import tls_files_of, with_login

URL_KEY: Final = "redis-url"
AUTHORITIES_KEY: Final = "redis-ca.crt"
MOUNTED_AT: Final = "/etc/switchboard/scope"
"""Where sidecars have the Secret's files."""
PASSWORD_BYTES: Final = 24

log = logging.getLogger(__name__)


class Users(Protocol):
    """See ``store_users.StoreUsers``."""

    async def names(self) -> frozenset[str]:
        """Return the users that there are."""
        ...

    async def put(self, name: str, scope: str, password: str) -> None:
        """Make a user, or make it anew."""
        ...

    async def drop(self, name: str) -> None:
        """Delete a user."""
        ...

    async def erase(self, scope: str) -> None:
        """Delete all of a scope."""
        ...


class Logins:
    """The logins; ``url`` returns the store's as namespaces see it, and raises AddressUnfit.

    Without ``own`` all of them have it as it is, and no users are made.
    """

    def __init__(
        self,
        secrets: Secrets,
        users: Users,
        *,
        url: Callable[[], str],
        own: bool,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.own = own
        self._secrets = secrets
        self._users = users
        self._url = url
        self._random_bytes = random_bytes
        self._written: dict[str, str] = {}

    def user_of(self, namespace: str) -> str:
        """Return the name of a namespace's user."""
        return f"switchboard-ns-{namespace}"

    def make(self, namespace: str) -> Mapping[str, bytes]:
        """Return what is kept in a Secret that is made anew. Raises OSError."""
        return self._data(namespace, self._random_bytes(PASSWORD_BYTES).hex(), self._url())

    def is_current(self, namespace: str) -> bool:
        """Say whether the Secret had the way to the store of this moment. Raises AddressUnfit."""
        return self._written.get(namespace) == self._url()

    async def complete(self, namespace: str) -> None:
        """Bring the Secret's way to the store up to date. Raises KubeError, OSError."""
        url = self._url()
        name = Name(namespace, SIDECAR_SECRET)
        record = await self._secrets.get_secret(name)
        if record is None:
            raise NotFound(404, f"Secret {name} is gone")
        password = _password(record.data) or self._random_bytes(PASSWORD_BYTES).hex()
        wanted: Mapping[str, bytes] = self._data(namespace, password, url)
        labelled = record.labels.get(SIDECAR_LABEL) == LABELLED
        if not labelled or any(record.data.get(key) != value for key, value in wanted.items()):
            # By the label the leader finds it.
            await self._secrets.patch_secret(
                name, wanted, version=record.version, labels={SIDECAR_LABEL: LABELLED}
            )
            log.info("Secret %s: wrote the way to the store", name)
        self._written[namespace] = url

    async def names(self) -> frozenset[str]:
        """Return the users that the store knows. Raises ConnectionError."""
        return await self._users.names()

    async def put(self, namespace: str) -> None:
        """Have the user that the Secret names. Raises ConnectionError, KubeError."""
        name = Name(namespace, SIDECAR_SECRET)
        record = await self._secrets.get_secret(name)
        if record is not None and not _password(record.data):
            await self.complete(namespace)
            record = await self._secrets.get_secret(name)
        if record is None or not (password := _password(record.data)):
            raise NotFound(404, f"Secret {name} has no {URL_KEY}")
        await self._users.put(self.user_of(namespace), namespace_scope(namespace), password)

    async def drop(self, namespace: str) -> None:
        """Delete the user, and what the store has of the scope. Raises ConnectionError."""
        self._written.pop(namespace, None)
        if self.own:
            await self._users.drop(self.user_of(namespace))
        await self._users.erase(namespace_scope(namespace))

    def _data(self, namespace: str, password: str, url: str) -> dict[str, bytes]:
        authorities = tls_files_of(url).authorities
        data: dict[str, bytes] = {}
        if authorities is not None and self.own:
            data[AUTHORITIES_KEY] = Path(authorities).read_bytes()
        if self.own:
            url = with_login(
                url,
                self.user_of(namespace),
                password,
                authorities=f"{MOUNTED_AT}/{AUTHORITIES_KEY}",
            )
        return {**data, URL_KEY: url.encode()}


def _password(data: Mapping[str, bytes]) -> str:
    """Return the password that a Secret has; "" for none. Whoever edits it may write anything."""
    try:
        netloc: str = urlsplit(data.get(URL_KEY, b"").decode(errors="replace")).netloc
    except ValueError:
        return ""
    login: Sequence[str] = netloc.rpartition("@")[0].partition(":")
    return unquote(login[2])
