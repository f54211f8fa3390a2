"""The same comparison over real sockets: a data-plane process, and fake models that slow down.

Eight ``switchboard fake-model`` processes, one of them three times slower. A first token takes
longer for each other request that runs, and what does not fit waits. Every request goes through the
same data plane. Under Latency it names one model, and the data plane chooses; under the others it
names the engine, chosen here: in turn, by the fewest in flight, or by one that knows all.
"""

import asyncio
import heapq
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Final

import aiohttp
from gateways.ours import SCOPE, publish
from spread.balances import OURS
from spread.cases import WARM_UP_SHARE, with_ratios

from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer
from switchboard_dataplane.upstream.addresses import LOOPBACK
from switchboard_policy.seal import KEY_BYTES, write_key_file

ENGINES: Final = 8
SLOWER: Final = 3
#: Requests that an engine runs at once, its time to a first token, what each other request that
#: runs adds to it, and its speed.
RUNNING_MAX: Final = 12
TTFT_MS: Final = 40
LOAD_TTFT_MS: Final = 20
TOKENS_PER_S: Final = 60
#: Answers are short, some are long, few very long: (tokens, of a hundred).
ANSWERS: Final = ((15, 85), (60, 12), (240, 3))
#: The share of what the engines can do when all are full.
LOAD: Final = 0.6
READY_S: Final = 60.0
PATIENCE_S: Final = 240.0
_CONTENT: Final = b'"content":"'

_BACKEND: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: ModelBackend
metadata: {{name: {name}, namespace: ai}}
spec:
  model: fake-model
  external: {{provider: openai-compatible, url: "http://127.0.0.1:{port}/v1"}}
  timeouts: {{firstToken: 200s, idle: 60s}}
---
"""
_POLICY: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {{name: {name}, namespace: ai}}
spec:
  models: [{name}]
  resilience: {{attempts: 1, deadline: 200s}}
  rules:
  - name: default
    route: {{tiers: [{{name: all, backends: [{members}], balance: {{by: Latency}}}}]}}
---
"""


class BadAnswer(Exception):
    """A request was not answered as it should be."""


@dataclass(slots=True)
class Foreseen:
    """What one who knows all knows of an engine: when each of its requests ends."""

    slower: int
    in_flight: int = 0
    ends: list[float] = field(default_factory=list)

    def first_at(self, now: float) -> float:
        """Return when the first token of a request would come that is sent now."""
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        over = len(self.ends) - RUNNING_MAX
        begins = now if over < 0 else heapq.nsmallest(over + 1, self.ends)[-1]
        others = min(len(self.ends), RUNNING_MAX - 1)
        return begins + (TTFT_MS + LOAD_TTFT_MS * others) * self.slower / 1000

    def take(self, now: float, tokens: int) -> None:
        """Take in a request that is sent now."""
        heapq.heappush(self.ends, self.first_at(now) + (tokens - 1) * self.slower / TOKENS_PER_S)


#: Chooses an engine, by all that is known of each.
Choose = Callable[[list[Foreseen], int, float, Random], int]


def _in_turn(engines: list[Foreseen], number: int, now: float, rng: Random) -> int:
    return number % len(engines)


def _fewest(engines: list[Foreseen], number: int, now: float, rng: Random) -> int:
    return min(range(len(engines)), key=lambda at: (engines[at].in_flight, rng.random()))


def _first(engines: list[Foreseen], number: int, now: float, rng: Random) -> int:
    return min(range(len(engines)), key=lambda at: (engines[at].first_at(now), rng.random()))


#: None where the data plane chooses.
CHOICES: Final[Mapping[str, Choose | None]] = {
    "round_robin": _in_turn,
    "least_in_flight": _fewest,
    OURS: None,
    "oracle": _first,
}


def measure_live(*, requests: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return each balance's figures: medians over repeats that take the balances in turn."""
    with tempfile.TemporaryDirectory(prefix="balance-") as folder, ExitStack() as stack:
        port = stack.enter_context(_started(Path(folder)))
        return asyncio.run(_measure(port, requests, repeats))


async def _measure(port: int, requests: int, repeats: int) -> dict[str, dict[str, float]]:
    seen: dict[str, list[list[float]]] = {name: [] for name in CHOICES}
    limit = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=limit) as session:
        for repeat in range(repeats):
            for name, choose in CHOICES.items():
                took = await _run(session, choose, requests, Random(repeat))
                cuts = quantiles(took[int(WARM_UP_SHARE * requests) :], n=100)
                seen[name].append([cuts[49], cuts[98]])
    return with_ratios(
        {
            name: {
                "ttft_p50_ms": round(1000 * median(row[0] for row in rows), 1),
                "ttft_p99_ms": round(1000 * median(row[1] for row in rows), 1),
                "ttft_p99_ms_min": round(1000 * min(row[1] for row in rows), 1),
                "ttft_p99_ms_max": round(1000 * max(row[1] for row in rows), 1),
            }
            for name, rows in seen.items()
        }
    )


