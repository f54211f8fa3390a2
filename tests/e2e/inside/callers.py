"""Callers inside the cluster: they never stop, and count every request, stream and failure.

Nothing is tried again, and nothing is forgiven: an answer counts when it is complete, to the end of
its body. They are told what to do over HTTP: ``GET /begin`` lets them begin, ``GET /steps/NAME``
begins a step, ``GET /end`` ends them after their last answers and says what came of all, by step;
``GET /report`` says it so far; ``POST /ask`` sends one request, which is counted too.

``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` tell whom they call and by which key, as in any client.
As an application (``--report-to``) they begin at once, and tell what came of all at SIGTERM.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

PATIENCE: Final = aiohttp.ClientTimeout(total=180)
FAILURES_TOLD: Final = 200
TEXT_TOLD: Final = 300
SLOW_S: Final = 1.0
SLOWEST_TOLD: Final = 3
DONE: Final = b"data: [DONE]"

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Habit:
    """How some callers ask: how long answers are, and whether a connection is kept."""

    name: str
    callers: int
    tokens: int
    stream: bool
    kept: bool
    pause_s: float = 0.1


HABITS: Final = (
    Habit("whole, kept", callers=3, tokens=4, stream=False, kept=True),
    Habit("whole, new", callers=3, tokens=4, stream=False, kept=False),
    Habit("stream, kept", callers=3, tokens=12, stream=True, kept=True),
    Habit("stream, new", callers=3, tokens=12, stream=True, kept=False),
    Habit("long stream, kept", callers=2, tokens=240, stream=True, kept=True),
    Habit("long stream, new", callers=2, tokens=240, stream=True, kept=False),
)
#: Of an application that is one of many.
FEW: Final = (
    Habit("whole, kept", callers=1, tokens=4, stream=False, kept=True, pause_s=0.5),
    Habit("stream, kept", callers=1, tokens=12, stream=True, kept=True, pause_s=0.5),
)


@dataclass(slots=True)
class Step:
    """What ended during a step of the test; times in seconds.

    ``asked`` are single requests, beside the callers' own ``requests``; ``gap_s`` is the longest
    time in which no caller was done with one.
    """

    name: str
    began: float
    ended: float = 0.0
    requests: int = 0
    streams: int = 0
    asked: int = 0
    gap_s: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)

    def fail(self, text: str) -> None:
        """Count a failure, and tell of it while there are not too many."""
        self.failed += 1
        if len(self.failures) < FAILURES_TOLD:
            self.failures.append(text)

    def note_slow(self, waited_s: float, text: str) -> None:
        """Keep an answer that took long, if it is among the slowest."""
        if waited_s > SLOW_S:
            self.slowest = sorted([*self.slowest, (waited_s, text)], reverse=True)[:SLOWEST_TOLD]

    def report(self) -> JsonObject:
        return {
            "name": self.name,
            "seconds": round(self.ended - self.began, 1),
            "requests": self.requests,
            "streams": self.streams,
            "asked": self.asked,
            "gap_s": round(self.gap_s, 2),
            "failed": self.failed,
            "failures": self.failures,
            "slowest": [f"{waited_s:.2f} s: {text}" for waited_s, text in self.slowest],
            "answered_ms": _quantiles(self.answered_s),
            "first_token_ms": _quantiles(self.first_token_s),
        }


def _quantiles(seconds: list[float]) -> JsonObject:
    if len(seconds) < 2:
        return {"p50": None, "p99": None}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}


class Road:
    """How long a caller's newest request took to be on its way: its name, and its connection."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = self._connecting = 0.0
        self.name_s = self.connection_s = 0.0
        self.trace = aiohttp.TraceConfig()
        self.trace.on_dns_resolvehost_start.append(self._begin)
        self.trace.on_dns_resolvehost_end.append(self._named)
        self.trace.on_connection_create_start.append(self._begin_connection)
        self.trace.on_connection_create_end.append(self._connected)

    def reset(self) -> None:
        self.name_s = self.connection_s = 0.0

    def __str__(self) -> str:
        return f"{self.connection_s:.2f} s to connect, {self.name_s:.2f} s of it for the name"

    async def _begin(self, *_: object) -> None:
        self._began = self._clock()

    async def _named(self, *_: object) -> None:
        self.name_s = self._clock() - self._began

    async def _begin_connection(self, *_: object) -> None:
        self._connecting = self._clock()

    async def _connected(self, *_: object) -> None:
        self.connection_s = self._clock() - self._connecting


