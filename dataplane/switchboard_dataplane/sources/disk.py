"""The last good policy on disk, so that a pod starts while the store is away.

One file a channel, written to a temporary file first and then renamed, so there is the old one or
the new one and never a half. It is signed under the scope's key like everything from the store:
a file that is cut, altered or another scope's is ignored. Credentials stay sealed in it.
"""

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from switchboard_dataplane.sources.reading import Contents
from switchboard_policy.errors import BadSignature
from switchboard_policy.seal import Keyring, fingerprint
from switchboard_policy.store import Channel

logger = logging.getLogger(__name__)

_MODE: Final = 0o600


class _File(msgspec.Struct, frozen=True):
    scope: str
    channel: str
    mac: str
    contents: bytes


class DiskSnapshot:
    """The files in ``folder``, which must exist. The calls block: run them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, channel: Channel) -> Path:
        """Return the file of a channel."""
        return self._folder / f"{channel}.snapshot"

    def write(self, channel: Channel, contents: Contents, *, keyring: Keyring) -> None:
        """Put the channel's contents in the place of the file; raises OSError."""
        raw = msgspec.msgpack.encode(contents)
        mac = keyring.sign("disk", channel, fingerprint(raw))
        said = _File(scope=keyring.scope, channel=channel, mac=mac, contents=raw)
        path = self.path(channel)
        temporary = path.with_suffix(".partial")
        temporary.unlink(missing_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(file, "wb") as stream:
            stream.write(msgspec.msgpack.encode(said))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        # The rename, too, must survive a crash of the node.
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self, channel: Channel, *, keyring: Keyring) -> Contents | None:
        """Return what the file holds; None, with a line in the log, if it cannot be used."""
        path = self.path(channel)
        try:
            return _read(path.read_bytes(), channel, keyring)
        except FileNotFoundError:
            logger.info("no snapshot at %s", path)
        except (OSError, ValueError, RecursionError, BadSignature, _Foreign) as error:
            logger.warning("ignored the snapshot at %s: %s", path, error)
        return None


class _Foreign(Exception):
    pass


def _read(raw: bytes, channel: Channel, keyring: Keyring) -> Contents:
    said = msgspec.msgpack.decode(raw, type=_File)
    if (said.scope, said.channel) != (keyring.scope, channel):
        raise _Foreign(f"it is of channel {said.channel} of {said.scope}")
    keyring.verify(said.mac, "disk", channel, fingerprint(said.contents))
    return msgspec.msgpack.decode(said.contents, type=Contents)
