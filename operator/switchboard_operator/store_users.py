"""Users of the store for single scopes: whoever has such a login sees its scope and no other.

The server keeps them in memory alone, as it has its users' file from elsewhere: after a restart or
a failover they are made again.
"""

from collections.abc import Sequence
from typing import Any, Final

from switchboard_operator.errors import UsersRefused
from switchboard_policy.store import CHANNELS, StoreRefused
from switchboard_policy.store.connect import StoreClient
from switchboard_policy.store.layout import channel_keys, pod_keys, read_fields
from switchboard_policy.store.url_file import UrlFile

#: The API server waits for five seconds at the webhook, which may wait for this.
TIMEOUT_S: Final = 2.0
#: What a data plane does; it reads its scope and writes these of its keys, but no policy.
COMMANDS: Final = (
    *("hgetall", "mget", "xread", "time", "hget", "hset", "hdel", "zadd", "zrem", "zrange"),
    *("xadd", "xtrim", "multi", "exec", "evalsha", "script|load"),
)
#: What every client does in a Cluster: it learns who has which slots, and follows one that moves.
CLUSTER_COMMANDS: Final = ("cluster|slots", "command", "asking")
_WRITTEN: Final = ("pods", "seen", "acks", "words", "decisions")
_UNLINKED_AT_ONCE: Final = 500


def rules(scope: str, password: str, *, sharded: bool = False) -> Sequence[str]:
    """Return the rules of a data plane's user, in place of all that it may have had."""
    start = f"sb:{{{scope}}}"
    return (
        *("reset", "on", f">{password}", "resetchannels", "-@all", f"%R~{start}:*"),
        *(f"%RW~{start}:{key}" for key in _WRITTEN),
        *(f"+{command}" for command in COMMANDS),
        *(f"+{command}" for command in CLUSTER_COMMANDS if sharded),
    )


class StoreUsers:
    """The users, by name; ``store`` is the operator's way to it: a URL, or the file of one.

    Every call may raise ConnectionError, and UsersRefused, where the operator may not do this.
    """

    def __init__(self, store: str | UrlFile) -> None:
        self._client = StoreClient(store, timeout_s=TIMEOUT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def names(self) -> frozenset[str]:
        """Return the users that every server knows."""
        answers = await self._everywhere("ACL", "USERS")
        known = [{name.decode(errors="replace") for name in answer} for answer in answers]
        return frozenset[str](known[0]).intersection(*known[1:])

    async def put(self, name: str, scope: str, password: str) -> None:
        """Make a user, or make it anew."""
        said = rules(scope, password, sharded=self._client.sharded)
        await self._everywhere("ACL", "SETUSER", name, *said)

    async def drop(self, name: str) -> None:
        """Delete a user, if it is there; its connections end."""
        await self._everywhere("ACL", "DELUSER", name)

    async def erase(self, scope: str) -> None:
        """Delete all that the store has of a scope."""
        keys = [*_of_pods(scope)]
        for channel in CHANNELS:
            at = channel_keys(scope, channel)
            (retired,) = await self._client.pipeline(("ZRANGE", at.retired, 0, -1))
            (fields,) = await self._client.pipeline(("HGETALL", at.manifest))
            digests = {each.decode(errors="replace") for each in retired} | _digests(fields)
            keys += [at.entry(digest) for digest in digests]
            keys += [at.head, at.manifest, at.log, at.retired]
        for start in range(0, len(keys), _UNLINKED_AT_ONCE):
            await self._client.pipeline(("UNLINK", *keys[start : start + _UNLINKED_AT_ONCE]))

    async def _everywhere(self, *command: str) -> Sequence[Any]:
        try:
            return await self._client.everywhere(*command)
        except StoreRefused as error:
            raise UsersRefused(str(error)) from error


def _of_pods(scope: str) -> Sequence[str]:
    keys = pod_keys(scope)
    return keys.pods, keys.seen, keys.acks, keys.words, keys.decisions


def _digests(fields: Any) -> set[str]:
    return {field.digest for field in read_fields(fields).values() if field.digest}
