"""The scope's keys in a file that is replaced while the process runs: a mounted Secret."""

import logging
from pathlib import Path

from switchboard_policy.errors import Malformed
from switchboard_policy.seal import Keyring, read_keyring

log = logging.getLogger(__name__)


class KeyFile:
    """Reads the file again when it has changed; one that cannot be used leaves the last good keys.

    Raises OSError and Malformed where there are no good keys from the start.
    """

    def __init__(self, path: Path, *, scope: str) -> None:
        self._path = path
        self._scope = scope
        self._seen = self._look()
        self._keyring = read_keyring(scope, path.read_bytes())

    def keyring(self) -> Keyring:
        """Return the keys of this moment: the same object until the file changes."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._keyring = read_keyring(self._scope, self._path.read_bytes())
                log.info("scope keys were read anew; the current one is %s", self._keyring.current)
        except (OSError, Malformed) as error:
            log.warning("the scope keys stay as they were: %s", error)
        return self._keyring

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
