"""Policies and requests drawn at random, and what the guardrails forbid each request.

What is forbidden is told by the traits that a request was given, never by what the product makes of
its text.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from msgspec.structs import replace

from fakes.policies import backend, endpoints, policy, rule, service, tier
from fakes.wild_rules import draw_composition, draw_learning, maybe
from switchboard_policy import ir

Traits = AbstractSet[str]

NAMES: Final = tuple("abcdefgh")
#: In the text of every request, and so of all that is asked on its account.
MARK: Final = "ask-%d."
EMAIL: Final = "Write to jane.doe@example.com today."
CREDENTIAL: Final = "OPENAI_API_KEY=sk-" + "proj-" + "a1B2c3D4e5" * 12
LONG: Final = "and so on " * 60
HARD: Final = "prove it"
#: Guardrails' and rules' conditions, and for whom they hold; a header that is missing is an error.
CONDITIONS: Final[Mapping[str, Callable[[Traits], bool]]] = {
    "": lambda has: True,
    '"secret" in request.tags': lambda has: "tagged" in has,
    'request.headers["x-tenant"] == "acme"': lambda has: "other tenant" not in has,
    "size(signals.pii) > 0": lambda has: "email" in has,
    "size(signals.secrets) > 0": lambda has: "credential" in has,
    "signals.complexity > 0.5": lambda has: "hard" in has,
    "request.stream": lambda has: "stream" in has,
    "request.tokens > 100": lambda has: "long" in has,
    'request.session != ""': lambda has: "session" in has,
    'request.user == "eve"': lambda has: "eve" in has,
    "request.minQuality > 0.5": lambda has: "choosy" in has,
    "request.tools": lambda has: "tools" in has,
    "signals.sessionCost > 0.5": lambda has: "spent" in has,
    'signals.lastModel == "ai/a"': lambda has: "spent" in has,
    'request.arm == "cheap"': lambda has: "arm cheap" in has,
}
TRAITS: Final = (
    *("tagged", "tenant", "other tenant", "email", "credential", "hard", "stream", "stream"),
    *("long", "session", "eve", "choosy", "tools"),
)
#: Most are the first.
APIS: Final[tuple[ir.Api, ...]] = (*("chat",) * 8, "completions", "completions", "embeddings")
#: The conversation that has a past.
SPENT: Final = "s"
PRICED: Final = ir.Pricing(input_picodollars=1_000_000, output_picodollars=4_000_000)
BALANCES: Final = (
    *(ir.Balance(by="Latency"), ir.Balance(by="Load"), ir.Balance(by="Cost")),
    ir.Balance(by="Locality"),
    ir.Balance(by="Hash", key=ir.HashKey("session")),
    ir.Balance(by="Scorers", scorers=(ir.Scorer("Load"), ir.Scorer("Cost", 3))),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A request, when it comes, and after how long its caller leaves."""

    number: int
    api: ir.Api
    traits: Traits
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    at_s: float
    leaves_after_s: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """What else is in force from a time on; ``policy`` is then the policy."""

    at_s: float
    policy: ir.Policy
    entries: Sequence[ir.Entry]
    removed: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class World:
    """A policy with its backends, a change of both, and requests."""

    policy: ir.Policy
    entries: Sequence[ir.Entry]
    change: Change | None
    wishes: Sequence[Wish]


def forbidden(spec: ir.Policy, traits: Traits) -> frozenset[str]:
    """Return the backends that the guardrails of a policy forbid a request of these traits."""
    return frozenset(
        name
        for guardrail in spec.guardrails
        if CONDITIONS[guardrail.when](traits)
        for name in guardrail.forbids
    )


def draw_world(rng: Random) -> World:
    """Draw a world: up to eight backends, two rules, three guardrails, four requests."""
    names = NAMES[: rng.randint(3, len(NAMES))]
    entries = [entry for name in names for entry in _backend(rng, name)]
    spec = _policy(rng, names)
    return World(
        spec,
        entries,
        _change(rng, spec, names) if _rarely(rng) else None,
        [draw_wish(rng, number) for number in range(rng.randint(1, 4))],
    )


