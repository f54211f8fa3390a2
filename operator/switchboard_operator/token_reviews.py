"""Reviews callers' tokens of Kubernetes for the data planes, which ask over the store.

Data planes do not speak to the API server. A pod says a word with the sealed token, the leader has
the API server review it, and says a word with whose it is: see
docs/adr/0015-tokens-over-the-store.md. Lost words are asked again; nothing is kept here.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from switchboard_operator.errors import Forbidden, KubeError
from switchboard_operator.lease import Clock
from switchboard_operator.settings import AccessSettings, ServiceAccountRule
from switchboard_policy.errors import BadSeal, BadSignature, Malformed
from switchboard_policy.seal import Keyring
from switchboard_policy.store import WORDS_KEPT_MS, Heard, Word
from switchboard_policy.store.signing import check_word, sign_word
from switchboard_policy.store.token_words import (
    ADMITTED_MS,
    ASKED,
    PATIENCE_MS,
    REFUSED_MS,
    REVIEWED,
    TOKEN_BYTES_MAX,
    AskedToken,
    ReviewedToken,
    Verdict,
    open_asked,
    read_asked,
    read_claims,
    write_word,
)

#: How long one reading may wait for a word.
WAIT_MS: Final = 2_000
#: Between two looks at whether this replica leads by now.
LOOK_S: Final = 0.2
AWAY_S: Final = 1.0
#: After a defect.
AGAIN_S: Final = 5.0
#: Half of the connections to the API server: the Lease is renewed over the same ones.
AT_ONCE: Final = 4
REVIEW_TIMEOUT_S: Final = 2.0
#: Tokens that are under review or wait for it; what comes beyond is not answered.
WAITING_MAX: Final = 256
#: Pods that ask about one token at once.
NONCES_MAX: Final = 1_000
#: The same trouble is told of once in this time.
WARN_S: Final = 60.0

_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_BODY_BYTES_MAX: Final = 2 * TOKEN_BYTES_MAX

log = logging.getLogger(__name__)


class TokenCalls(Protocol):
    """The call to the API server; may raise KubeError."""

    async def review_token(self, token: str, *, audience: str) -> str | None:
        """Return the user of a token that is good for an audience; None if it is not."""
        ...


class Words(Protocol):
    """What pods tell each other, by scope; both may raise ConnectionError."""

    async def share(self, scope: str, word: Word) -> None:
        """Tell all pods of a scope."""
        ...

    async def shared(self, scope: str, after: str, *, timeout_ms: int) -> Heard:
        """Wait for words after a place, "" for all that are kept."""
        ...


@dataclass(frozen=True, slots=True)
class Reviewing:
    """A gateway whose callers' tokens are reviewed; ``keyring`` returns its keys of the moment."""

    scope: str
    access: AccessSettings
    keyring: Callable[[], Keyring]


@dataclass(slots=True)
class _Question:
    """A token under review: the nonces of all who asked, and when the first did."""

    asked: AskedToken
    nonces: list[str]
    at: float