async def _run(
    session: aiohttp.ClientSession, choose: Choose | None, requests: int, rng: Random
) -> list[float]:
    """Send the requests at random times, wait for all; return the time to each first token."""
    engines = [Foreseen(1) for _ in range(ENGINES - 1)] + [Foreseen(SLOWER)]
    plan = [
        (rng.expovariate(_rate()), rng.choices(ANSWERS, [one[1] for one in ANSWERS])[0][0])
        for _ in range(requests)
    ]
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[float]]()
    due = loop.time()
    for number, (pause_s, tokens) in enumerate(plan):
        due += pause_s
        await asyncio.sleep(due - loop.time())
        engine = None
        if choose is not None:
            engine = choose(engines, number, loop.time(), rng)
            engines[engine].take(loop.time(), tokens)
        tasks.append(loop.create_task(_ask(session, engines, engine, tokens)))
    return await asyncio.gather(*tasks)


def _rate() -> float:
    """Return the requests per second that load the engines as wanted."""
    tokens = sum(length * share for length, share in ANSWERS) / 100
    ttft_s = (TTFT_MS + LOAD_TTFT_MS * (RUNNING_MAX - 1)) / 1000
    each = RUNNING_MAX / (ttft_s + tokens / TOKENS_PER_S)
    return LOAD * each * (ENGINES - 1 + 1 / SLOWER)


async def _ask(
    session: aiohttp.ClientSession, engines: list[Foreseen], engine: int | None, tokens: int
) -> float:
    """Read a stream to its end; return the time to its first content."""
    clock = asyncio.get_running_loop().time
    began, first_s = clock(), 0.0
    if engine is not None:
        engines[engine].in_flight += 1
    body = {
        "model": "all" if engine is None else f"engine-{engine}",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "max_tokens": tokens,
    }
    async with asyncio.timeout(PATIENCE_S), session.post("/v1/chat/completions", json=body) as got:
        async for line in got.content:
            if not first_s and line.partition(_CONTENT)[2][:1] not in (b"", b'"'):
                first_s = clock() - began
        if got.status != 200 or not first_s:
            raise BadAnswer(f"{got.status}, without content")
    if engine is not None:
        engines[engine].in_flight -= 1
    return first_s


@contextmanager
def _started(folder: Path) -> Iterator[int]:
    """Run the models, a Redis and a data plane; yield its port once the policy is in force."""
    with ExitStack() as stack:
        ports = [_start_model(stack, folder, number) for number in range(ENGINES)]
        redis = stack.enter_context(RedisServer(folder / "redis").start())
        keys = write_key_file("bench", {"bench": secrets.token_bytes(KEY_BYTES)})
        (folder / "scope-key.json").write_bytes(keys)
        asyncio.run(publish(_write_manifests(folder, ports), redis.url, keys))
        port, admin_port = free_port(), free_port()
        plane = ChildProcess(
            [
                *(sys.executable, "-m", "switchboard_dataplane", "--redis-url", redis.url),
                *("--scope", SCOPE, "--scope-key-file", folder / "scope-key.json"),
                *("--state-dir", folder / "state", "--pod-name", "bench", "--grace-s", "0"),
                *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}"),
                *("--allow-addresses", LOOPBACK),
            ],
            log=folder / "plane.log",
        )
        stack.enter_context(plane)
        plane.wait_for_http(f"http://127.0.0.1:{admin_port}/readyz", timeout_s=READY_S)
        yield port


def _start_model(stack: ExitStack, folder: Path, number: int) -> int:
    port, slower = free_port(), SLOWER if number == ENGINES - 1 else 1
    said = {
        "--listen": f"127.0.0.1:{port}",
        "--ttft-ms": TTFT_MS * slower,
        "--load-ttft-ms": LOAD_TTFT_MS * slower,
        "--tokens-per-second": TOKENS_PER_S / slower,
        "--max-running": RUNNING_MAX,
        "--answer-tokens": max(tokens for tokens, _ in ANSWERS),
        "--recorded-requests": 0,
    }
    flags = [str(part) for pair in said.items() for part in pair]
    command = [sys.executable, "-m", "switchboard_cli", "fake-model", *flags]
    model = ChildProcess(command, log=folder / f"model-{number}.log")
    stack.enter_context(model)
    model.wait_for_port(port, timeout_s=READY_S)
    return port


def _write_manifests(folder: Path, ports: list[int]) -> Path:
    """Write a policy for all engines, and one for each alone, with a backend of its own."""
    manifests = folder / "manifests"
    manifests.mkdir()
    said = ""
    names = [f"any-{number}" for number in range(ENGINES)]
    for number, port in enumerate(ports):
        alone = f"engine-{number}"
        said += _BACKEND.format(name=names[number], port=port)
        said += _BACKEND.format(name=alone, port=port)
        said += _POLICY.format(name=alone, members=f"{{name: {alone}}}")
    members = ", ".join(f"{{name: {name}}}" for name in names)
    said += _POLICY.format(name="all", members=members)
    (manifests / "world.yaml").write_text(said)
    return manifests
