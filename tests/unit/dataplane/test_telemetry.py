"""Outcomes: what they cost, how they are folded, and that telemetry never fails a request."""

from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from switchboard_dataplane.learning.noting import Noted
from switchboard_dataplane.telemetry.cost import cost_microdollars
from switchboard_dataplane.telemetry.outcome import FOLD_BATCH, QUEUE_MAX, Outcome, OutcomeQueue
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_policy.ir import Pricing


def outcome(number: int = 0) -> Outcome:
    return Outcome(at=float(number), api="chat", status=200, duration_s=1.0)


class Later:
    """Calls later what it is told to, when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> None:
        assert delay_s >= 0
        self.due.append(call)

    def run(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


@pytest.mark.parametrize(
    ("pricing", "cached", "expected"),
    [
        (None, 0, None),
        (Pricing(), 0, 0.0),
        (Pricing(input_picodollars=50_000, output_picodollars=80_000), 0, 58.0),
        (Pricing(input_picodollars=50_000, output_picodollars=80_000), 600, 58.0),
        (Pricing(50_000, 10_000, 80_000), 600, 34.0),
        (Pricing(50_000, 0, 80_000), 1000, 8.0),
    ],
)
def test_tokens_have_prices(pricing: Pricing | None, cached: int, expected: float | None) -> None:
    found = cost_microdollars(pricing, input_tokens=1000, output_tokens=100, cached_tokens=cached)
    assert found == pytest.approx(expected)


def test_outcomes_are_folded_later_in_order_and_in_small_batches() -> None:
    later, batches = Later(), list[list[float]]()
    queue = OutcomeQueue(
        observers=[lambda batch: batches.append([one.at for one in batch])], later=later
    )
    for number in range(FOLD_BATCH + 1):
        queue.put(outcome(number))
    assert batches == []
    assert len(later.due) == 1
    later.run()
    later.run()
    assert [len(batch) for batch in batches] == [FOLD_BATCH, 1]
    assert [at for batch in batches for at in batch] == list(range(FOLD_BATCH + 1))
    assert later.due == []
    queue.put(outcome())
    assert len(later.due) == 1


def test_a_full_queue_drops_and_counts() -> None:
    folded: list[Outcome] = []
    queue = OutcomeQueue(observers=[folded.extend], later=Later())
    for _ in range(QUEUE_MAX + 3):
        queue.put(outcome())
    assert queue.dropped == 3
    queue.drain()
    assert len(folded) == QUEUE_MAX


def test_an_observer_that_fails_does_not_disturb_the_others() -> None:
    folded: list[Outcome] = []

    def fail(_: Sequence[Outcome]) -> None:
        raise ValueError("a defect")

    later = Later()
    queue = OutcomeQueue(observers=[fail, folded.extend], later=later)
    queue.put(outcome())
    later.run()
    assert len(folded) == 1


def test_a_span_names_the_arm_where_there_is_one() -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(spans), resource=Resource.create())
    for arm in ("cheap", ""):
        ended = outcome()
        ended.arm = arm
        tracing.begin("chat", {}).end(ended)
    named, plain = spans.get_finished_spans()
    assert (named.attributes or {})["switchboard.arm"] == "cheap"
    assert "switchboard.arm" not in (plain.attributes or {})


def test_a_span_names_the_decision_where_there_is_one() -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(spans), resource=Resource.create())
    for noted in (Noted("d1", texts=False, judged=False), None):
        ended = outcome()
        ended.noted = noted
        tracing.begin("chat", {}).end(ended)
    named, plain = spans.get_finished_spans()
    assert (named.attributes or {})["switchboard.decision"] == "d1"
    assert "switchboard.decision" not in (plain.attributes or {})


def test_a_span_names_the_client_where_one_was_asked_for() -> None:
    spans = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(spans), resource=Resource.create())
    for client in ("apps/web", ""):
        ended = outcome()
        ended.client = client
        tracing.begin("chat", {"authorization": "Bearer secret"}).end(ended)
    named, plain = spans.get_finished_spans()
    assert (named.attributes or {})["switchboard.client"] == "apps/web"
    assert "switchboard.client" not in (plain.attributes or {})
    assert "secret" not in named.to_json() + plain.to_json()
