"""The token that a sidecar shows to its gateway, in a file that is replaced before it runs out."""

import logging
import os
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

#: Far above any token; a larger file is none.
TOKEN_BYTES_MAX: Final = 16 * 1024


class GatewayToken:
    """Reads the file again where it has changed; one that cannot be used leaves the last good one.

    ``value`` is the token of this moment, "" where no file is named. Raises OSError and ValueError
    where there is no good one from the start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.value = ""
        self._path = path
        self._seen: tuple[int, int, int] = (0, 0, 0)
        if path is not None:
            self._read(path)

    def look(self) -> None:
        """Read the file where it is not the one that was read; waits for the disk."""
        if self._path is None:
            return
        try:
            self._read(self._path)
        except (OSError, ValueError) as error:
            log.warning("the token for the gateway stays as it was: %s", error)

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            raw = file.read(TOKEN_BYTES_MAX + 1)
        # What the file holds is not told, for it may be half of a token.
        if len(raw) > TOKEN_BYTES_MAX:
            raise ValueError(f"{path} exceeds {TOKEN_BYTES_MAX} bytes")
        token = raw.strip().decode("ascii", "replace")
        if not token or not token.isprintable() or not token.isascii() or " " in token:
            raise ValueError(f"{path} holds no token")
        self.value, self._seen = token, seen