class Failed(Exception):
    """An answer that is not what was asked for; the text says what came."""


UNWANTED: Final = (
    *(aiohttp.ClientError, OSError, Failed),
    *(ValueError, LookupError, TypeError, AttributeError),
)
"""What an answer ends in that does not come, or is not of the form that was asked for."""


class Callers:
    """All callers of one model, or of several in turn, at the base URL of an OpenAI-style API.

    ``model`` are names, separated by commas; ``key`` is shown with every request, "" for none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        clock: Callable[[], float],
        *,
        habits: Sequence[Habit] = HABITS,
        key: str = "",
    ) -> None:
        self._url = url
        self._models = itertools.cycle(model.split(","))
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._clock = clock
        self._habits = habits
        self._over = False
        self._newest = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self.steps: list[Step] = []

    def begin(self) -> None:
        """Let the callers begin, in a step of their own."""
        self.step("start")
        self._newest = self._clock()
        for habit in self._habits:
            for _ in range(habit.callers):
                self._tasks.append(asyncio.create_task(self._call(habit)))

    async def end(self) -> JsonObject:
        """Await the last answers; what came of all, by step."""
        self._over = True
        self.steps[-1].ended = self._clock()
        await asyncio.gather(*self._tasks)
        return self.report()

    def report(self) -> JsonObject:
        """What came of all until now, by step."""
        return {"steps": [step.report() for step in self.steps]}

    def step(self, name: str) -> None:
        """Begin another step."""
        now = self._clock()
        if self.steps:
            self.steps[-1].ended = now
        self.steps.append(Step(name, now))

    async def ask(self, said: JsonObject) -> JsonObject:
        """Send the request that is described: ``url``, ``body``, ``headers``; return what came.

        Any other status than the ``expected`` one is a failure.
        """
        async with aiohttp.ClientSession(timeout=PATIENCE) as session:
            try:
                headers = self._headers | said["headers"]
                async with session.post(said["url"], json=said["body"], headers=headers) as answer:
                    text = await answer.text()
                    found = {"status": answer.status, "headers": dict(answer.headers)}
            except UNWANTED as error:
                found, text = {"status": 0, "headers": {}}, f"{type(error).__name__}: {error}"
        self.steps[-1].asked += 1
        if found["status"] != said["expected"]:
            self.steps[-1].fail(f"asked: {found['status']} {text[:TEXT_TOLD]}")
        return {**found, "text": text}

    async def _call(self, habit: Habit) -> None:
        connector, road = aiohttp.TCPConnector(force_close=not habit.kept), Road(self._clock)
        async with aiohttp.ClientSession(
            connector=connector, timeout=PATIENCE, trace_configs=[road.trace]
        ) as session:
            while not self._over:
                began = self._clock()
                road.reset()
                try:
                    first_token_s = await self._ask(session, habit, began)
                except UNWANTED as error:
                    text = f"{type(error).__name__}: {error}"
                    waited_s = self._count(habit, began)
                    self.steps[-1].fail(
                        f"{habit.name}: after {waited_s:.2f} s ({road}): {text[:TEXT_TOLD]}"
                    )
                else:
                    self._note(habit, self._count(habit, began), first_token_s, road)
                await asyncio.sleep(habit.pause_s)

    def _count(self, habit: Habit, began: float) -> float:
        """Count a request that is over; how long it took, in seconds."""
        now, step = self._clock(), self.steps[-1]
        step.requests += 1
        step.streams += habit.stream
        if not self._over:
            step.gap_s = max(step.gap_s, now - self._newest)
        self._newest = now
        return now - began

    def _note(self, habit: Habit, waited_s: float, first_token_s: float | None, road: Road) -> None:
        step = self.steps[-1]
        if first_token_s is None:
            step.answered_s.append(waited_s)
            step.note_slow(waited_s, f"{habit.name} ({road})")
        else:
            step.first_token_s.append(first_token_s)
            step.note_slow(first_token_s, f"{habit.name} ({road})")

    async def _ask(
        self, session: aiohttp.ClientSession, habit: Habit, began: float
    ) -> float | None:
        """Ask once; the seconds to the first token of a stream. Raises Failed."""
        body = {
            "model": next(self._models),
            "messages": [{"role": "user", "content": "Say something."}],
            "max_tokens": habit.tokens,
            "stream": habit.stream,
        }
        url = f"{self._url}/chat/completions"
        async with session.post(url, json=body, headers=self._headers) as answer:
            if answer.status != 200:
                raise Failed(f"{answer.status} {await answer.text()}")
            if habit.stream:
                return await self._read_stream(answer, habit.tokens, began)
            said = await answer.json()
            if said["choices"][0]["finish_reason"] != "length":
                raise Failed(f"an answer that is not complete: {said}")
            return None

    async def _read_stream(
        self, answer: aiohttp.ClientResponse, wanted: int, began: float
    ) -> float:
        first_token_s, finished, tokens, done = 0.0, False, 0, False
        # To the end of the body: what is cut after the last event is cut all the same.
        async for line in answer.content:
            if done and line.strip():
                raise Failed(f"more after the end of a stream: {line!r}")
            done = done or line.startswith(DONE)
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise Failed(f"after {tokens} tokens: {event['error']}")
            for choice in event["choices"]:
                finished = finished or choice["finish_reason"] == "length"
                if choice["delta"].get("content"):
                    tokens += 1
                    first_token_s = first_token_s or self._clock() - began
        if not (done and finished and tokens == wanted):
            raise Failed(f"a stream that ended after {tokens} tokens of {wanted}")
        return first_token_s


def application(callers: Callers, *, report_to: str = "") -> web.Application:
    async def begin_step(request: web.Request) -> web.Response:
        callers.step(request.match_info["name"])
        return web.json_response({})

    async def begin(_: web.Request) -> web.Response:
        callers.begin()
        return web.json_response({})

    async def end(_: web.Request) -> web.Response:
        return web.json_response(await callers.end())

    async def report(_: web.Request) -> web.Response:
        return web.json_response(callers.report())

    async def life(_: web.Application) -> AsyncIterator[None]:
        callers.begin()
        yield
        async with aiohttp.ClientSession(timeout=PATIENCE) as session:
            told = {"pod": os.environ.get("HOSTNAME", ""), **await callers.end()}
            async with session.post(report_to, json=told, raise_for_status=True):
                pass

    async def ask(request: web.Request) -> web.Response:
        return web.json_response(await callers.ask(await request.json()))

    app = web.Application()
    app.add_routes(
        [
            web.get("/begin", begin),
            web.get("/steps/{name}", begin_step),
            web.get("/end", end),
            web.get("/report", report),
            web.post("/ask", ask),
        ]
    )
    if report_to:
        app.cleanup_ctx.append(life)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default=os.environ.get("OPENAI_BASE_URL"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--report-to", default="")
    args = parser.parse_args()
    made = Callers(
        *(args.url, args.model, time.monotonic),
        habits=FEW if args.report_to else HABITS,
        key=os.environ.get("OPENAI_API_KEY", ""),
    )
    web.run_app(application(made, report_to=args.report_to), port=args.port, print=None)
