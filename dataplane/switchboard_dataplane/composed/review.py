"""A review: people are told of an answer, and what it was decided by, at a webhook."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from switchboard_dataplane.composed.ended import Ended
from switchboard_dataplane.reading.texts import last_user_turn
from switchboard_dataplane.upstream.getting import Getter
from switchboard_policy import ir

log = logging.getLogger(__name__)

#: How long a webhook is waited for before each of the attempts, in seconds.
WAITS_S: Final = (0.0, 1.0, 5.0)
#: What a webhook has to answer, in seconds.
TIMEOUT_S: Final = 10.0
#: What a webhook answers is not read, but waited for.
REPLY_BYTES_MAX: Final = 64 * 1024
#: Texts are cut to so many characters each.
TEXT_CHARS_MAX: Final = 64_000

POSTED: Final = "posted"
FAILED: Final = "failed"
DROPPED: Final = "dropped"
#: What the caller reads of an answer that is to be posted.
PENDING: Final = "pending"
#: What stands in the place of texts while a guardrail is in force: a webhook is no backend, and
#: meets none.
WITHHELD: Final = "withheld"

_ANY_OK: Final = range(200, 300)

#: Posts JSON to a URL; returns the status. Raises OSError.
Post = Callable[[str, bytes], Awaitable[int]]


def webhooks(getter: Getter) -> Post:
    """Return what posts to webhooks over connections of the gateway's own."""

    async def post(url: str, body: bytes) -> int:
        got = await getter.post(url, body, timeout_s=TIMEOUT_S, bytes_max=REPLY_BYTES_MAX)
        return got.status

    return post


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviews:
    """Posts to webhooks; ``tell`` hears in a word what came of it. ``today`` tells the time."""

    post: Post
    today: Callable[[], datetime]
    tell: Callable[[Ended, str], None]

    async def review(self, ended: Ended, review: ir.Review) -> None:
        """Post what was decided; tried again where that fails."""
        body = orjson.dumps(self._said(ended, review))
        told = FAILED
        try:
            for wait_s in WAITS_S:
                await asyncio.sleep(wait_s)
                if await self._posted(review.webhook, body):
                    told = POSTED
                    return
        finally:
            self.tell(ended, told)

    async def _posted(self, url: str, body: bytes) -> bool:
        try:
            status = await self.post(url, body)
        except OSError as error:
            log.info("a review was not posted: %s", error)
            return False
        if status not in _ANY_OK:
            log.info("a review was refused with status %d", status)
        return status in _ANY_OK

    def _said(self, ended: Ended, review: ir.Review) -> Mapping[str, Any]:
        outcome, view, usage = ended.outcome, ended.ask.view, ended.usage
        said: dict[str, Any] = {
            "decision": ended.decision,
            "at": self.today().isoformat(),
            "policy": outcome.policy,
            "rule": outcome.rule,
            "tier": outcome.tier,
            "backend": outcome.backend,
            "model": outcome.model,
            "upstreamModel": outcome.upstream_model,
            "arm": outcome.arm,
            "reason": ended.reason,
            "guardrails": outcome.guardrails,
            "revision": outcome.revision,
            "inputTokens": outcome.input_tokens,
            "outputTokens": outcome.output_tokens,
            "totalInputTokens": None if usage is None else usage.input_tokens,
            "totalOutputTokens": None if usage is None else usage.output_tokens,
            "costMicrodollars": ended.cost_microdollars,
            "durationSeconds": outcome.duration_s,
        }
        if review.texts and ended.plan.guardrails:
            said["texts"] = WITHHELD
        elif review.texts:
            said["request"] = last_user_turn(view)[:TEXT_CHARS_MAX]
            said["answer"] = ended.text[:TEXT_CHARS_MAX]
        return said
