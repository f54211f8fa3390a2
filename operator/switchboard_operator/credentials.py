"""The key of each gateway's scope: a Secret that the operator makes and the data planes mount.

It is never part of the chart: a rendered key would end up in a release's history.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from switchboard_operator.kube import Conflict
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed
from switchboard_policy.names import gateway_scope
from switchboard_policy.seal import KEY_BYTES, Keyring, read_keyring, write_key_file

KEY_FILE: Final = "scope-key.json"
_FIRST_KEY_ID: Final = "1"

log = logging.getLogger(__name__)


class Secrets(Protocol):
    """The calls that are made; all may raise KubeError."""

    async def get_secret(self, name: Name) -> Mapping[str, bytes] | None:
        """Return a Secret's data; None if there is none."""
        ...

    async def create_secret(self, name: Name, data: Mapping[str, bytes]) -> None:
        """Create a Secret. Raises Conflict if there is one."""
        ...


def secret_name(namespace: str, gateway: str) -> Name:
    """Return the name of the Secret with a gateway's scope key."""
    return Name(namespace, f"switchboard-scope-{gateway}")


async def scope_keyring(
    secrets: Secrets, namespace: str, gateway: str, *, random_bytes: Callable[[int], bytes]
) -> Keyring:
    """Read the scope key of a gateway, making one if there is none.

    Raises KubeError, and Malformed where the Secret holds no key file.
    """
    name = secret_name(namespace, gateway)
    data = await secrets.get_secret(name)
    if data is None:
        made = write_key_file(_FIRST_KEY_ID, {_FIRST_KEY_ID: random_bytes(KEY_BYTES)})
        try:
            await secrets.create_secret(name, {KEY_FILE: made})
            log.info("made a scope key for gateway %s in Secret %s", gateway, name)
        except Conflict:
            log.info("another replica made Secret %s", name)
        # What was stored counts, not what was sent.
        data = await secrets.get_secret(name) or {}
    if KEY_FILE not in data:
        raise Malformed(
            f"Secret {name} has no {KEY_FILE}; put the key file back from a backup, or delete the "
            "Secret: the operator makes a new key, and every data plane must be restarted"
        )
    return read_keyring(gateway_scope(gateway), data[KEY_FILE])
