"""How long a decision takes: 100 policies of 20 rules and 20 candidates, the last rule matches.

Two of the 20 rules are CEL, one guardrail (CEL too) is in force. Then, in ``all_signals``, what a
request of 500 tokens costs where one policy asks for every signal: to read them, and to decide.
Those are times of the processor, on prompts of which no two are alike: four kinds in turn, as in
``readings.py``. ``signals_us`` is the median of each signal alone.

Prints a table and writes ``.bench/decide.json``: {p50_us, p99_us, compiled, all_signals: {p50_us,
p99_us, decisions, signals_us}} and what they were measured on.

``--smoke``: only as many decisions as show that the benchmark still runs.
"""

import argparse
import asyncio
import gc
from random import Random
from statistics import median, quantiles
from time import perf_counter_ns, thread_time_ns
from typing import Any

from figures import save_figures
from readings import varied

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.app import form
from switchboard_dataplane.choosing.shipped import embed_intents, estimate_complexity
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Policy, Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

POLICIES = 100
RULES = 20
CANDIDATES = 20
DECISIONS = 20_000
SMOKE_DECISIONS = 200
SIGNALS_DECISIONS = 4_000
SIGNALS_SMOKE_DECISIONS = 40
WARM_UP = 40
#: Each signal, and what no prompt here says of it: every rule but the last is passed by.
SIGNALS = {
    "task": 'signals.task == "none"',
    "domain": 'signals.domain == "none"',
    "language": 'signals.language == "none"',
    "sentiment": "signals.sentiment > 2.0",
    "urgent": "signals.urgent && request.tokens < 0",
    "code": "signals.code && request.tokens < 0",
    "intents": '"none" in signals.intents',
    "pii": "signals.pii.size() > 90",
    "secrets": "signals.secrets.size() > 90",
    "injection": "signals.injection && request.tokens < 0",
    "complexity": "signals.complexity > 9.0",
    "sessionCost": "signals.sessionCost > 1000.0",
    "lastModel": 'signals.lastModel == "none"',
}
INTENTS = (
    ir.Intent("refund", ("I want my money back", "Please refund my order"), 400),
    ir.Intent("outage", ("The service is down", "Nothing works since this morning"), 400),
)


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


def build_with_signals() -> Snapshot:
    """Build a snapshot of one policy that asks for every signal, and chooses by complexity."""
    backends = ("b0", "b1")
    entries: list[ir.Entry] = []
    for number, name in enumerate(backends):
        entries += [service(name), endpoints(name, f"10.0.{number}.1:8000")]
    tiers = (tier("small", "b0"), tier("large", "b1"))
    asked = rule("asked", *tiers, when=" || ".join(SIGNALS.values()))
    by_gain = rule("default", *tiers, select=ir.Select("Complexity", thresholds_permille=(50,)))
    return snapshot(*entries, policy("chat", asked, by_gain, intents=INTENTS))


async def time_signals(decisions: int) -> dict[str, Any]:
    """Return p50 and p99 of reading every signal and deciding, and each signal's median, in us."""
    running, signals, rng = build_with_signals(), SignalTable(), Random(1)
    policy_of_all = running.policies["ai/chat"]
    assert policy_of_all.readings >= SIGNALS.keys()
    reader = Reader(complexity=estimate_complexity, embed_intents=embed_intents)
    prompts = varied(decisions + WARM_UP)
    took_us = []
    gc.collect()
    gc.freeze()
    for prompt in prompts:
        request = view(prompt)
        start = thread_time_ns()
        await reader.read(policy_of_all, request)
        verdict = decide(running, request, signals, now=0.0, rng=rng)
        took_us.append((thread_time_ns() - start) / 1_000)
        assert isinstance(verdict, Decision)
        assert verdict.plan.rule.name == "default"
    cuts = quantiles(took_us[WARM_UP:], n=100)
    alone = {
        name: round(await _time_alone(name, reader, prompts[: decisions // 4]), 1)
        for name in SIGNALS
    }
    return {
        "p50_us": round(cuts[49], 1),
        "p99_us": round(cuts[98], 1),
        "decisions": decisions,
        "signals_us": alone,
    }


async def _time_alone(name: str, reader: Reader, prompts: list[str]) -> float:
    asks = policy("one", rule("only", tier("t", "b0"), when=SIGNALS[name]), intents=INTENTS)
    one: Policy = snapshot(service("b0"), endpoints("b0", "10.0.0.1:8000"), asks).policies["ai/one"]
    took_us = []
    for prompt in prompts:
        request = view(prompt)
        start = thread_time_ns()
        await reader.read(one, request)
        took_us.append((thread_time_ns() - start) / 1_000)
    return median(took_us)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    plain = time_plain(SMOKE_DECISIONS if smoke else DECISIONS)
    whole = asyncio.run(time_signals(SIGNALS_SMOKE_DECISIONS if smoke else SIGNALS_DECISIONS))
    compiled = form() == "compiled"
    print(f"{'':>16} {'p50 us':>9} {'p99 us':>9} {'decisions':>10}")
    for name, row in (("signals off", plain), ("all signals", whole)):
        print(f"{name:>16} {row['p50_us']:>9} {row['p99_us']:>9} {row['decisions']:>10}")
    for name, us in whole["signals_us"].items():
        print(f"{name:>16} {us:>9}")
    print(f"compiled: {compiled}")
    save_figures("decide", {**plain, "compiled": compiled, "all_signals": whole})


def time_plain(decisions: int) -> dict[str, float]:
    """Return p50 and p99 of a decision for which nothing is read, in us."""
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
    return {
        "p50_us": round(cuts[49], 2),
        "p99_us": round(cuts[98], 2),
        "decisions": decisions,
    }


if __name__ == "__main__":
    main()
