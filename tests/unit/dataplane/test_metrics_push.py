"""Metrics by OTLP: what goes out, when, and what happens when nobody takes it."""

from threading import Event
from typing import Final

import pytest
from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource

from switchboard_dataplane.telemetry.instruments import Counter, Histogram, Instrument, Observed
from switchboard_dataplane.telemetry.otlp import (
    INTERVAL_S,
    MetricsPush,
    read_deltas,
    read_interval_s,
)

#: Longer than any of these tests; what is waited for comes at once.
LONG_S: Final = 30.0
#: Points by name of the metric and values of the attributes: number, or counts and sum.
Said = dict[tuple[str, ...], object]


class Collector:
    """An exporter that keeps what it is given; ``fails`` and ``hangs`` are set by the test."""

    def __init__(self) -> None:
        self.taken: list[otel.MetricsData] = []
        self.came = Event()
        self.gone = Event()
        self.hangs = False
        self.fails: Exception | otel.MetricExportResult | None = None

    def export(self, metrics_data: otel.MetricsData, /) -> otel.MetricExportResult:
        self.taken.append(metrics_data)
        self.came.set()
        if self.hangs:
            self.gone.wait(LONG_S)
        if isinstance(self.fails, Exception):
            raise self.fails
        return self.fails or otel.MetricExportResult.SUCCESS

    def shutdown(self) -> None:
        self.gone.set()

    def metrics(self) -> list[otel.Metric]:
        """The metrics of the last export."""
        (resource,) = self.taken[-1].resource_metrics
        (scope,) = resource.scope_metrics
        assert resource.resource.attributes["service.name"] == "test"
        assert scope.scope.name == "switchboard"
        return list(scope.metrics)

    def said(self) -> Said:
        """The points of the last export."""
        return {
            (metric.name, *map(str, (point.attributes or {}).values())): (
                (tuple(point.bucket_counts), point.sum)
                if isinstance(point, otel.HistogramDataPoint)
                else point.value
            )
            for metric in self.metrics()
            for point in metric.data.data_points
            if not isinstance(point, otel.ExponentialHistogramDataPoint)
        }

    def times(self, name: str) -> tuple[int, int]:
        """When the points of a metric began and ended, in the last export."""
        (found,) = {
            (point.start_time_unix_nano, point.time_unix_nano)
            for metric in self.metrics()
            if metric.name == name
            for point in metric.data.data_points
        }
        return found


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_ns = 100

    def __call__(self) -> int:
        return self.now_ns


class Bench:
    """A counter, a histogram, a gauge and a count, pushed to a collector."""

    def __init__(self, *, interval_s: float = LONG_S, preference: str = "") -> None:
        self.things = Counter("things", ("kind", "colour"), "Things")
        self.waits = Histogram("waits", ("kind",), "Waits", unit="s", bounds=(1.0, 2.0))
        self.lost = 7
        held = Observed("held", (), "Held", lambda: {(): 3})
        lost = Observed("lost", (), "Lost", lambda: {(): self.lost}, rising=True)
        self.instruments: list[Instrument] = [self.things, self.waits, held, lost]
        self.collector, self.clock = Collector(), Clock()
        self.push = MetricsPush(
            self.instruments,
            self.collector,
            resource=Resource({"service.name": "test"}),
            interval_s=interval_s,
            deltas=read_deltas({"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": preference}),
            clock_ns=self.clock,
        )

    def use(self) -> None:
        """Let something happen, and time pass."""
        self.things.add(("a", ""), 2)
        self.waits.record(("a",), 1.5)
        self.clock.now_ns += 100


