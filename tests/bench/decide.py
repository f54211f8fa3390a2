"""How long a decision takes: 100 policies of 20 rules and 20 candidates, the last rule matches.

Two of the 20 rules are CEL, one guardrail (CEL too) is in force. Prints a table and writes
``.bench/decide.json``: {p50_us, p99_us, compiled} and what they were measured on.

``--smoke``: only as many decisions as show that the benchmark still runs.
"""

import argparse
import gc
from random import Random
from statistics import quantiles
from time import perf_counter_ns

from figures import write_figures

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.app import form
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

POLICIES = 100
RULES = 20
CANDIDATES = 20
DECISIONS = 20_000
SMOKE_DECISIONS = 200


def build() -> Snapshot:
    """Build the snapshot that the issue of decision time is measured on."""
    backends = [f"b{number}" for number in range(10)]
    entries: list[ir.Entry] = []
    for number, name in enumerate(backends):
        entries.append(service(name, capabilities=ir.Capabilities(context_window_tokens=8_192)))
        entries.append(endpoints(name, f"10.0.{number}.1:8000", f"10.0.{number}.2:8000"))
    half = CANDIDATES // 4
    tiers = (tier("near", *backends[:half]), tier("far", *backends[half:]))
    rail = ir.Guardrail(
        "eu-only",
        policy="ai/chat",
        when='request.tags.exists(t, t == "eu")',
        forbids=("ai/b0", "ai/b7"),
    )
    for number in range(POLICIES):
        rules = [rule(f"r{index}", *tiers, match=_match(index)) for index in range(RULES - 3)]
        rules.append(rule("cel-1", *tiers, when='request.tokens > 100000 && request.api == "chat"'))
        rules.append(rule("cel-2", *tiers, when='request.headers.get("x-team") == "nobody"'))
        rules.append(rule("default", *tiers))
        entries.append(
            policy(f"p{number}", *rules, models=(f"model-{number}",), guardrails=(rail,))
        )
    return snapshot(*entries)


def _match(index: int) -> ir.Match:
    kinds = (
        ir.Match(tags=(f"tag-{index}",)),
        ir.Match(headers=(ir.HeaderMatch("x-kind", f"v{index}"),)),
        ir.Match(tokens_min=50_000 + index),
        ir.Match(keywords=(f"word{index}", "phrase")),
    )
    return kinds[index % len(kinds)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    decisions = SMOKE_DECISIONS if parser.parse_args().smoke else DECISIONS
    running, signals, rng = build(), SignalTable(), Random(1)
    headers = {"content-type": "application/json", "user-agent": "bench", "x-team": "a"}
    text = "Tell me how a Kubernetes scheduler picks a node. " * 8
    requests = [
        view(text, model=f"model-{number}", tokens=100, tags=("eu",), headers=headers)
        for number in range(POLICIES)
    ]
    for request in requests:
        verdict = decide(running, request, signals, now=0.0, rng=rng)
        assert isinstance(verdict, Decision)
        assert verdict.plan.rule.name == "default"
        assert verdict.plan.guardrails == ("eu-only",)
    gc.collect()
    gc.freeze()
    took_us = []
    for number in range(decisions):
        model = f"model-{number % POLICIES}"
        request = view(text, model=model, tokens=100, tags=("eu",), headers=headers)
        start = perf_counter_ns()
        decide(running, request, signals, now=0.0, rng=rng)
        took_us.append((perf_counter_ns() - start) / 1_000)
    cuts = quantiles(took_us, n=100)
    write_figures(
        "decide",
        {
            "p50_us": round(cuts[49], 2),
            "p99_us": round(cuts[98], 2),
            "decisions": decisions,
            "compiled": form() == "compiled",
        },
    )


if __name__ == "__main__":
    main()
