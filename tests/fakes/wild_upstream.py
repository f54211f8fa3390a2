"""Upstreams that do whatever upstreams may do, by lot, and remember who asked."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from fakes.gateway import DONE, event
from fakes.timed import EVER, Play, Step, TimedResponse, TimedUpstream, errs, refuses
from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import UpstreamConnect, UpstreamReset
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.transport import UpstreamResponse

_MARKED: Final = re.compile(rb"ask-(\d+)\.")
#: In time with each other and with what others wait for; most answers come at once.
TIMES: Final = (0.0, 0.0, 0.0, 0.01, 0.5, 0.51, 1.0, 2.0, 5.0)
#: What is said: answers, and what judges and classifiers are asked for, or not.
TEXTS: Final = (
    *("The answer is 4.", "The answer is 5.", "#### 4", "B", "I cannot help with that.", ""),
    *('{"score": 9}', '{"score": 1}', "9", "2", "0", "tier-0", "tier-1", "large", "{", "é" * 40),
)
#: A smaller context window is one that overflows, so often.
SMALL_TOKENS: Final = 100
OVERFLOWS: Final = 0.3
#: Something that a backend may do with a request's body.
Kind = Callable[[Random, Mapping[str, Any]], Play]


@dataclass(frozen=True, slots=True)
class Called:
    """Who was called, when, and on account of which request; ``body`` is what was sent."""

    backend: str
    at: float
    number: int
    body: Mapping[str, Any]


def answers(rng: Random, body: Mapping[str, Any]) -> Play:
    """Answer as asked."""
    return _stream(rng, body) if body.get("stream") else _whole(rng, body)


def breaks(rng: Random, body: Mapping[str, Any]) -> Play:
    """Answer as asked, and break before the end."""
    play = answers(rng, body)
    kept = play.steps[: rng.randrange(len(play.steps))]
    return Play(play.head_s, (*kept, UpstreamReset("gone")), media_type=play.media_type)


def announces(rng: Random, body: Mapping[str, Any]) -> Play:
    """Answer, and say that it was the last for a while."""
    play = answers(rng, body)
    headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")]
    return Play(play.head_s, play.steps, media_type=play.media_type, headers=headers)


def overflows(rng: Random, body: Mapping[str, Any]) -> Play:
    """Say that the prompt is too long."""
    told = rng.choice(("", " of 60 tokens"))
    error = {"message": f"longer than the model's context length{told}", "type": "x"}
    return Play(_soon(rng), (orjson.dumps({"error": error}),), 400, "application/json")


def limits(rng: Random, body: Mapping[str, Any]) -> Play:
    """Refuse for now."""
    wait_s = rng.choice(("0", "0.5", "2", "60"))
    return refuses(_soon(rng), rng.choice((429, 503)), [("retry-after", wait_s)])


#: What a backend may do, and how often one that is not well does it.
KINDS: Final[Mapping[Kind, int]] = {
    answers: 8,
    breaks: 6,
    announces: 1,
    overflows: 2,
    limits: 2,
    lambda rng, _: Play(UpstreamConnect("refused")): 2,
    lambda rng, _: Play(_soon(rng), (UpstreamReset("gone"),)): 1,
    lambda rng, _: refuses(_soon(rng), rng.choice((400, 401, 403, 404, 500, 502))): 3,
    lambda rng, _: errs(_soon(rng), code=rng.choice((400, 429, 500))): 1,
    lambda rng, _: Play(_soon(rng), (b"<html>",), media_type="text/html"): 1,
    lambda rng, _: Play(EVER): 1,
    lambda rng, _: Play(_soon(rng), (EVER,)): 1,
}
_ALL: Final = tuple(KINDS)
_OFTEN: Final = tuple(KINDS.values())


@dataclass
class WildUpstream(TimedUpstream):
    """Backends do by lot what they may; those that are ``well`` answer at once."""

    rng: Random = field(default_factory=Random)
    well: frozenset[str] = frozenset()
    called: list[Called] = field(default_factory=list)

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        name, said = endpoint.backend.name, orjson.loads(body)
        now = asyncio.get_running_loop().time()
        self.called.append(Called(name, now, number_in(body), said))
        play = self._kind(endpoint)(self.rng, said)
        exchange = object()
        self.open.add(exchange)
        try:
            if isinstance(play.head_s, Exception):
                raise play.head_s
            await bound.over(asyncio.sleep(play.head_s))
        finally:
            self.open.discard(exchange)
        response = TimedResponse(
            self, endpoint, bound, [*play.steps], play.status, play.media_type, play.headers
        )
        self.open.add(response)
        self.responses.append(response)
        return response

    def _kind(self, endpoint: Endpoint) -> Kind:
        if endpoint.backend.name in self.well:
            return answers
        window = endpoint.backend.spec.capabilities.context_window_tokens or SMALL_TOKENS
        if window < SMALL_TOKENS and self.rng.random() < OVERFLOWS:
            return overflows
        return self.rng.choices(_ALL, _OFTEN)[0]


def number_in(body: bytes) -> int:
    """Return the number of the request on whose account this is."""
    marked = _MARKED.search(body)
    assert marked is not None, f"nobody asked for this: {body!r}"
    return int(marked[1])


def _soon(rng: Random) -> float:
    return rng.choice(TIMES)


def _whole(rng: Random, body: Mapping[str, Any]) -> Play:
    text = rng.choice(TEXTS)
    choice: dict[str, Any] = {"index": 0, "finish_reason": rng.choice(("stop", "stop", "length"))}
    if "messages" in body:
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    if body.get("logprobs"):
        choice["logprobs"] = _logprobs(rng)
    answer: dict[str, Any] = {"id": "x", "model": body["model"], "choices": [choice]}
    if rng.random() < 0.9:
        answer["usage"] = _usage(rng)
    return Play(_soon(rng), (orjson.dumps(answer),), media_type="application/json")


def _stream(rng: Random, body: Mapping[str, Any]) -> Play:
    text = rng.choice(TEXTS)
    steps: list[Step] = []
    middle = -(-len(text) // 2)
    for piece in (text[:middle], text[middle:]):
        steps += [_soon(rng), _event(rng, body, piece)]
    steps.append(event(choices=[{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]))
    if body.get("stream_options") and rng.random() < 0.9:
        steps.append(event(choices=[], usage=_usage(rng)))
    return Play(_soon(rng), (*steps, DONE))


def _event(rng: Random, body: Mapping[str, Any], text: str) -> bytes:
    choice: dict[str, Any] = {"index": 0, "finish_reason": None}
    if "messages" in body:
        choice["delta"] = {"content": text}
    else:
        choice["text"] = text
    if body.get("logprobs"):
        choice["logprobs"] = _logprobs(rng)
    return event(choices=[choice])


def _logprobs(rng: Random) -> dict[str, Any]:
    logprob = -rng.choice((0.001, 0.1, 1.0, 3.0))
    return {"content": [{"token": "x", "logprob": logprob, "bytes": None, "top_logprobs": []}]}


def _usage(rng: Random) -> dict[str, int]:
    prompt, completion = rng.randint(1, 30), rng.randint(1, 30)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
