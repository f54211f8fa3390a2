"""The metrics' names, kinds, labels and buckets: dashboards and alerts hang on them."""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.outcomes import outcome
from switchboard_dataplane.telemetry.choices import Whose
from switchboard_dataplane.telemetry.exporters import build_telemetry
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.telemetry.outcome import Aside, Attempt, RaceEnd

FOLDER = Path(__file__).parent / "metrics"
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations" / "telemetry.md"
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ")
OURS = ("gen_ai_", "switchboard_")

STREAMED: dict[str, Any] = {
    "at": 1.0,
    "api": "chat",
    "status": 200,
    "duration_s": 2.0,
    "model": "whatever a caller writes",
    "stream": True,
    "policy": "ai/chat",
    "rule": "default",
    "tier": "cloud",
    "backend": "ai/cloud",
    "endpoint": "ai/cloud@cloud.example:443",
    "provider": "openai",
    "upstream_model": "gpt",
    "attempts": (
        Attempt("ai/local", "ai/local@10.0.0.7:8000", "local", "timeout", 1.0),
        Attempt("ai/cloud", "ai/cloud@cloud.example:443", "cloud", "", 0.5),
    ),
    "races": (RaceEnd("local", "second"),),
    "breaks": ("ai/local", "ai/cloud"),
    "retries_denied": 2,
    "expression_errors": 1,
    "input_tokens": 10,
    "output_tokens": 5,
    "cost_microdollars": 3.5,
    "panic": True,
    "spills": (("local", "inFlight"),),
    "ttft_s": 1.5,
    "error": "upstream_reset",
    "caller_left": True,
}
WHOLE: dict[str, Any] = STREAMED | {
    "stream": False,
    "tier": "local",
    "backend": "ai/local",
    "provider": "",
    "upstream_model": "llama",
    "attempts": (Attempt("ai/local", "ai/local@10.0.0.7:8000", "local", "", 1.0),),
    "races": (),
    "breaks": (),
    "retries_denied": 0,
    "spills": (),
    "expression_errors": 0,
    "duration_s": 0.32,
    "ttft_s": None,
    "error": "",
    "caller_left": False,
}
#: On a bucket's bound and beyond the last, estimated, without tokens, refused, given up.
OUTCOMES = (
    outcome(**STREAMED),
    outcome(**WHOLE),
    outcome(**WHOLE),
    outcome(**WHOLE | {"duration_s": 100.0, "estimated": True, "cost_microdollars": 0.25}),
    outcome(**WHOLE | {"api": "embeddings", "output_tokens": None, "cost_microdollars": None}),
    outcome(**WHOLE | {"api": "completions", "input_tokens": None, "output_tokens": None}),
    outcome(**STREAMED | {"output_tokens": 1, "error": "", "caller_left": False}),
    outcome(status=404, duration_s=0.001, error="model_not_found"),
    outcome(
        **WHOLE
        | {
            "attempts": (Attempt("ai/local", "ai/local@10.0.0.7:8000", "local", "cancelled", 1.0),),
            "status": 0,
            "cost_microdollars": None,
            "input_tokens": None,
            "error": "",
            "caller_left": True,
        }
    ),
)
#: On an arm, and answered by a cascade whose judge was asked and whose classifier was not there.
JUDGE = Aside("judge", "ai/judge", "", 0.5)
JUDGE.cost_microdollars = 1.5
JUDGE.attempts = (Attempt("ai/judge", "ai/judge@judge.example:443", "judge", "", 0.5),)
COMPARED = (
    outcome(
        **STREAMED
        | {
            "arm": "cheap",
            "asides": (JUDGE, Aside("classifier", "ai/local", "timeout", 2.0)),
            "judged": (("local", "low_confidence"), ("cloud", "accepted")),
        }
    ),
    outcome(**WHOLE | {"arm": "control", "ensemble": "vote"}),
)
GAUGES = Gauges(
    in_flight=lambda: {"ai/cloud": 1, "ai/local": 0},
    ejected=lambda: {"ai/cloud": 0, "ai/local": 2},
    queued=lambda: {"ai/local": 4},
    waking=lambda: {"ai/local": 0},
    engines=lambda: {"ai/local": (3, 12, 0.42, 0.8), "ai/old": (0, 0, None, 7.5)},
    revision=lambda: (3, 14),
    refused=lambda: 0,
    dropped=lambda: 0,
    logged=lambda: {"written": 7, "dropped": 1},
)


@pytest.fixture(scope="module")
def page() -> str:
    """The page after all the outcomes, without what the interpreter tells of itself."""
    telemetry = build_telemetry(GAUGES, pod="pod", otlp=False)
    telemetry.metrics.fold(OUTCOMES)
    telemetry.metrics.fold(COMPARED)
    whose, choices = Whose("ai/chat", "default", "cheap"), telemetry.metrics.choices
    choices.aside(whose, Aside("mirror", "ai/local", "", 0.25))
    choices.mirrored(whose, "ai/local", "compared", agreement=0.9)
    choices.mirrored(whose._replace(arm=""), "ai/local", "dropped")
    choices.reviewed(whose, "posted")
    choices.rated(whose, tier="cloud", backend="ai/cloud", source="feedback", value=1.0)
    choices.rated(whose, tier="cloud", backend="ai/cloud", source="judge", value=0.7)
    for why in ("missing", "unknown", "unknown"):
        telemetry.metrics.turned_away(why)
    telemetry.metrics.propagated(0.02)
    telemetry.metrics.propagated(-1.0)
    _, text = telemetry.exposition()
    telemetry.shutdown()
    return "".join(
        line
        for line in text.decode().splitlines(keepends=True)
        if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(OURS)
    )


def test_names_and_labels(golden: Callable[[Path, str], None], page: str) -> None:
    kinds: dict[str, str] = {}
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif found := SAMPLE.match(line):
            family = re.sub("_(bucket|count|sum)$", "", found[1])
            labels[family] |= set(re.findall(r'([a-z_]+)="', found[2] or "")) - {"le"}
    told = [
        f"{name} {kind} {{{','.join(sorted(labels[name]))}}}"
        for name, kind in sorted(kinds.items())
    ]
    golden(FOLDER / "names.txt", "\n".join(told) + "\n")
    assert "whatever a caller writes" not in page
    assert "10.0.0.7" not in page


def test_the_page_of_some_outcomes(golden: Callable[[Path, str], None], page: str) -> None:
    golden(FOLDER / "page.txt", page)


def test_everything_that_a_request_is_counted_by_has_its_arm(page: str) -> None:
    families = [line.split() for line in (FOLDER / "names.txt").read_text().splitlines()]
    without = {name for name, kind, labels in families if kind != "gauge" and "arm" not in labels}
    assert without == {
        "switchboard_aside_duration_seconds",
        "switchboard_decision_log_total",
        "switchboard_propagation_seconds",
        "switchboard_telemetry_dropped_total",
        # They are none of any policy's yet.
        "switchboard_unauthenticated_total",
    }
    assert 'arm=""' not in page


def test_the_page_of_a_gateway_that_compares_nothing_has_no_arm() -> None:
    telemetry = build_telemetry(GAUGES, pod="pod", otlp=False)
    telemetry.metrics.fold(OUTCOMES)
    _, text = telemetry.exposition()
    assert b"switchboard_decisions_total{" in text
    assert b"arm=" not in text


def test_every_metric_is_documented_and_no_other() -> None:
    named = {line.split()[0] for line in (FOLDER / "names.txt").read_text().splitlines()}
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == named
