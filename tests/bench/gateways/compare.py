"""The comparison: every gateway in turn, again and again, each time against no gateway at all."""

import asyncio
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from gateways import asks, one
from gateways.place import Gateway
from gateways.streams import streaming
from gateways.wrk import Wrk

#: Callers at once in the throughput part.
CONNECTIONS = 32
#: Bounds the part with one caller, beside its time.
ASKS_MAX = 4_000
#: Streams at once, and events a second of each, in the part that costs the events.
STREAMS, EVENTS_PER_SECOND = 32, 50
_WARM_UP_S = 1.0
_TTFT_EVENTS = 4
#: Work that is left over from one repeat is not to fall into the next.
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    repeats: int
    seconds: float


@dataclass(slots=True)
class Row:
    """What one gateway showed: figures by repeat, and why repeats failed."""

    repeats: dict[int, dict[str, float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def compare(gateways: Sequence[Gateway], wrk: Wrk, plan: Plan) -> dict[str, Row]:
    """Measure all gateways in turn, again and again; those not measured are stopped."""
    rows = {gateway.name: Row() for gateway in gateways}
    for gateway in gateways:
        gateway.pause()
    for repeat in range(plan.repeats):
        for gateway in gateways:
            row = rows[gateway.name]
            _say(f"repeat {repeat + 1} of {plan.repeats}: {gateway.name}")
            try:
                with _awake(gateway):
                    row.repeats[repeat] = _measure(gateway, wrk, plan)
            except (one.BadAnswer, OSError, TimeoutError) as error:
                row.failures.append(f"repeat {repeat + 1}: {type(error).__name__}: {error}")
                _say(f"{gateway.name}: {row.failures[-1]}\n{gateway.last_words()}")
    return rows


def _measure(gateway: Gateway, wrk: Wrk, plan: Plan) -> dict[str, float]:
    port = gateway.port
    wrk.run(port, connections=CONNECTIONS, seconds=_WARM_UP_S)
    before_s = gateway.cpu_s()
    load = wrk.run(port, connections=CONNECTIONS, seconds=plan.seconds)
    cpu_us = (gateway.cpu_s() - before_s) / load.requests * 1e6
    seconds = plan.seconds / 2
    whole = one.latencies(port, asks.http(asks.whole(), port), count=ASKS_MAX, seconds=seconds)
    ask = asks.http(asks.stream(events=_TTFT_EVENTS, per_second=0), port)
    streamed = one.latencies(port, ask, count=ASKS_MAX, seconds=seconds)
    p50_ms, p99_ms = _cuts_ms(answer.whole_s for answer in whole)
    ttft_ms, _ = _cuts_ms(answer.first_s for answer in streamed)
    figures = {"rps": load.per_second, "p50_ms": p50_ms, "p99_ms": p99_ms, "ttft_ms": ttft_ms}
    if gateway.process:
        figures["cpu_us_per_request"] = cpu_us
        figures["cpu_us_per_chunk"] = asyncio.run(_chunk_cost_us(gateway, plan.seconds))
        figures["rss_mb"] = gateway.rss_mb()
    return figures


async def _chunk_cost_us(gateway: Gateway, seconds: float) -> float:
    """CPU time for each event of streams that are under way."""
    async with streaming(
        gateway.port, streams=STREAMS, per_second=EVENTS_PER_SECOND, seconds=seconds
    ) as tally:
        before_s, events = gateway.cpu_s(), tally.events
        await asyncio.sleep(seconds)
        spent_s, passed = gateway.cpu_s() - before_s, tally.events - events
    if tally.broken or tally.begun < STREAMS or not passed:
        began = f"{tally.begun} of {STREAMS} streams began"
        raise one.BadAnswer(f"{began}, {tally.broken} broke, {passed} events came")
    return spent_s / passed * 1e6


def summarise(gateways: Iterable[Gateway], rows: Mapping[str, Row]) -> dict[str, dict[str, Any]]:
    """The middle of the repeats for each gateway; what is added, against direct of that repeat."""
    direct = rows["direct"].repeats
    return {
        gateway.name: {**gateway.about(), **_middle(rows[gateway.name], direct)}
        for gateway in gateways
    }


def _middle(row: Row, direct: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    columns: dict[str, list[float]] = {}
    for repeat, values in row.repeats.items():
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
            if name.endswith("_ms") and repeat in direct:
                columns.setdefault(f"added_{name}", []).append(value - direct[repeat][name])
    figures: dict[str, Any] = {
        name: round(median(values), 3 if name.endswith("_ms") else 1)
        for name, values in columns.items()
    }
    if row.repeats:
        figures["spread_percent"] = _spread_percent(columns["rps"])
        if "cpu_us_per_request" in columns:
            figures["cpu_spread_percent"] = _spread_percent(columns["cpu_us_per_request"])
    else:
        figures["error"] = "no repeat came to its end"
    return {**figures, "repeats": len(row.repeats), "failures": row.failures}


def _spread_percent(values: Sequence[float]) -> float:
    return round((max(values) - min(values)) / median(values) * 100, 1)


_COLUMNS = (
    ("version", "version"),
    ("requests/s", "rps"),
    ("spread %", "spread_percent"),
    ("CPU µs/request", "cpu_us_per_request"),
    ("spread %", "cpu_spread_percent"),
    ("added p50 ms", "added_p50_ms"),
    ("added p99 ms", "added_p99_ms"),
    ("added TTFT ms", "added_ttft_ms"),
    ("CPU µs/event", "cpu_us_per_chunk"),
    ("RSS MB", "rss_mb"),
)


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of the figures."""
    lines = [
        "| gateway | " + " | ".join(title for title, _ in _COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(_COLUMNS) - 1),
    ]
    for name, figures in summary.items():
        cells = (str(figures.get(key, "")) for _, key in _COLUMNS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@contextmanager
def _awake(gateway: Gateway) -> Generator[None]:
    gateway.resume()
    try:
        yield
    finally:
        if gateway.process:
            time.sleep(_SETTLE_S)
        gateway.pause()


def _cuts_ms(values_s: Iterable[float]) -> tuple[float, float]:
    cuts = quantiles(values_s, n=100, method="inclusive")
    return cuts[49] * 1e3, cuts[98] * 1e3


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