def draw_wish(rng: Random, number: int) -> Wish:
    """Draw a request."""
    traits = {trait for trait in TRAITS if rng.random() < 0.3}
    api = rng.choice(APIS)
    if api == "embeddings":
        traits -= {"stream"}
    if api != "chat":
        traits -= {"tools"}
    texts = {"email": EMAIL, "credential": CREDENTIAL, "hard": HARD, "long": LONG}
    session = rng.choice((SPENT, "t"))
    if "session" in traits and session == SPENT:
        traits |= {"spent"}
    said = [MARK % number, *(text for trait, text in texts.items() if trait in traits)]
    headers = {
        **({"x-switchboard-tags": "secret,x"} if "tagged" in traits else {}),
        **({"x-tenant": "acme"} if "tenant" in traits else {}),
        **({"x-tenant": "other"} if "other tenant" in traits else {}),
        **({"x-switchboard-session": session} if "session" in traits else {}),
        **({"x-switchboard-min-quality": "0.8"} if "choosy" in traits else {}),
        **({"x-switchboard-priority": str(rng.randint(-2, 2))} if rng.random() < 0.3 else {}),
        **({"x-switchboard-deadline-ms": "4000"} if rng.random() < 0.1 else {}),
    }
    return Wish(
        number,
        api,
        frozenset(traits),
        headers,
        {"model": "chat", **_body(rng, api, traits, "\n".join(said))},
        rng.choice((0.0, 0.0, 0.0, 0.5, 1.0, 3.0)),
        rng.choice((0.0, 0.5, 1.0, 10.0)) if rng.random() < 0.1 else None,
    )


def _body(rng: Random, api: ir.Api, traits: Traits, text: str) -> dict[str, Any]:
    body: dict[str, Any] = {"user": "eve"} if "eve" in traits else {}
    if api != "chat" and rng.random() < 0.5:
        # Not what the model is asked: it must not be what the request is judged by.
        body["messages"] = [{"role": "user", "content": "hi"}]
    if api == "embeddings":
        return body | {"input": text}
    if "stream" in traits:
        body["stream"] = True
        if rng.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    if api == "completions":
        return body | {"prompt": text}
    if "tools" in traits:
        body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    if rng.random() < 0.1:
        body["n"] = 2
    if rng.random() < 0.2:
        body |= {"logprobs": True}
    return body | {"messages": [{"role": "user", "content": text}]}


def _policy(rng: Random, names: Sequence[str]) -> ir.Policy:
    rules = [_rule(rng, "default", names)]
    if rng.random() < 0.5:
        when = rng.choice([one for one in CONDITIONS if one])
        match = rng.choice((None, None, ir.Match(tags=("secret",)), ir.Match(arms=("cheap",))))
        rules.insert(0, replace(_rule(rng, "first", names), when=when, match=match))
    return policy(
        "chat",
        *rules,
        guardrails=tuple(_guardrail(rng, number, names) for number in range(rng.randint(1, 3))),
        attempts=rng.randint(1, 5),
        deadline_ms=rng.choice((6_000, 20_000, 45_000)),
        retry_budget_permille=rng.choice((0, 200, 1_000)),
        max_ejected_permille=rng.choice((0, 500, 1_000)),
        restart_within_chars=rng.choice((0, 200)),
        hedge=_hedge(rng),
        learning=draw_learning(rng, names),
        arms=(ir.Arm("control"), ir.Arm("cheap", 2)) if rng.random() < 0.3 else (),
    )


