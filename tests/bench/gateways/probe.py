"""A caller in a process of its own: one request after another, and how long each took.

``python -m gateways.probe PORT SECONDS INTERVAL_S`` reads the request from standard input and
prints a JSON list: when each was sent (the monotonic clock, in s), and how long it took (in ms).
A process, because in the load's own every answer would look late.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import NamedTuple

from gateways.one import BadAnswer, Connection

_SLACK_S = 60.0


class Sent(NamedTuple):
    """A request: when it went out, by the monotonic clock, and how long its answer took."""

    at_s: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Times:
    """Times in ms: the middle, the 99th of a hundred, the longest, and how many there were."""

    p50: float
    p99: float
    longest: float
    count: int

    @classmethod
    def of(cls, values_ms: list[float]) -> "Times":
        """Sum up at least two values."""
        cuts = quantiles(values_ms, n=100, method="inclusive")
        p50, p99, longest = (round(value, 3) for value in (cuts[49], cuts[98], max(values_ms)))
        return cls(p50, p99, longest, len(values_ms))


async def probe(port: int, request: bytes, *, seconds: float, interval_s: float) -> list[Sent]:
    """Ask for so long, in another process; raises BadAnswer."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateways.probe", str(port), str(seconds), str(interval_s)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds + _SLACK_S):
            said, complaint = await child.communicate(request)
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode:
        raise BadAnswer(complaint.decode(errors="replace")[-500:])
    return [Sent(*one) for one in json.loads(said)]


def get(path: str, port: int) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def main(port: str, seconds: str, interval_s: str) -> None:
    """Ask, and print the times."""
    request = sys.stdin.buffer.read()
    sent: list[Sent] = []
    until = time.monotonic() + float(seconds)
    with Connection(int(port)) as connection:
        while time.monotonic() < until:
            at_s = time.monotonic()
            answer = connection.ask(request)
            if answer.status != 200:
                sys.exit(f"status {answer.status}: {answer.body[:200]!r}")
            sent.append(Sent(at_s, answer.whole_s * 1e3))
            time.sleep(float(interval_s))
    print(json.dumps(sent))


if __name__ == "__main__":
    main(*sys.argv[1:])
