"""All that is asked for a request is in the request's own trace."""

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.timed import PRICED, TimedCaller, TimedStage, TimedUpstream, answers
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_policy import ir


async def test_each_attempt_of_an_aside_is_a_child_of_the_request() -> None:
    judge = ir.Judge(ir.Asked("ai/judge"))
    tiers = tier("small", "small"), tier("large", "large")
    plays = {name: [answers(1.0)] for name in ("small", "large", "judge")}
    stage = TimedStage(
        TimedUpstream(plays),
        snapshot(
            policy("chat", rule("default", *tiers, cascade=ir.Cascade(judge=judge))),
            *(backend(name, pricing=PRICED) for name in plays),
        ),
    )
    exporter = InMemorySpanExporter()
    stage.tracing = Tracing(SimpleSpanProcessor(exporter), resource=Resource.create())
    caller, outcome = await stage.serve(TimedCaller({"stream": False}))
    stage.tracing.shutdown()
    assert caller.reason == "cascade:escalated:judge_unreadable"
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request = spans.pop("route chat")
    assert spans.keys() == {"attempt ai/small", "attempt ai/judge", "attempt ai/large"}
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
    # Each upstream is told of its own span.
    told = [dict(headers)["traceparent"] for headers in stage.upstream.headers]
    assert len(set(told)) == 3
    assert [aside.purpose for aside in outcome.asides] == ["judge", "step"]
