"""Where OTLP goes, and that a collector that accepts and never answers does not delay the end."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from cluster.processes import ChildProcess, free_port
from fakes.gateway import chat
from fakes.outcomes import outcome
from fakes.policies import KEY
from switchboard_dataplane.telemetry.exporters import Telemetry, build_telemetry
from switchboard_dataplane.telemetry.instruments import Counter
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.telemetry.otlp import LAST_EXPORT_S, MetricsPush
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_policy.seal import write_key_file

OUTCOME = outcome(status=404, error="model_not_found")
#: How much later than it has to a thread of a busy machine may come, in seconds: what is not
#: given up takes a minute.
LEEWAY_S = 20.0
TRIES = 5
RESOURCE = Resource({"service.name": "test"})


@contextmanager
def deaf_collector() -> Iterator[str]:
    """A collector that accepts connections, by its backlog, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def collector(paths: list[str]) -> AsyncGenerator[str]:
    """A collector that keeps the paths that are posted to."""

    async def take(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response()

    runner = web.ServerRunner(web.Server(take), shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def used_telemetry() -> Telemetry:
    """Telemetry that has a span and a metric to send."""
    gauges = Gauges(
        in_flight=dict[str, int],
        ejected=dict[str, int],
        queued=dict[str, int],
        waking=dict[str, int],
        engines=dict,
        revision=lambda: None,
        refused=lambda: 0,
        dropped=lambda: 0,
    )
    telemetry = build_telemetry(gauges, pod="pod-1", otlp=True)
    telemetry.metrics.fold([OUTCOME])
    if telemetry.tracing is not None:
        telemetry.tracing.begin("chat", {}).end(OUTCOME)
    return telemetry


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"": ""}, {"/v1/metrics", "/v1/traces"}),
        ({"": "/base/"}, {"/base/v1/metrics", "/base/v1/traces"}),
        ({"METRICS_": "/m"}, {"/m"}),
        ({"TRACES_": "/t/"}, {"/t/"}),
        ({"METRICS_": "/m", "TRACES_": "/t"}, {"/m", "/t"}),
        ({"": "", "TRACES_": "/t"}, {"/v1/metrics", "/t"}),
        ({"": "", "METRICS_": "/m"}, {"/m", "/v1/traces"}),
    ],
)
async def test_a_signal_goes_to_its_own_endpoint_or_below_that_of_all(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: set[str]
) -> None:
    paths: list[str] = []
    async with collector(paths) as url:
        for signal, path in variables.items():
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT", url + path)
        telemetry = used_telemetry()
        assert (telemetry.tracing is None) == (variables.keys() == {"METRICS_"})
        assert (telemetry._push is None) == (variables.keys() == {"TRACES_"})
        await asyncio.to_thread(telemetry.shutdown)
    assert set(paths) == expected
    assert len(paths) == len(expected)


def test_the_last_spans_are_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    with deaf_collector() as url:
        exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=60)
        tracing = Tracing(BatchSpanProcessor(exporter), resource=RESOURCE)
        tracing.begin("chat", {}).end(OUTCOME)
        began = time.perf_counter()
        tracing.shutdown(patience_s=0.1)
        assert time.perf_counter() - began < 0.1 + LEEWAY_S
    assert "spans were not sent within 0.1 s" in caplog.text


def test_the_last_metrics_are_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    things = Counter("things", (), "Things")
    things.add(())
    with deaf_collector() as url:
        exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=60)
        push = MetricsPush([things], exporter, resource=RESOURCE)
        push.start()
        began = time.perf_counter()
        push.stop(patience_s=0.1)
        assert time.perf_counter() - began < 0.1 + LEEWAY_S
    assert "metrics were not sent within 0.1 s" in caplog.text


def test_both_signals_are_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    took_s = [2 * LAST_EXPORT_S]
    with deaf_collector() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        # One after the other takes twice as long each time, a machine that stands still only once.
        while took_s[-1] >= 2 * LAST_EXPORT_S and len(took_s) <= TRIES:
            telemetry = used_telemetry()
            began = time.perf_counter()
            telemetry.shutdown()
            took_s.append(time.perf_counter() - began)
    assert took_s[-1] < 2 * LAST_EXPORT_S, took_s


def test_the_process_ends_on_sigterm_though_the_collector_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(write_key_file("k1", {"k1": KEY}))
    port, admin = free_port(), free_port()
    command: list[str | Path] = [
        *(sys.executable, "-m", "switchboard_dataplane", "--scope-key-file", keys),
        *("--redis-url", "redis://127.0.0.1:9", "--grace-s", "0", "--drain-s", "1"),
        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
    ]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    with deaf_collector() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with ChildProcess(command, log=tmp_path / "log", cwd=tmp_path) as child:
            child.wait_for_http(f"http://127.0.0.1:{admin}/livez")
            answer = httpx2.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=chat())
            assert answer.status_code == 503
            child.interrupt()
            # What a pod has beside its drain.
            assert child.wait(timeout_s=30) == 0
            assert "spans were not sent within 3 s" in child.log_text()
            assert "Traceback" not in child.log_text()
