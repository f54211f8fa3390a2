"""What the pods of a scope tell each other over the store: sent, heard, checked, and given an age.

Nothing here is on a request's path: ``tell`` puts a word into a short line and returns. A store
that is away loses words, which are about what is true now, and nothing else.

The clock that all share is the store's. A word is dated by it when it is said and not when it is
sent, so a pod that was stopped in between says nothing that looks new.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from switchboard_dataplane.sources.following import backoff_s
from switchboard_policy.errors import BadSignature
from switchboard_policy.seal import Keyring
from switchboard_policy.store import WORDS_KEPT_MS, StoreReader, Word
from switchboard_policy.store.signing import check_word, sign_word

logger = logging.getLogger(__name__)

#: How long one reading may wait for a word.
WAIT_MS: Final = 2_000
#: Words that come close together are read together: with many pods, ten readings a second at most.
GATHER_S: Final = 0.1
AWAY_BACKOFF_MAX_S: Final = 2.0
#: What waits to be sent; the oldest goes first where the store does not keep up.
UNSENT_MAX: Final = 64
#: A larger word is not taken in; the loads of 5,000 endpoints have some 300 KB.
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
#: Forged words are told of once in this time.
_WARN_S: Final = 60.0

#: Takes in the name of the pod that spoke, what it said, and when, by the event loop's clock.
Take = Callable[[str, bytes, float], None]


class _Unsent(NamedTuple):
    topic: str
    body: bytes
    at: float


class Sharing:
    """The words of the pod of that name and of its peers, until cancelled.

    ``keyring`` returns the scope's keys of this moment; ``clock`` is the event loop's.
    """

    def __init__(
        self,
        source: StoreReader,
        *,
        pod: str,
        keyring: Callable[[], Keyring],
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.pod = pod
        self._source = source
        self._keyring = keyring
        self._clock = clock
        self._random = random
        self._takes: dict[str, Take] = {}
        self._unsent: deque[_Unsent] = deque(maxlen=UNSENT_MAX)
        self._to_send = asyncio.Event()
        #: What the store's clock is ahead of ours, in seconds; None until it was read.
        self._ahead_s: float | None = None
        self._warn_at = clock()

    def hear(self, topic: str, take: Take) -> None:
        """Have ``take`` called for every genuine word about a topic, this pod's own among them."""
        self._takes[topic] = take

    def tell(self, topic: str, body: bytes) -> None:
        """Tell all pods of the scope; returns at once, and is lost where the store is away."""
        self._unsent.append(_Unsent(topic, body, self._clock()))
        self._to_send.set()

    async def run(self) -> None:
        """Send and listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._send())

    async def _listen(self) -> None:
        after, failures = "", 0
        while True:
            # The first reading is for the store's time, without which nothing can be said.
            wait_ms = WAIT_MS if after else 1
            try:
                heard = await self._source.shared(after, timeout_ms=wait_ms)
            except ConnectionError as error:
                if not failures:
                    logger.warning("peers are not heard: %s", error)
                failures += 1
                # What comes back may be another server, whose places are others.
                after = ""
                wait_s = backoff_s(failures, limit_s=AWAY_BACKOFF_MAX_S, random=self._random)
                await asyncio.sleep(wait_s)
                continue
            after, failures = heard.after, 0
            now = self._clock()
            if self._ahead_s is None:
                self._to_send.set()
            self._ahead_s = heard.at_ms / 1000 - now
            for word in heard.words:
                self._take(word, at=now - (heard.at_ms - word.said_ms) / 1000, now=now)
            if heard.words:
                await asyncio.sleep(GATHER_S)

    def _take(self, word: Word, *, at: float, now: float) -> None:
        take = self._takes.get(word.topic)
        # A word from long ago, or from a time to come, says nothing of now: perhaps a replay.
        if take is None or abs(now - at) > WORDS_KEPT_MS / 1000:
            return
        if len(word.body) > BODY_BYTES_MAX:
            return
        try:
            check_word(self._keyring(), word)
        except BadSignature as error:
            if now >= self._warn_at:
                self._warn_at = now + _WARN_S
                logger.warning("a word between pods is not believed: %s", error)
            return
        take(word.pod, word.body, min(at, now))

    async def _send(self) -> None:
        failures = 0
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._unsent and self._ahead_s is not None:
                unsent = self._unsent.popleft()
                if self._clock() - unsent.at > WORDS_KEPT_MS / 1000:
                    continue
                try:
                    await self._source.share(self._signed(unsent, self._ahead_s))
                    failures = 0
                except ConnectionError as error:
                    if not failures:
                        logger.warning("peers are not told: %s", error)
                    failures += 1
                    wait_s = backoff_s(failures, limit_s=AWAY_BACKOFF_MAX_S, random=self._random)
                    await asyncio.sleep(wait_s)

    def _signed(self, unsent: _Unsent, ahead_s: float) -> Word:
        return sign_word(
            self._keyring(),
            topic=unsent.topic,
            pod=self.pod,
            said_ms=round((unsent.at + ahead_s) * 1000),
            body=unsent.body,
        )
