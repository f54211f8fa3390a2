"""What the comparison does not show: many streams, memory, large neighbours, the order of events.

Each takes a gateway that runs and returns its figures; the model itself ("direct") is the control
that tells how much of them is this machine's and the load's own.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from gateways import asks
from gateways.one import BadAnswer, Connection
from gateways.place import Gateway
from gateways.probe import Sent, Times, get, probe
from gateways.streams import OPENED_PER_SECOND, hear, streaming
from gateways.wrk import Wrk

#: The longest that /livez may take while streams run: probes time out at a second.
LIVEZ_MS_MAX = 100.0
#: The most that a large prompt may add to a neighbour's answer.
ADDED_MS_MAX = 20.0

_LIVEZ_EVERY_S = 0.005
_LARGE_BYTES = 400_000
_LARGE_EVERY_S = 0.2
_WRK_SLICE_S = 5.0
_WRK_SLICES_MAX = 120
_ORDERED_STREAMS, _ORDERED_PER_SECOND = 20, 10


@dataclass(frozen=True, slots=True)
class Scale:
    """How large: seconds of each part, (streams, events a second), numbers of requests."""

    seconds: float
    streams: tuple[tuple[int, int], ...]
    requests: tuple[int, ...]


FULL = Scale(seconds=10.0, streams=((1000, 20), (2000, 5)), requests=(100_000, 500_000))
SMOKE = Scale(seconds=0.5, streams=((50, 5),), requests=(500, 1_000))

Mode = Callable[[Gateway, Wrk, Scale], Mapping[str, Any]]


def many_streams(gateway: Gateway, wrk: Wrk, scale: Scale) -> Mapping[str, Any]:
    """Hold streams open and ask /livez all the time, while they open too."""
    return {
        f"{streams} x {per_second}/s": asyncio.run(
            _many_streams(gateway, streams, per_second, scale.seconds)
        )
        for streams, per_second in scale.streams
    }


async def _many_streams(
    gateway: Gateway, streams: int, per_second: int, seconds: float
) -> Mapping[str, Any]:
    port, path = (gateway.admin_port, "/livez") if gateway.admin_port else (gateway.port, "/")
    opening_s = streams / OPENED_PER_SECOND
    probing = asyncio.create_task(
        probe(port, get(path, port), seconds=opening_s + 1 + seconds, interval_s=_LIVEZ_EVERY_S)
    )
    began = time.monotonic()
    async with streaming(
        gateway.port, streams=streams, per_second=per_second, seconds=seconds
    ) as tally:
        opened_s, begun = time.monotonic() - began, tally.begun
        before, reads, cpu_s, at = tally.events, tally.reads, gateway.cpu_s(), time.monotonic()
        del tally.delays_ms[:]
        await asyncio.sleep(seconds)
        events, reads = tally.events - before, tally.reads - reads
        cpu_s, took_s = gateway.cpu_s() - cpu_s, time.monotonic() - at
        delays_ms = list(tally.delays_ms)
        sent = await probing
        broken = tally.broken
    livez, slowest = _times(sent), max(sent, key=lambda one: one.took_ms)
    return {
        "begun": begun,
        "opened_s": round(opened_s, 2),
        "events_per_second": round(events / took_s),
        "offered_per_second": streams * per_second,
        "events_per_read": round(events / max(1, reads), 3),
        "broken": broken,
        "cpu_percent": round(cpu_s / took_s * 100, 1),
        "rss_mb": round(gateway.rss_mb(), 1),
        "event_delay_ms": asdict(Times.of(delays_ms)),
        "livez_ms": asdict(livez),
        "livez_longest_at_s": round(slowest.at_s - began, 2),
        "livez_within_limit": livez.longest < LIVEZ_MS_MAX,
    }


def memory(gateway: Gateway, wrk: Wrk, scale: Scale) -> Mapping[str, Any]:
    """Serve so many requests and look at the memory after each of the numbers."""
    figures: dict[str, Any] = {"rss_mb_before": round(gateway.rss_mb(), 1)}
    wanted, served = list(scale.requests), 0
    for _ in range(_WRK_SLICES_MAX):
        if not wanted:
            return figures
        slice_s = min(_WRK_SLICE_S, scale.seconds)
        served += wrk.run(gateway.port, connections=32, seconds=slice_s).requests
        while wanted and served >= wanted[0]:
            figures[f"rss_mb_after_{wanted.pop(0)}"] = round(gateway.rss_mb(), 1)
    raise BadAnswer(f"{served} requests in {_WRK_SLICES_MAX * _WRK_SLICE_S:g} s")


def neighbours(gateway: Gateway, wrk: Wrk, scale: Scale) -> Mapping[str, Any]:
    """Ask small questions on one connection, without and with large prompts on another."""
    return asyncio.run(_neighbours(gateway, scale.seconds))


async def _neighbours(gateway: Gateway, seconds: float) -> Mapping[str, Any]:
    port = gateway.port
    small = asks.http(asks.whole(), port)
    large = asks.http(asks.large(_LARGE_BYTES), port)
    alone = _times(await probe(port, small, seconds=seconds, interval_s=0.0))
    together = asyncio.create_task(probe(port, small, seconds=seconds, interval_s=0.0))
    large_ones: list[Sent] = []
    with Connection(port) as connection:
        while not together.done():
            at_s = time.monotonic()
            answer = await asyncio.to_thread(connection.ask, large)
            if answer.status != 200:
                raise BadAnswer(f"status {answer.status}: {answer.body[:300]!r}")
            large_ones.append(Sent(at_s, answer.whole_s * 1e3))
            await asyncio.sleep(_LARGE_EVERY_S)
    small_ones = await together
    beside = _times(small_ones)
    worst_ms = [found for one in large_ones if (found := _longest_beside(one, small_ones))]
    added_ms = round(max(worst_ms, default=0.0) - alone.p50, 3)
    return {
        "alone_ms": asdict(alone),
        "beside_large_ms": asdict(beside),
        "large_ms": asdict(_times(large_ones)),
        "added_p50_ms": round(median(worst_ms or [0.0]) - alone.p50, 3),
        "added_longest_ms": added_ms,
        "added_within_limit": added_ms <= ADDED_MS_MAX,
    }


def _longest_beside(large: Sent, small: Sequence[Sent]) -> float:
    """The longest that a small request took which was under way while a large one was."""
    until_s = large.at_s + large.took_ms / 1e3
    return max(
        (
            one.took_ms
            for one in small
            if one.at_s <= until_s and one.at_s + one.took_ms / 1e3 >= large.at_s
        ),
        default=0.0,
    )


def _times(sent: Iterable[Sent]) -> Times:
    return Times.of([one.took_ms for one in sent])


def order(gateway: Gateway, wrk: Wrk, scale: Scale) -> Mapping[str, Any]:
    """Listen to slow streams to their ends: every event once, in order, in a read of its own."""
    return asyncio.run(_order(gateway, scale.seconds))


async def _order(gateway: Gateway, seconds: float) -> Mapping[str, Any]:
    events = round(seconds * _ORDERED_PER_SECOND)
    heard = await asyncio.gather(
        *(
            hear(gateway.port, events=events, per_second=_ORDERED_PER_SECOND)
            for _ in range(_ORDERED_STREAMS)
        )
    )
    delays_ms = [
        (arrived - written) / 1e6
        for each in heard
        for written, arrived in zip(each.written_ns, each.arrived_ns, strict=True)
    ]
    return {
        "streams": len(heard),
        "events_in": events * len(heard),
        "events_out": sum(len(each.numbers) for each in heard),
        "came_together": sum(each.together for each in heard),
        "event_delay_ms": asdict(Times.of(delays_ms)),
        "faults": [fault for each in heard for fault in each.faults(events)],
    }


MODES: Mapping[str, Mode] = {
    "streams": many_streams,
    "memory": memory,
    "neighbours": neighbours,
    "order": order,
}
