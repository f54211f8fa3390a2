"""The metrics' names, kinds and labels: dashboards and alerts hang on them."""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from switchboard_dataplane.telemetry.exporters import build_telemetry
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome

FOLDER = Path(__file__).parent / "metrics"
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ")
OURS = ("gen_ai_", "switchboard_")

OUTCOME = Outcome(
    at=1.0,
    api="chat",
    status=200,
    duration_s=2.0,
    model="whatever a caller writes",
    stream=True,
    policy="ai/chat",
    rule="default",
    tier="cloud",
    backend="ai/cloud",
    endpoint="ai/cloud@cloud.example:443",
    provider="openai",
    upstream_model="gpt",
    attempts=(
        Attempt("ai/local", "ai/local@10.0.0.7:8000", "local", "timeout", 1.0),
        Attempt("ai/cloud", "ai/cloud@cloud.example:443", "cloud", "", 0.5),
    ),
    expression_errors=1,
    input_tokens=10,
    output_tokens=5,
    cost_microdollars=3.5,
    ttft_s=1.5,
    error="upstream_reset",
    caller_left=True,
)


def test_names_and_labels(golden: Callable[[Path, str], None]) -> None:
    gauges = Gauges(
        in_flight=lambda: {"ai/cloud": 1},
        revision=lambda: (3, 14),
        refused=lambda: 0,
        dropped=lambda: 0,
    )
    telemetry = build_telemetry(gauges, pod="pod", otlp=False)
    telemetry.metrics.fold([OUTCOME])
    telemetry.metrics.propagated(0.02)
    _, page = telemetry.exposition()
    telemetry.shutdown()
    kinds: dict[str, str] = {}
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for line in page.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif found := SAMPLE.match(line):
            family = re.sub("_(bucket|count|sum)$", "", found[1])
            labels[family] |= set(re.findall(r'([a-z_]+)="', found[2] or "")) - {"le"}
    told = [
        f"{name} {kind} {{{','.join(sorted(labels[name]))}}}"
        for name, kind in sorted(kinds.items())
        if name.startswith(OURS)
    ]
    golden(FOLDER / "names.txt", "\n".join(told) + "\n")
    assert b"whatever a caller writes" not in page
    assert b"10.0.0.7" not in page