def test_totals_go_out_in_the_data_model() -> None:
    bench = Bench()
    for _ in range(2):
        bench.use()
        bench.push.push()
    assert bench.collector.said() == {
        ("things", "a"): 4,
        ("waits", "a"): ((0, 2, 0), 3.0),
        ("held",): 3,
        ("lost",): 7,
    }
    things, waits, held, lost = bench.collector.metrics()
    assert (things.description, waits.unit) == ("Things", "s")
    assert things.data.data_points[0].attributes == {"kind": "a"}
    assert isinstance(held.data, otel.Gauge)
    for metric in (things, lost):
        assert isinstance(metric.data, otel.Sum)
        assert metric.data.is_monotonic
        assert metric.data.aggregation_temporality == otel.AggregationTemporality.CUMULATIVE
    assert isinstance(waits.data, otel.Histogram)
    assert waits.data.data_points[0].explicit_bounds == (1.0, 2.0)
    assert waits.data.data_points[0].count == 2
    assert bench.collector.times("waits") == (100, 300)


def test_an_instrument_without_a_point_is_left_out() -> None:
    bench = Bench()
    bench.push.push()
    assert [one.name for one in bench.collector.metrics()] == ["held", "lost"]


@pytest.mark.parametrize(("preference", "lost"), [("DELTA", True), ("lowmemory", False)])
def test_differences_go_out_where_they_are_preferred(preference: str, *, lost: bool) -> None:
    bench = Bench(preference=preference)
    for _ in range(2):
        bench.use()
        bench.push.push()
    said = {("things", "a"): 2, ("waits", "a"): ((0, 1, 0), 1.5), ("held",): 3}
    # The first difference was the seven; nothing was lost since.
    assert bench.collector.said() == (said if lost else {**said, ("lost",): 7})
    assert bench.collector.times("things") == (200, 300)
    bench.push.push()
    assert not {"things", "waits"} & {one.name for one in bench.collector.metrics()}


@pytest.mark.parametrize("failure", [otel.MetricExportResult.FAILURE, OSError("away")])
def test_a_difference_that_did_not_arrive_goes_out_again(
    failure: otel.MetricExportResult | Exception,
) -> None:
    bench = Bench(preference="delta")
    bench.use()
    bench.collector.fails = failure
    bench.push.push()
    bench.use()
    bench.collector.fails = None
    bench.push.push()
    assert bench.collector.said()["things", "a"] == 4
    assert bench.collector.times("things") == (100, 300)


def test_metrics_go_out_again_and_again_though_the_collector_fails() -> None:
    bench = Bench(interval_s=0.001)
    bench.collector.fails = OSError("away")
    bench.push.start()
    for _ in range(3):
        assert bench.collector.came.wait(LONG_S)
        bench.collector.came.clear()
    bench.push.stop()
    assert bench.collector.gone.is_set()


def test_what_is_left_goes_out_at_the_end() -> None:
    bench = Bench()
    bench.push.start()
    bench.use()
    assert bench.collector.taken == []
    bench.push.stop()
    assert len(bench.collector.taken) == 1
    assert bench.collector.said()["things", "a"] == 2


def test_a_collector_that_hangs_holds_up_neither_recording_nor_the_end() -> None:
    bench = Bench(interval_s=0.001)
    bench.collector.hangs = True
    bench.push.start()
    assert bench.collector.came.wait(LONG_S)
    bench.use()
    bench.push.stop(patience_s=0.01)
    assert bench.collector.gone.is_set()
    assert bench.things.read() == {("a", ""): 2}


@pytest.mark.parametrize(
    ("said", "interval_s"),
    [("", INTERVAL_S), ("250", 0.25), ("0", INTERVAL_S), ("soon", INTERVAL_S), ("-1", INTERVAL_S)],
)
def test_the_interval_is_read_in_ms(said: str, interval_s: float) -> None:
    assert read_interval_s({"OTEL_METRIC_EXPORT_INTERVAL": said}) == interval_s
    assert read_interval_s({}) == INTERVAL_S


def test_an_unknown_preference_is_for_totals() -> None:
    assert read_deltas({"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "x"}) == frozenset()
    assert read_deltas({}) == frozenset()
