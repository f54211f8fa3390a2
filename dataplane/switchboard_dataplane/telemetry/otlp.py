"""Metrics by OTLP: a thread hands OpenTelemetry's data model to its exporter, every so often.

What is slow or gone at the other end holds up this thread and nothing else.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
    OTEL_METRIC_EXPORT_INTERVAL,
)
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from switchboard_dataplane.telemetry.instruments import (
    Counter,
    Distribution,
    Histogram,
    Instrument,
    Labels,
    Observed,
)

log = logging.getLogger(__name__)

#: How often metrics go out where OTEL_METRIC_EXPORT_INTERVAL does not say, in seconds.
INTERVAL_S: Final = 60.0
#: What the last export may take at the end of the process, in seconds: with what requests that are
#: cut off take, it has to fit into the 10 s that a pod has beside its drain.
LAST_EXPORT_S: Final = 3.0

_SCOPE: Final = InstrumentationScope("switchboard")
_CUMULATIVE: Final = export.AggregationTemporality.CUMULATIVE
_DELTA: Final = export.AggregationTemporality.DELTA
#: OpenTelemetry's words for what goes out as the difference to the last export, not as a total.
_PREFERENCES: Final[Mapping[str, frozenset[type[Instrument]]]] = {
    "cumulative": frozenset(),
    "delta": frozenset({Counter, Histogram, Observed}),
    "lowmemory": frozenset({Counter, Histogram}),
}
#: The data model leaves smallest and largest open, and so does its encoder; the type does not.
_UNKNOWN: Final = cast("float", None)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the instruments said at ``at_ns``, by their names."""

    at_ns: int
    numbers: Mapping[str, Mapping[Labels, float]] = field(
        default_factory=dict[str, Mapping[Labels, float]]
    )
    distributions: Mapping[str, Mapping[Labels, Distribution]] = field(
        default_factory=dict[str, Mapping[Labels, Distribution]]
    )


class Exporter(Protocol):
    """What is used of OpenTelemetry's ``MetricExporter``."""

    def export(self, metrics_data: export.MetricsData, /) -> export.MetricExportResult:
        """Send; may take seconds."""
        ...

    def shutdown(self) -> None:
        """Give up what is under way, and send no more."""
        ...


class MetricsPush:
    """Sends what the instruments say, once an interval and a last time when it is stopped.

    ``deltas`` are the kinds of instruments that go out as the difference to the last export that
    arrived, not as totals. ``clock_ns`` tells the time since 1970.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        exporter: Exporter,
        *,
        resource: Resource,
        interval_s: float = INTERVAL_S,
        deltas: frozenset[type[Instrument]] = frozenset(),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._instruments = instruments
        self._exporter = exporter
        self._resource = resource
        self._interval_s = interval_s
        self._deltas = deltas
        self._clock_ns = clock_ns
        self._began = self._arrived = Reading(clock_ns())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-push", daemon=True)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def stop(self, *, patience_s: float = LAST_EXPORT_S) -> None:
        """Send what is left and stop; waits up to ``patience_s``: call it off the event loop."""
        self._stopping.set()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            log.warning("metrics were not sent within %g s", patience_s)
        self._exporter.shutdown()

    def push(self) -> None:
        """Send what the instruments say now; a failure is logged."""
        try:
            reading = read_instruments(self._instruments, self._clock_ns())
            if self._exporter.export(self._data(reading)) is export.MetricExportResult.SUCCESS:
                self._arrived = reading
        except Exception:
            log.exception("metrics were not sent")

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.push()
        self.push()

    def _data(self, reading: Reading) -> export.MetricsData:
        metrics: list[export.Metric] = []
        for one in self._instruments:
            delta = type(one) in self._deltas
            data = _data(one, reading, self._arrived if delta else self._began, delta=delta)
            if data.data_points:
                metrics.append(export.Metric(one.name, one.description, one.unit, data))
        scope = export.ScopeMetrics(_SCOPE, metrics, schema_url="")
        resource = export.ResourceMetrics(self._resource, [scope], schema_url="")
        return export.MetricsData([resource])


def read_interval_s(env: Mapping[str, str]) -> float:
    """Return how often metrics go out, in seconds."""
    said = env.get(OTEL_METRIC_EXPORT_INTERVAL, "")
    if not said:
        return INTERVAL_S
    if said.isascii() and said.isdigit() and int(said) > 0:
        return int(said) / 1000
    log.warning("%s is no number of ms: %r", OTEL_METRIC_EXPORT_INTERVAL, said)
    return INTERVAL_S


def read_deltas(env: Mapping[str, str]) -> frozenset[type[Instrument]]:
    """Return the kinds of instruments that go out as differences."""
    said = env.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "").strip().lower()
    # The exporter reads the same variable, and warns of a word that it does not know.
    return _PREFERENCES.get(said, frozenset())


def read_instruments(instruments: Iterable[Instrument], at_ns: int) -> Reading:
    """Read all the instruments."""
    numbers: dict[str, Mapping[Labels, float]] = {}
    distributions: dict[str, Mapping[Labels, Distribution]] = {}
    for one in instruments:
        if isinstance(one, Histogram):
            distributions[one.name] = one.read()
        else:
            numbers[one.name] = one.read()
    return Reading(at_ns, numbers, distributions)


def _data(
    one: Instrument, now: Reading, before: Reading, *, delta: bool
) -> export.Sum | export.Gauge | export.Histogram:
    """Return what came between two readings; the first reading of a process is empty."""
    temporality = _DELTA if delta else _CUMULATIVE
    if isinstance(one, Histogram):
        return export.Histogram(list(_histogram_points(one, now, before)), temporality)
    if isinstance(one, Observed) and not one.rising:
        return export.Gauge(list(_number_points(one, now, Reading(before.at_ns))))
    return export.Sum(list(_number_points(one, now, before)), temporality, is_monotonic=True)


def _number_points(
    one: Counter | Observed, now: Reading, before: Reading
) -> Iterable[export.NumberDataPoint]:
    past = before.numbers.get(one.name, {})
    for values, number in now.numbers[one.name].items():
        then = past.get(values)
        if number != then:
            yield export.NumberDataPoint(
                _attributes(one, values), before.at_ns, now.at_ns, number - (then or 0)
            )


def _histogram_points(
    one: Histogram, now: Reading, before: Reading
) -> Iterable[export.HistogramDataPoint]:
    past = before.distributions.get(one.name, {})
    for values, found in now.distributions[one.name].items():
        then = past.get(values)
        point = found if then is None else found.since(then)
        if point.count:
            yield export.HistogramDataPoint(
                _attributes(one, values),
                before.at_ns,
                now.at_ns,
                count=point.count,
                sum=point.total,
                bucket_counts=point.counts,
                explicit_bounds=one.bounds,
                min=_UNKNOWN,
                max=_UNKNOWN,
            )


def _attributes(one: Instrument, values: Labels) -> Mapping[str, str]:
    # An empty label is no label, as in Prometheus.
    return {key: value for key, value in zip(one.labels, values, strict=True) if value}