class TokenReviews:
    """Hears and answers while this replica leads.

    ``speaker`` signs the answers by name; ``done`` is told of every outcome: a verdict, or
    "dropped", "forged", "unreadable".
    """

    def __init__(
        self,
        calls: TokenCalls,
        words: Words,
        gateways: Sequence[Reviewing],
        *,
        speaker: str,
        leads: Callable[[], bool],
        clock: Clock,
        done: Callable[[str], None],
    ) -> None:
        self._calls = calls
        self._words = words
        self._gateways = gateways
        self._speaker = speaker
        self._leads = leads
        self._clock = clock
        self._done = done
        self._ahead_s: dict[str, float] = {}
        """What the store's clock is ahead of ours, by scope."""
        self._under_way: dict[tuple[str, str], _Question] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._warned_at: dict[str, float] = {}

    async def run(self) -> None:
        """Go on until cancelled. A defect here costs callers with tokens, and nobody else."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for gateway in self._gateways:
                        tasks.create_task(self._listen(gateway, tasks))
            except Exception:
                log.exception("tokens of callers are not reviewed by a defect of the operator")
            await self._clock.sleep(AGAIN_S)

    async def _listen(self, gateway: Reviewing, tasks: asyncio.TaskGroup) -> None:
        after = ""
        while True:
            if not self._leads():
                # Who gains the Lease reads from the beginning: what nobody has answered yet.
                after = ""
                await self._clock.sleep(LOOK_S)
                continue
            try:
                heard = await self._words.shared(gateway.scope, after, timeout_ms=WAIT_MS)
            except ConnectionError as error:
                self._warn("the store", "tokens of callers are not reviewed: %s", error)
                after = ""
                await self._clock.sleep(AWAY_S)
                continue
            after, now = heard.after, self._clock.monotonic()
            self._ahead_s[gateway.scope] = heard.at_ms / 1000 - now
            for word in heard.words:
                if word.topic == ASKED and self._leads():
                    self._take(gateway, word, now - (heard.at_ms - word.said_ms) / 1000, tasks)

    def _take(self, gateway: Reviewing, word: Word, at: float, tasks: asyncio.TaskGroup) -> None:
        """Take in a question of ``at``, by our clock."""
        late = abs(self._clock.monotonic() - at) * 1000 > WORDS_KEPT_MS
        if late or len(word.body) > _BODY_BYTES_MAX:
            self._done("dropped")
            return
        try:
            check_word(gateway.keyring(), word)
            asked = read_asked(word.body)
        except (BadSignature, Malformed) as error:
            self._done("forged" if isinstance(error, BadSignature) else "unreadable")
            self._warn("a word", "a question about a token is not answered: %s", error)
            return
        key = gateway.scope, asked.hash
        if question := self._under_way.get(key):
            if len(question.nonces) < NONCES_MAX and asked.nonce not in question.nonces:
                question.nonces.append(asked.nonce)
            return
        if len(self._under_way) >= WAITING_MAX:
            self._done("dropped")
            self._warn("many", "more than %d tokens wait for their review", WAITING_MAX)
            return
        question = self._under_way[key] = _Question(asked, [asked.nonce], at)
        tasks.create_task(self._answer(gateway, question))

    async def _answer(self, gateway: Reviewing, question: _Question) -> None:
        asked = question.asked
        try:
            async with self._turns:
                began = self._clock.monotonic()
                if (began - question.at) * 1000 > PATIENCE_MS or not self._leads():
                    self._done("dropped")
                    return
                answer = await self._review(gateway, asked)
        except BadSeal as error:
            self._done("unreadable")
            self._warn("a seal", "a question about a token is not answered: %s", error)
            return
        finally:
            del self._under_way[gateway.scope, asked.hash]
        self._done(answer.verdict)
        if not self._leads():
            return
        word = sign_word(
            gateway.keyring(),
            topic=REVIEWED,
            pod=self._speaker,
            # What was so when the review began.
            said_ms=round((began + self._ahead_s[gateway.scope]) * 1000),
            body=write_word(msgspec.structs.replace(answer, nonces=tuple(question.nonces))),
        )
        try:
            await self._words.share(gateway.scope, word)
        except ConnectionError as error:
            self._warn("the store", "tokens of callers are not reviewed: %s", error)

    async def _review(self, gateway: Reviewing, asked: AskedToken) -> ReviewedToken:
        token = open_asked(gateway.keyring(), asked)
        try:
            async with asyncio.timeout(REVIEW_TIMEOUT_S):
                user = await self._calls.review_token(token, audience=gateway.access.audience)
        except (KubeError, TimeoutError) as error:
            self._warn_of_review(error)
            return _verdict(asked, "unknown")
        account = _service_account(user)
        if account is None:
            return _verdict(asked, "refused", good_for_ms=REFUSED_MS)
        namespace, name = account
        rule = rule_for(gateway.access, namespace, name)
        if rule is None:
            return ReviewedToken(
                asked.hash, (), "notAdmitted", REFUSED_MS, namespace=namespace, name=name
            )
        return ReviewedToken(
            asked.hash,
            (),
            "admitted",
            _good_for_ms(token, self._clock.now().timestamp()),
            namespace=namespace,
            name=name,
            tier=rule.tier,
            team=rule.team,
            labels=tuple(sorted(rule.labels.items())),
            models=tuple(rule.models),
        )

    def _warn_of_review(self, error: Exception) -> None:
        if isinstance(error, Forbidden):
            text = "tokens of callers cannot be reviewed: %s; give the operator the right to create"
            self._warn("a right", text + " tokenreviews.authentication.k8s.io", error)
            return
        said = str(error) or f"no answer within {REVIEW_TIMEOUT_S:g} s"
        self._warn("the API server", "tokens of callers are not reviewed: %s", said)

    def _warn(self, what: str, text: str, *args: object) -> None:
        now = self._clock.monotonic()
        if now - self._warned_at.get(what, float("-inf")) >= WARN_S:
            self._warned_at[what] = now
            log.warning(text, *args)


def rule_for(access: AccessSettings, namespace: str, name: str) -> ServiceAccountRule | None:
    """Return the first rule for a ServiceAccount; None where it is not admitted."""
    if not access.service_accounts:
        return ServiceAccountRule(namespace="*")
    for rule in access.service_accounts:
        if rule.namespace in ("*", namespace) and rule.name in ("*", name):
            return rule
    return None


def _service_account(user: str | None) -> tuple[str, str] | None:
    """Return namespace and name; None for another user, whom somebody else vouches for."""
    if user is None or not user.startswith(_SERVICE_ACCOUNT):
        return None
    namespace, _, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
    return (namespace, name) if namespace and name and ":" not in name else None


def _good_for_ms(token: str, now_s: float) -> int:
    """Return how long an admitted token is good.

    The API server has looked at its expiry. Our clock may differ from its: it makes that time
    shorter, and never refuses what the API server takes.
    """
    try:
        left_ms = int((read_claims(token).exp - now_s) * 1000)
    except (Malformed, OverflowError, ValueError):
        return REFUSED_MS
    return max(REFUSED_MS, min(ADMITTED_MS, left_ms))


def _verdict(asked: AskedToken, verdict: Verdict, *, good_for_ms: int = 0) -> ReviewedToken:
    return ReviewedToken(asked.hash, (), verdict, good_for_ms)
