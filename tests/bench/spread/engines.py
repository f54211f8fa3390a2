"""Simulated engines and the requests that they answer. Times are simulated, in seconds."""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

BATCH: Final = 32
PREFILL_TOKENS_PER_S: Final = 8_000.0
#: A step of decoding takes so long, and so much longer for each request in the batch.
STEP_S: Final = 0.015
STEP_PER_REQUEST_S: Final = 0.0004


@dataclass(slots=True)
class Ask:
    """A request: when it comes, to which gateway, and how large it is (tokens)."""

    number: int
    at: float
    gateway: int
    prompt: int
    output: int
    engine: int = -1
    first_at: float = 0.0


#: Draws the tokens of a prompt and of its answer.
Sizes = Callable[[Random], tuple[int, int]]


def skewed(rng: Random) -> tuple[int, int]:
    """85 % small prompts, 12 % of thousands of tokens, 3 % huge; answers of some 100."""
    size = rng.choices((150, 2_000, 12_000), (85, 12, 3))[0]
    prompt = max(1, int(size * rng.lognormvariate(0.0, 0.5)))
    return prompt, min(2_000, max(1, int(rng.lognormvariate(4.6, 0.8))))


def lognormal(rng: Random) -> tuple[int, int]:
    """Prompts of 400 tokens at the median, 1 % above 8,000; answers of some 150."""
    prompt = max(1, int(rng.lognormvariate(6.0, 1.3)))
    return prompt, min(2_000, max(1, int(rng.lognormvariate(5.0, 0.6))))


def heavy_tailed(rng: Random) -> tuple[int, int]:
    """Prompts and answers by Pareto's law: most are small, a few have a hundred times as much."""
    prompt = min(60_000, int(150 * rng.paretovariate(1.2)))
    return prompt, min(4_000, int(40 * rng.paretovariate(1.3)))


def bimodal(rng: Random) -> tuple[int, int]:
    """Chats (small prompts, long answers) and three in ten that read much and write little."""
    if rng.random() < 0.3:
        return int(rng.uniform(4_000, 8_000)), int(rng.uniform(10, 60))
    return int(rng.uniform(50, 250)), int(rng.uniform(150, 450))


def draw_asks(
    count: int, rng: Random, *, gateways: int, load: float, sizes: Sizes, speeds: Sequence[float]
) -> list[Ask]:
    """Draw requests as a Poisson stream that takes this share of what the engines can do."""
    asks: list[Ask] = []
    at = 0.0
    for number in range(count):
        prompt, output = sizes(rng)
        asks.append(Ask(number, at, rng.randrange(gateways), prompt, output))
        at += rng.expovariate(1.0)
    # The stream has one request a second; now it gets the pace that loads the engines as wanted.
    writes = BATCH / (STEP_S + STEP_PER_REQUEST_S * BATCH) / (sum(a.output for a in asks) / count)
    reads = PREFILL_TOKENS_PER_S / (sum(a.prompt for a in asks) / count)
    rate = load * min(writes, reads) * sum(speeds)
    for ask in asks:
        ask.at /= rate
    return asks


@dataclass(slots=True)
class Engine:
    """A simulated engine: a batch, a prompt that is prefilled, and those that wait.

    ``done`` counts the steps that every request of the batch has been decoded for, so that a
    request of n tokens ends when it has grown by n.
    """

    slowness: float = 1.0
    waiting: deque[Ask] = field(default_factory=deque)
    prefilling: Ask | None = None
    prefilled_at: float = 0.0
    decoding: list[tuple[float, int, Ask]] = field(default_factory=list)
    done: float = 0.0
    seen_at: float = 0.0

    def step_s(self) -> float:
        """Return what a step takes now."""
        return (STEP_S + STEP_PER_REQUEST_S * len(self.decoding)) * self.slowness

    def prefill_s(self, ask: Ask) -> float:
        """Return what the prefill of a prompt takes."""
        return ask.prompt / PREFILL_TOKENS_PER_S * self.slowness

    def take(self, ask: Ask, now: float) -> None:
        """Take a request in."""
        self.waiting.append(ask)
        self._begin(now)

    def next_at(self) -> float:
        """Return when something happens next."""
        at = self.prefilled_at if self.prefilling is not None else float("inf")
        if self.decoding:
            at = min(at, self.seen_at + (self.decoding[0][0] - self.done) * self.step_s())
        return at

    def run_to(self, now: float) -> tuple[Ask | None, Ask | None]:
        """Let what happens next happen; return who got a first token, and who is finished."""
        if self.decoding:
            self.done += (now - self.seen_at) / self.step_s()
        self.seen_at = now
        first = last = None
        if self.prefilling is not None and now >= self.prefilled_at:
            first, self.prefilling = self.prefilling, None
            heapq.heappush(self.decoding, (self.done + first.output, first.number, first))
        elif self.decoding:
            last = heapq.heappop(self.decoding)[2]
        self._begin(now)
        return first, last

    def expected_s(self, ask: Ask, now: float) -> float:
        """Return when the first token of a request would come, as one who sees all can tell."""
        wait_s = sum(self.prefill_s(one) for one in self.waiting) + self.prefill_s(ask)
        ahead = len(self.waiting)
        if self.prefilling is not None:
            ahead += 1
            wait_s += self.prefilled_at - now
        over = len(self.decoding) + ahead + 1 - BATCH
        if over > 0:
            ends = heapq.nsmallest(over, (end for end, _, _ in self.decoding))
            if ends:
                wait_s += (ends[-1] - self.done) * self.step_s() - (now - self.seen_at)
        return wait_s

    def _begin(self, now: float) -> None:
        if self.prefilling is None and self.waiting and len(self.decoding) < BATCH:
            if not self.decoding:
                self.seen_at = now
            self.prefilling = self.waiting.popleft()
            self.prefilled_at = now + self.prefill_s(self.prefilling)
