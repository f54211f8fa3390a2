"""Through a real socket: the metrics that a collector decodes are those of the Prometheus page."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from prometheus_client.parser import text_string_to_metric_families

from cluster.processes import free_port
from fakes.outcomes import outcome
from fakes.virtual_time import eventually
from switchboard_dataplane.telemetry.exporters import Telemetry, build_telemetry
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome

GAUGES = Gauges(
    in_flight=lambda: {"ai/cloud": 2},
    ejected=lambda: {"ai/cloud": 0, "ai/local": 2},
    queued=lambda: {"ai/local": 4},
    waking=lambda: {"ai/local": 0},
    engines=lambda: {"ai/local": (3, 12, 0.42, 0.8), "ai/old": (0, 0, None, 7.5)},
    revision=lambda: (3, 14),
    refused=lambda: 1,
    dropped=lambda: 5,
)
TOTAL = re.compile("_(total|seconds)$")
#: A sample: its name without unit and suffix of the page, and its labels.
Key = tuple[str, frozenset[tuple[str, str]]]


def outcomes() -> list[Outcome]:
    """Some answered, some streamed, some after a failure, some refused."""
    local = Attempt("ai/local", "ai/local@10.0.0.7:8000", "local", "timeout", 1.0)
    cloud = Attempt("ai/cloud", "ai/cloud@cloud.example:443", "cloud", "", 0.5)
    answered = [
        outcome(
            duration_s=0.01 * number,
            policy="ai/chat",
            rule=f"rule-{number % 3}",
            tier="cloud",
            backend="ai/cloud",
            provider="openai",
            upstream_model="gpt",
            attempts=(local, cloud) if number % 2 else (cloud,),
            input_tokens=number,
            output_tokens=number * 2,
            cost_microdollars=0.5,
            ttft_s=0.001 * number if number % 5 else None,
            error="" if number % 7 else "upstream_reset",
        )
        for number in range(100)
    ]
    refused = outcome(status=404, error="model_not_found")
    return [*answered, refused]


@dataclass
class Sink:
    """A collector: it answers with ``status`` after ``wait_s``."""

    status: int = 200
    wait_s: float = 0.0
    requests: list[ExportMetricsServiceRequest] = field(
        default_factory=list[ExportMetricsServiceRequest]
    )
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/v1/metrics":
            self.requests.append(ExportMetricsServiceRequest.FromString(await request.read()))
            self.came.set()
            await asyncio.sleep(self.wait_s)
        return web.Response(status=self.status)


@asynccontextmanager
async def collector(monkeypatch: pytest.MonkeyPatch, sink: Sink) -> AsyncGenerator[Sink]:
    runner = web.ServerRunner(web.Server(sink.take), shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    try:
        yield sink
    finally:
        await runner.cleanup()


def labels_of(attributes: list[KeyValue]) -> frozenset[tuple[str, str]]:
    return frozenset((one.key.replace(".", "_"), one.value.string_value) for one in attributes)


def number_of(point: metrics_pb2.NumberDataPoint) -> float:
    return point.as_double if point.HasField("as_double") else point.as_int


def decoded(request: ExportMetricsServiceRequest) -> dict[Key, object]:
    """All points: numbers, or (cumulative counts by bound, count, sum) of histograms."""
    found: dict[Key, object] = {}
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        name = metric.name.replace(".", "_")
        for point in (*metric.sum.data_points, *metric.gauge.data_points):
            found[name, labels_of(list(point.attributes))] = number_of(point)
        for one in metric.histogram.data_points:
            bounds = (*one.explicit_bounds, float("inf"))
            counts = dict(zip(bounds, accumulate(one.bucket_counts), strict=True))
            found[name, labels_of(list(one.attributes))] = (counts, one.count, one.sum)
            assert not one.HasField("min")
            assert not one.HasField("max")
    return found


def paged(telemetry: Telemetry) -> dict[Key, object]:
    """The same of the Prometheus page."""
    found: dict[Key, object] = {}
    for family in text_string_to_metric_families(telemetry.exposition()[1].decode()):
        if not family.name.startswith(("gen_ai_", "switchboard_")):
            continue
        name = TOTAL.sub("", family.name)
        buckets: dict[Key, dict[float, float]] = {}
        numbers: dict[tuple[str, Key], float] = {}
        for sample in family.samples:
            bound = sample.labels.pop("le", None)
            key = name, frozenset(pair for pair in sample.labels.items() if pair[1])
            if bound is None:
                numbers[sample.name, key] = sample.value
            else:
                buckets.setdefault(key, {})[float(bound)] = sample.value
        for (_, key), number in numbers.items():
            found.setdefault(key, number)
        for key, counts in buckets.items():
            count, total = numbers[f"{family.name}_count", key], numbers[f"{family.name}_sum", key]
            found[key] = (counts, count, pytest.approx(total))
    return found


async def test_a_collector_decodes_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collector(monkeypatch, Sink()) as sink:
        telemetry = build_telemetry(GAUGES, pod="pod-1", otlp=True)
        telemetry.metrics.fold(outcomes())
        telemetry.metrics.propagated(0.02)
        await asyncio.to_thread(telemetry.shutdown)
        (request,) = sink.requests
    (resource,) = request.resource_metrics
    assert {one.key: one.value.string_value for one in resource.resource.attributes}.items() >= {
        "service.name": "switchboard-dataplane",
        "service.instance.id": "pod-1",
    }.items()
    said, page = decoded(request), paged(telemetry)
    assert said.keys() == page.keys()
    assert said == page
    for metric in resource.scope_metrics[0].metrics:
        for data in (metric.sum, metric.histogram):
            if data.data_points:
                cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
                assert data.aggregation_temporality == cumulative
                assert all(p.start_time_unix_nano < p.time_unix_nano for p in data.data_points)
        assert metric.sum.is_monotonic == bool(metric.sum.data_points)


async def test_metrics_go_out_at_the_interval_that_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    async with collector(monkeypatch, Sink()) as sink:
        telemetry = build_telemetry(GAUGES, pod="pod-1", otlp=True)
        for _ in range(2):
            await asyncio.wait_for(sink.came.wait(), 60)
            sink.came.clear()
        await asyncio.to_thread(telemetry.shutdown)


async def test_differences_add_up_to_the_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "5")
    async with collector(monkeypatch, Sink()) as sink:
        telemetry = build_telemetry(GAUGES, pod="pod-1", otlp=True)
        for outcome in outcomes():
            telemetry.metrics.fold([outcome])
            await asyncio.sleep(0.001)
        await eventually(lambda: len(sink.requests) > 2)
        await asyncio.to_thread(telemetry.shutdown)
    totals: dict[Key, float] = {}
    delta = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA
    for request in sink.requests:
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            for data in (metric.sum, metric.histogram):
                assert not data.data_points or data.aggregation_temporality == delta
            for point in metric.sum.data_points:
                key = metric.name.replace(".", "_"), labels_of(list(point.attributes))
                totals[key] = totals.get(key, 0.0) + number_of(point)
    page = paged(telemetry)
    assert totals == {key: pytest.approx(page[key]) for key in totals}
    assert any(name == "switchboard_decisions" for name, _ in totals)


@pytest.mark.parametrize("fault", ["nobody listens", "it refuses", "it hangs"])
async def test_a_collector_that_is_away_takes_nothing_from_anybody(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    sink = Sink(status=503 if fault == "it refuses" else 200, wait_s=3 * (fault == "it hangs"))
    async with collector(monkeypatch, sink):
        if fault == "nobody listens":
            url = f"http://127.0.0.1:{free_port()}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        telemetry = build_telemetry(GAUGES, pod="pod-1", otlp=True)
        took_s: list[float] = []
        for outcome in outcomes():
            began = time.perf_counter()
            telemetry.metrics.fold([outcome])
            took_s.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)
        page = paged(telemetry)
        began = time.perf_counter()
        await asyncio.to_thread(telemetry.shutdown)
        assert time.perf_counter() - began < 30
    # The exporter waits for a second again and again, a request never for it; a machine that
    # stands still holds up a few.
    assert sum(one > 0.5 for one in took_s) < 10
    rejected = frozenset({("reason", "model_not_found")})
    assert page["switchboard_rejections", rejected] == 1


async def test_nothing_goes_out_where_the_sdk_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with collector(monkeypatch, Sink()) as sink:
        telemetry = build_telemetry(GAUGES, pod="pod-1", otlp=True)
        telemetry.metrics.fold(outcomes())
        await asyncio.to_thread(telemetry.shutdown)
        assert telemetry.tracing is None
        assert sink.requests == []