def _guardrail(rng: Random, number: int, names: Sequence[str]) -> ir.Guardrail:
    few = rng.sample(names, rng.randint(1, rng.choice((1, 2, len(names) // 2, len(names)))))
    return ir.Guardrail(
        f"guard-{number}", "ai/chat", tuple(f"ai/{one}" for one in few), when=_condition(rng)
    )


def _condition(rng: Random) -> str:
    return "" if rng.random() < 0.25 else rng.choice([*CONDITIONS])


def _rule(rng: Random, name: str, names: Sequence[str]) -> ir.Rule:
    tiers = [_tier(rng, number, names) for number in range(rng.choice((1, 2, 2, 3, 3)))]
    return rule(name, *tiers, **draw_composition(rng, names, len(tiers)))


def _tier(rng: Random, number: int, names: Sequence[str]) -> ir.Tier:
    members: list[str | tuple[str, int]] = [*rng.sample(names, rng.randint(1, 3))]
    if rng.random() < 0.3:
        members = [(str(one), rng.randint(0, 3)) for one in members]
    spill = None
    if rng.random() < 0.3:
        spill = ir.Spill(
            queue_wait_ms=maybe(rng, 500),
            in_flight_permille=maybe(rng, 500),
            ttft_ms=maybe(rng, 500),
        )
    return tier(f"tier-{number}", *members, balance=rng.choice(BALANCES), spill=spill)


def _hedge(rng: Random) -> ir.Hedge | None:
    if rng.random() < 0.6:
        return None
    return ir.Hedge(after_ms=rng.choice((0, 10, 500, 2_000)), budget_permille=1_000)


def _backend(rng: Random, name: str) -> list[ir.Entry]:
    fields: dict[str, Any] = {
        "timeouts": ir.Timeouts(
            first_token_ms=rng.choice((500, 2_000)), idle_ms=2_000, total_ms=30_000
        ),
        "pricing": PRICED if rng.random() < 0.8 else None,
        "quality": (("default", rng.randint(0, 1_000)),),
        "max_in_flight": maybe(rng, rng.randint(1, 2)),
        "capabilities": _capabilities(rng),
    }
    if rng.random() < 0.5:
        fields["queue"] = ir.Queue(rng.randint(1, 3), max_wait_ms=rng.choice((500, 5_000)))
    if rng.random() < 0.5:
        return [backend(name, **fields)]
    count = rng.choice((0, 1, 2, 3))
    held_ms = 3_000 if rng.random() < 0.5 else 0
    return [service(name, **fields, wake_hold_ms=held_ms), _endpoints(rng, name, count)]


def _endpoints(rng: Random, name: str, count: int) -> ir.Endpoints:
    some = endpoints(name, *(f"10.0.{ord(name[0])}.{number}:80" for number in range(count)))
    gone = count > 0 and rng.random() < 0.1
    return ir.Endpoints(some.backend, some.addresses, terminating=gone)


def _capabilities(rng: Random) -> ir.Capabilities:
    if rng.random() < 0.5:
        return ir.Capabilities()
    return ir.Capabilities(
        apis=("chat",) if rng.random() < 0.2 else None,
        tools=False if rng.random() < 0.2 else None,
        context_window_tokens=rng.choice((50, 500, 8_000)),
    )


def _change(rng: Random, before: ir.Policy, names: Sequence[str]) -> Change:
    """Draw other guardrails, and a backend that comes, goes, or gets its first endpoint."""
    guardrails = tuple(_guardrail(rng, number, names) for number in range(rng.randint(0, 3)))
    after = replace(before, guardrails=guardrails)
    name = rng.choice(names)
    what = rng.randrange(3)
    entries: list[ir.Entry] = [after] if what else [after, *_backend(rng, name)]
    if what == 1:
        entries.append(_endpoints(rng, name, 1))
    removed = {f"backend/ai/{name}"} if what == 2 else set[str]()
    # Beside all other times: what comes at the same time is neither before nor after.
    return Change(rng.choice((0.203, 0.503, 1.003, 2.503)), after, entries, removed)


def _rarely(rng: Random) -> bool:
    return rng.random() < 0.25
