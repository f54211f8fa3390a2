"""Where telemetry goes: a Prometheus page always, OTLP over HTTP where an endpoint is named."""

from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from switchboard_dataplane.telemetry.metrics import Gauges, Metrics
from switchboard_dataplane.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The telemetry of one data plane; ``tracing`` is None where no OTLP endpoint is named."""

    metrics: Metrics
    tracing: Tracing | None
    _registry: CollectorRegistry

    def exposition(self) -> tuple[str, bytes]:
        """Return the content type and the text of the Prometheus page."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def shutdown(self) -> None:
        """Send what is left and stop; may take seconds, so call it off the event loop."""
        self.metrics.shutdown()
        if self.tracing is not None:
            self.tracing.shutdown()


def build_telemetry(gauges: Gauges, *, pod: str, otlp: bool) -> Telemetry:
    """Build the telemetry; the OTLP exporters read OTEL_EXPORTER_OTLP_* themselves."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    resource = Resource.create(
        {"service.name": "switchboard-dataplane", "service.instance.id": pod}
    )
    readers: list[MetricReader] = [
        PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=registry
        )
    ]
    tracing: Tracing | None = None
    if otlp:
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        tracing = Tracing(BatchSpanProcessor(OTLPSpanExporter()), resource=resource)
    return Telemetry(Metrics(readers, gauges, resource=resource), tracing, registry)
