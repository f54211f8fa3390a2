"""Where telemetry goes: a Prometheus page always, OTLP over HTTP where an endpoint is named."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from switchboard_dataplane.telemetry.metrics import Gauges, Metrics
from switchboard_dataplane.telemetry.otlp import MetricsPush, read_deltas, read_interval_s
from switchboard_dataplane.telemetry.page import render_page
from switchboard_dataplane.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The telemetry of one data plane; ``tracing`` is None where no OTLP endpoint takes traces."""

    metrics: Metrics
    tracing: Tracing | None
    _push: MetricsPush | None
    _registry: CollectorRegistry

    def exposition(self) -> tuple[str, bytes]:
        """Return the content type and the text of the Prometheus page."""
        ours = render_page(self.metrics.instruments).encode()
        return CONTENT_TYPE_LATEST, ours + generate_latest(self._registry)

    def shutdown(self) -> None:
        """Send what is left and stop; takes up to LAST_EXPORT_S: call it off the event loop."""
        lasts: list[Callable[[], None]] = []
        if self._push is not None:
            lasts.append(self._push.stop)
        if self.tracing is not None:
            lasts.append(self.tracing.shutdown)
        if lasts:
            # At once: a collector that hangs takes the time of one.
            with ThreadPoolExecutor(len(lasts)) as threads:
                for last in [threads.submit(last) for last in lasts]:
                    last.result()


def build_telemetry(gauges: Gauges, *, pod: str, otlp: bool) -> Telemetry:
    """Build the telemetry; the OTLP exporters read OTEL_EXPORTER_OTLP_* themselves."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(gauges)
    if not otlp or os.environ.get(OTEL_SDK_DISABLED, "").lower() == "true":
        return Telemetry(metrics, None, None, registry)
    resource = Resource.create(
        {"service.name": "switchboard-dataplane", "service.instance.id": pod}
    )
    push = tracing = None
    if _has_endpoint(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, os.environ):
        push = MetricsPush(
            metrics.instruments,
            OTLPMetricExporter(),
            resource=resource,
            interval_s=read_interval_s(os.environ),
            deltas=read_deltas(os.environ),
        )
        push.start()
    if _has_endpoint(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, os.environ):
        tracing = Tracing(BatchSpanProcessor(OTLPSpanExporter()), resource=resource)
    return Telemetry(metrics, tracing, push, registry)


def _has_endpoint(signal: str, env: Mapping[str, str]) -> bool:
    """Say whether a signal goes anywhere: to an endpoint of its own, or to that of all."""
    return bool(env.get(signal) or env.get(OTEL_EXPORTER_OTLP_ENDPOINT))
