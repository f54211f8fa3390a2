"""The Prometheus page of the instruments, in the text format 0.0.4.

Written out here: a scrape takes turns with the event loop, and a generic exposition takes ten times
as long.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from switchboard_dataplane.telemetry.instruments import (
    Distribution,
    Histogram,
    Instrument,
    Labels,
    Observed,
)

#: Prometheus names the unit in the metric's name.
_UNITS: Final[Mapping[str, str]] = {"s": "_seconds"}
#: A label that is left out where it is empty, which says the same to Prometheus: the page of a
#: gateway that compares nothing is as if there were no such label.
_OPTIONAL: Final = "arm"


def render_page(instruments: Iterable[Instrument]) -> str:
    """Return the page; an instrument without a point is left out."""
    return "".join(line for one in instruments for line in _family(one))


def _family(instrument: Instrument) -> Iterable[str]:
    name = _name(instrument.name) + _UNITS.get(instrument.unit, "")
    keys = [_name(label) for label in instrument.labels]
    if isinstance(instrument, Histogram):
        kind, lines = "histogram", _distributions(name, keys, instrument)
    else:
        kind = "gauge" if isinstance(instrument, Observed) and not instrument.rising else "counter"
        name += "_total" if kind == "counter" else ""
        lines = _numbers(name, keys, instrument.read())
    if lines:
        yield f"# HELP {name} {instrument.description}\n# TYPE {name} {kind}\n"
        yield from lines


def _numbers(name: str, keys: Sequence[str], points: Mapping[Labels, float]) -> list[str]:
    return [
        f"{name}{_braced(_pairs(keys, values))} {float(value)}\n"
        for values, value in points.items()
    ]


def _distributions(name: str, keys: Sequence[str], histogram: Histogram) -> list[str]:
    bounds = [f'le="{bound}"' for bound in (*histogram.bounds, "+Inf")]
    lines: list[str] = []
    for values, point in histogram.read().items():
        lines += _distribution(name, _pairs(keys, values), bounds, point)
    return lines


def _distribution(
    name: str, pairs: str, bounds: Sequence[str], point: Distribution
) -> Iterable[str]:
    head = f"{name}_bucket{{{pairs}," if pairs else f"{name}_bucket{{"
    for bound, count in zip(bounds, accumulate(point.counts), strict=True):
        yield f"{head}{bound}}} {count}.0\n"
    labels = _braced(pairs)
    yield f"{name}_count{labels} {point.count}.0\n{name}_sum{labels} {float(point.total)}\n"


def _pairs(keys: Sequence[str], values: Labels) -> str:
    return ",".join(
        [
            f'{key}="{_escape(value)}"'
            for key, value in zip(keys, values, strict=True)
            if value or key != _OPTIONAL
        ]
    )


def _braced(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


def _name(name: str) -> str:
    return name.replace(".", "_")


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
