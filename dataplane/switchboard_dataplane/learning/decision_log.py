"""The log of decisions in the store: appended in portions, off the path of requests.

What the store does not take in time is dropped and counted; nobody waits for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from switchboard_dataplane.learning.decisions import Compared, Decided
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.sources.following import backoff_s
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Retention, StoreReader
from switchboard_policy.store.signing import sign_record

logger = logging.getLogger(__name__)

#: Entries gather for so long before they are written, in seconds.
GATHER_S: Final = 0.5
#: What may wait for the store, in entries and in bytes; more is dropped, the oldest first.
WAITING_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
#: What is written at once.
PORTION: Final = 500
PORTION_BYTES: Final = 1024 * 1024
BACKOFF_MAX_S: Final = 5.0


class DecisionLog:
    """Writes entries of the pod of that name; ``counts`` those that were and those that were not.

    ``keyring`` returns the scope's keys of this moment. Nothing is written where ``keep`` keeps
    nothing.
    """

    def __init__(
        self,
        source: StoreReader,
        *,
        pod: str,
        keyring: Callable[[], Keyring],
        keep: Retention,
        random: Random,
    ) -> None:
        self.counts = {"written": 0, "dropped": 0}
        self._source = source
        self._pod = pod
        self._keyring = keyring
        self._keep = keep
        self._random = random
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._came = asyncio.Event()

    def put(self, said: Decided | Rating | Compared) -> None:
        """Have an entry written; returns at once."""
        if not self._keep.entries:
            return
        body = msgspec.json.encode(said)
        self._waiting.append(body)
        self._bytes += len(body)
        self._make_room()
        self._came.set()

    async def run(self) -> None:
        """Write until cancelled."""
        failures = 0
        while True:
            await self._came.wait()
            await asyncio.sleep(GATHER_S)
            self._came.clear()
            while self._waiting:
                try:
                    await self._write()
                    failures = 0
                except ConnectionError as error:
                    if not failures:
                        logger.warning("decisions are not logged: %s", error)
                    failures += 1
                    wait_s = backoff_s(failures, limit_s=BACKOFF_MAX_S, random=self._random)
                    await asyncio.sleep(wait_s)

    async def flush(self, within_s: float) -> None:
        """Write what waits, at the end of the process; drop what takes longer than that."""
        try:
            async with asyncio.timeout(within_s):
                while self._waiting:
                    await self._write()
        except (TimeoutError, ConnectionError) as error:
            self.counts["dropped"] += len(self._waiting)
            logger.warning("%d decisions are not logged: %s", len(self._waiting), error)
            self._waiting.clear()

    async def _write(self) -> None:
        """Write a portion; it waits on where the store is away."""
        portion: list[bytes] = []
        size = 0
        while self._waiting and len(portion) < PORTION and size < PORTION_BYTES:
            portion.append(self._waiting.popleft())
            size += len(portion[-1])
        keyring = self._keyring()
        written = False
        try:
            records = [sign_record(keyring, pod=self._pod, body=body) for body in portion]
            await self._source.record(records, keep=self._keep)
            written = True
        finally:
            if written:
                self._bytes -= size
                self.counts["written"] += len(portion)
            else:
                self._waiting.extendleft(reversed(portion))
                self._make_room()

    def _make_room(self) -> None:
        while len(self._waiting) > WAITING_MAX or self._bytes > WAITING_BYTES_MAX:
            self._bytes -= len(self._waiting.popleft())
            self.counts["dropped"] += 1
