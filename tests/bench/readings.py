"""What each reading costs: on prompts of 500 tokens, and on one of 400 KB with others waiting.

The small prompts are four kinds in turn: prose, a letter with personal data, code, lines of a log.
Times are of the processor. ``neighbour_late_ms`` is the longest that another task on the loop
waited while all messages of the big prompt were read for personal data and secrets. Prints a table
and writes ``.bench/readings.json``. ``--smoke``: only as often as shows that it still runs.
"""

import argparse
import asyncio
import gc
import re
from collections.abc import Awaitable, Callable
from random import Random
from statistics import median, quantiles
from time import perf_counter, thread_time_ns

from figures import REPO, save_figures

from fakes.policies import view
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.reading.readings import READINGS, Work, read, read_in_slices

PROMPT_CHARS = 2_000
BIG_CHARS = 400_000
TURNS = 2_000
BIG_TURNS = 5
SCANS = ("pii", "secrets", "injection")
ALL = "all"

_NAMES = re.compile(r"\b[A-Z][a-z]{2,11}\b")

_PROSE = (
    "The scheduler looks at every node in turn, drops those that cannot run the pod, and ranks the"
    " rest by how much room they have left. What remains is a short list, and the best of it wins. "
)
_LETTER = (
    "Dear team, my order of 12 March has not arrived. You can reach me at jane.doe@example.com or"
    " +44 20 7946 0958; please refund card 4111 1111 1111 1111. I am quite upset. Jane, Leeds. "
)
_CODE = (
    "def total(rows: list[Row]) -> int:\n    count = 0\n    for row in rows:\n"
    "        if row.price > 100:\n            count += row.price * row.amount\n    return count\n\n"
)
_LOG = (
    "2024-01-15 10:22:33.123 INFO request 8f14e45fceea167a took 1234567 us from 10.0.3.17:50122"
    " status=200 bytes=48213 trace=4bf92f3577b34da6a3ce929d0e0e4736\n"
)


def _filled(text: str, size: int) -> str:
    return (text * (size // len(text) + 1))[:size]


def small() -> list[str]:
    """Return a prompt of each kind."""
    return [_filled(text, PROMPT_CHARS) for text in (_PROSE, _LETTER, _CODE, _LOG)]


def big() -> str:
    """Return one prompt of all kinds, mixed."""
    return _filled(_PROSE * 3 + _LETTER + _CODE * 2 + _LOG * 2, BIG_CHARS)


def varied(count: int) -> list[str]:
    """Return prompts of the four kinds in turn, of which no two are alike, of PROMPT_CHARS each.

    Prose and code are this project's own; names and numbers of letters and logs are drawn.
    """
    rng = Random(1)
    prose = "\n".join(path.read_text() for path in sorted((REPO / "docs").glob("*.md")))
    sources = sorted((REPO / "dataplane" / "switchboard_dataplane").rglob("*.py"))
    code = "\n".join(path.read_text() for path in sources)
    words = sorted(set(_NAMES.findall(prose)))
    makers = (
        lambda: _cut(prose, rng),
        lambda: _drawn(_LETTER, words, rng),
        lambda: _cut(code, rng),
        lambda: _drawn(_LOG, words, rng),
    )
    return [makers[turn % len(makers)]() for turn in range(count)]


def _cut(text: str, rng: Random) -> str:
    start = rng.randrange(len(text) - PROMPT_CHARS)
    return text[start : start + PROMPT_CHARS]


def _drawn(pattern: str, words: list[str], rng: Random) -> str:
    """Return the same text over and over with other names and other digits each time."""
    said = ""
    while len(said) < PROMPT_CHARS:
        said += _NAMES.sub(lambda _: rng.choice(words), pattern)
    digits = (str(rng.randrange(10)) if one.isdigit() else one for one in said[:PROMPT_CHARS])
    return "".join(digits)


def time_small(names: tuple[str, ...], turns: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of the CPU time, in us, a request a turn."""
    prompts = small()
    took_us = []
    for turn in range(turns):
        request = view(prompts[turn % len(prompts)])
        start = thread_time_ns()
        read(names, request)
        took_us.append((thread_time_ns() - start) / 1_000)
    cuts = quantiles(took_us, n=100)
    return cuts[49], cuts[98]


def time_big(names: tuple[str, ...], turns: int) -> float:
    """Return the median of the CPU time, in ms."""
    text, took_ms = big(), []
    for _ in range(turns):
        request = view(text)
        start = thread_time_ns()
        read(names, request)
        took_ms.append((thread_time_ns() - start) / 1_000_000)
    return median(took_ms)


def longest_slice_ms(turns: int) -> float:
    """Return the longest CPU time between two chances for others; the median of some requests."""
    text, longest = big(), []
    for _ in range(turns):
        begun = thread_time_ns()
        slice_ns = [0]
        for _ in Work(SCANS, view(text)).steps({}):
            ended = thread_time_ns()
            slice_ns.append(ended - begun)
            begun = ended
        longest.append(max(slice_ns) / 1_000_000)
    return median(longest)


async def lateness_ms(work: Callable[[RequestView], Awaitable[object]], turns: int) -> float:
    """Return how late a task that wants a turn each millisecond gets it at worst; the median."""
    text, worst = big(), []
    for _ in range(turns):
        late = [0.0]
        beside = asyncio.create_task(_tick(late))
        await asyncio.sleep(0.02)
        late.clear()
        await work(view(text))
        await asyncio.sleep(0.002)
        beside.cancel()
        worst.append(max(late) * 1_000)
    return median(worst)


async def _tick(late: list[float]) -> None:
    last = perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = perf_counter()
        late.append(max(0.0, now - last - 0.001))
        last = now


async def _nothing(request: RequestView) -> object:
    return await asyncio.sleep(0.06, request)


async def _sliced(request: RequestView) -> object:
    return await read_in_slices(SCANS, request)


async def _threaded(request: RequestView) -> object:
    return await asyncio.to_thread(read, SCANS, request)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    turns, big_turns = (40, 1) if smoke else (TURNS, BIG_TURNS)
    rows: dict[str, dict[str, float]] = {}
    gc.collect()
    gc.freeze()
    for name in (*READINGS, ALL):
        names = tuple(READINGS) if name == ALL else (name,)
        p50, p99 = time_small(names, turns)
        rows[name] = {
            "p50_us": round(p50, 1),
            "p99_us": round(p99, 1),
            "big_ms": round(time_big(names, big_turns), 1),
        }
    late = {
        "with_nothing_to_read": round(asyncio.run(lateness_ms(_nothing, big_turns)), 2),
        "in_slices": round(asyncio.run(lateness_ms(_sliced, big_turns)), 2),
        "in_a_thread": round(asyncio.run(lateness_ms(_threaded, big_turns)), 2),
    }
    print(f"{'reading':>12} {'p50 us':>9} {'p99 us':>9} {'400 KB ms':>10}")
    for name, row in rows.items():
        print(f"{name:>12} {row['p50_us']:>9} {row['p99_us']:>9} {row['big_ms']:>10}")
    longest_ms = round(longest_slice_ms(big_turns), 2)
    print(f"\nthe longest slice takes {longest_ms} ms")
    for name, late_ms in late.items():
        print(f"a neighbour is late by {late_ms} ms {name}")
    save_figures(
        "readings", {"readings": rows, "longest_slice_ms": longest_ms, "neighbour_late_ms": late}
    )


if __name__ == "__main__":
    main()
