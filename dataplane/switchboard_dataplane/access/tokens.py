"""Callers' tokens of Kubernetes: whose they are, as the operator finds out over the store.

A pod asks with a word to all, the operator that leads answers with another one: see
docs/adr/0015-tokens-over-the-store.md. What was answered is known by a keyed hash until its time
is up, and asked anew before that while the token is in use. Whoever cannot be known is not let in.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.errors import AccessUnavailable, Forbidden, RouterError, Unauthenticated
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_policy.errors import Malformed
from switchboard_policy.seal import Keyring
from switchboard_policy.store.token_words import (
    ADMITTED_MS,
    ASKED,
    PATIENCE_MS,
    REVIEWED,
    ReviewedToken,
    ask,
    read_claims,
    read_reviewed,
    write_word,
)

#: Unknown tokens that are asked about at once; who comes with another one is told to come again.
ASKED_MAX: Final = 64
#: What is known: admitted and refused tokens. The oldest goes first.
ADMITTED_MAX: Final = 10_000
REFUSED_MAX: Final = 1_000
#: While it is in use a token is asked about again after this part of its time.
AGAIN_AFTER: Final = 2 / 3
#: Clocks differ: a token that expired longer ago than this is refused without a question.
SKEW_S: Final = 300.0
#: When whoever found the line full may come again.
FULL_RETRY_S: Final = 1.0
AWAY_RETRY_S: Final = 2.0

_PATIENCE_S: Final = PATIENCE_MS / 1000
_NONCE_BYTES: Final = 16
_EXPIRED: Final = "the token has expired; read it from its file for each request"
_BAD: Final = "the token is none of a ServiceAccount that is there; show another one"

log = logging.getLogger(__name__)


class _Known:
    """What was answered about a token: a client, or why there is none."""

    __slots__ = ("again_at", "client", "until", "verdict")

    def __init__(self, answer: ReviewedToken, at: float) -> None:
        good_for_s = max(0, min(answer.good_for_ms, ADMITTED_MS)) / 1000
        self.verdict: Final = answer.verdict
        self.client: Final = _client(answer)
        self.until: Final = at + good_for_s
        self.again_at = at + good_for_s * AGAIN_AFTER if answer.verdict == "admitted" else math.inf

    def said(self) -> Client:
        """Return the client; raises Unauthenticated, Forbidden."""
        if self.verdict == "admitted":
            return self.client
        raise _refusal(self.verdict, self.client)


class _Question:
    """One question, and all who wait for its answer: None where none came."""

    __slots__ = ("answer", "digest", "known", "nonce", "timer")

    def __init__(self, digest: str, nonce: str, *, known: bool) -> None:
        self.digest: Final = digest
        self.nonce: Final = nonce
        self.known: Final = known
        self.answer: Final = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None


class OperatorTokens:
    """A TokenReviewer over the words of the pods; make it in the loop that will run it.

    ``audience`` is what a token must be meant for. ``keyring`` returns the scope's keys of the
    moment, ``clock`` is the event loop's, ``today`` the time of day; ``entropy`` returns that many
    bytes that nobody can guess.
    """

    def __init__(
        self,
        sharing: Sharing,
        *,
        audience: str,
        keyring: Callable[[], Keyring],
        clock: Callable[[], float],
        today: Callable[[], datetime],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._sharing = sharing
        self._audience = audience
        self._keyring = keyring
        self._clock = clock
        self._today = today
        self._entropy = entropy
        self._admitted: dict[str, _Known] = {}
        self._refused: dict[str, _Known] = {}
        self._by_digest: dict[str, _Question] = {}
        self._by_nonce: dict[str, _Question] = {}
        self._strangers = 0
        """Questions about tokens of which nothing is known."""
        sharing.hear(REVIEWED, self.take)

    async def identify(self, token: str) -> Client:
        """See ``TokenReviewer.identify``."""
        raw, ring, now = token.encode(errors="replace"), self._keyring(), self._clock()
        # While the keys are rotated, what another one of them hashed is known all the same.
        for key_id in (ring.current, *(each for each in ring.ids if each != ring.current)):
            known = self._find(ring.hash_key(key_id, raw), now)
            if known is not None:
                if now >= known.again_at:
                    known.again_at = now + _PATIENCE_S
                    self._ask(ring, raw, known=True)
                return known.said()
        self._look_at(token)
        question = self._ask(ring, raw, known=False)
        # Another caller may wait for the same answer: who leaves takes nothing away.
        answer: _Known | None = await asyncio.shield(question.answer)
        if answer is None:
            raise AccessUnavailable(
                "it could not be found out whose token this is; send the request again",
                retry_after_s=AWAY_RETRY_S,
            )
        return answer.said()

    def take(self, pod: str, body: bytes, at: float) -> None:
        """Take in an answer of the operator, said at ``at``, if it is one to a question of ours."""
        try:
            answer = read_reviewed(body)
        except Malformed as error:
            # A newer version may have other words.
            log.info("what %s says of a token cannot be read: %s", pod, error)
            return
        for nonce in answer.nonces:
            question = self._by_nonce.get(nonce)
            # Only the answer to a question that is open: an old one, played again, has its nonce.
            if question is not None and question.digest == answer.hash:
                self._settle(question, self._learn(answer, at))

    def _find(self, digest: str, now: float) -> _Known | None:
        known = self._admitted.get(digest) or self._refused.get(digest)
        return known if known is not None and now < known.until else None

    def _look_at(self, token: str) -> None:
        """Refuse what nobody needs to be asked about; raises Unauthenticated."""
        try:
            claims = read_claims(token)
        except Malformed:
            raise Unauthenticated(_BAD, why="bad_token") from None
        if self._audience not in claims.audiences:
            # It may open other doors, so it goes no further than this.
            said = f"the token is not meant for here; show one of audience {self._audience!r}"
            raise Unauthenticated(said, why="bad_token")
        if claims.exp < self._today().timestamp() - SKEW_S:
            raise Unauthenticated(_EXPIRED, why="expired")

    def _ask(self, ring: Keyring, raw: bytes, *, known: bool) -> _Question:
        """Ask, or join who asked; raises AccessUnavailable where too many do."""
        digest = ring.hash_key(ring.current, raw)
        asked = self._by_digest.get(digest)
        if asked is not None:
            return asked
        if not known and self._strangers >= ASKED_MAX:
            raise AccessUnavailable(
                "too many unknown tokens are looked at; send the request again",
                retry_after_s=FULL_RETRY_S,
            )
        question = _Question(digest, self._entropy(_NONCE_BYTES).hex(), known=known)
        self._by_digest[digest] = self._by_nonce[question.nonce] = question
        self._strangers += not known
        loop = asyncio.get_running_loop()
        question.timer = loop.call_later(_PATIENCE_S, self._settle, question, None)
        self._sharing.tell(ASKED, write_word(ask(ring, raw, nonce=question.nonce)))
        return question

    def _learn(self, answer: ReviewedToken, at: float) -> _Known | None:
        if answer.verdict == "unknown":
            return None
        known = _Known(answer, at)
        self._admitted.pop(answer.hash, None)
        self._refused.pop(answer.hash, None)
        admitted = answer.verdict == "admitted"
        held, most = (self._admitted, ADMITTED_MAX) if admitted else (self._refused, REFUSED_MAX)
        if len(held) >= most:
            del held[next(iter(held))]
        held[answer.hash] = known
        return known

    def _settle(self, question: _Question, known: _Known | None) -> None:
        if self._by_nonce.pop(question.nonce, None) is None:
            return
        del self._by_digest[question.digest]
        self._strangers -= not question.known
        if question.timer is not None:
            question.timer.cancel()
        if not question.answer.done():
            question.answer.set_result(known)


def _client(answer: ReviewedToken) -> Client:
    return Client(
        "serviceAccount",
        answer.name,
        answer.namespace,
        tier=answer.tier,
        team=answer.team,
        labels=dict(answer.labels),
        models=answer.models,
    )


def _refusal(verdict: str, client: Client) -> RouterError:
    if verdict == "notAdmitted":
        return Forbidden(
            f"ServiceAccount {client.namespace}/{client.name} is not admitted here; have the "
            "administrator add it to gateway.access.serviceAccounts",
            why="not_admitted",
        )
    return Unauthenticated(_BAD, why="bad_token")
