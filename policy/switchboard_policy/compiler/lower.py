"""What was said to what is published: specs to the entries of the compiled form."""

from collections.abc import Container, Sequence
from typing import Final

from switchboard_policy import ir, names
from switchboard_policy.compiler.lower_composed import (
    Backends,
    lower_cascade,
    lower_ensemble,
    lower_learning,
    lower_mirror,
    lower_review,
    lower_select,
)
from switchboard_policy.compiler.resolve import Target, referent
from switchboard_policy.compiler.world import BackendObject, Name
from switchboard_policy.v1alpha1 import (
    capacity,
    health,
    match,
    modelbackend,
    quality,
    resilience,
    routingpolicy,
    spill,
    telemetry,
    tiers,
)
from switchboard_policy.v1alpha1.common import duration_ms, permille, picodollars_per_token

#: Some forty words: a caller has hardly begun to read them.
RESTART_WITHIN_CHARS: Final = 200


def lower_rules(
    policy: Name, spec: routingpolicy.RoutingPolicySpec, available: Container[Name]
) -> tuple[ir.Rule, ...]:
    """Lower the rules of a policy; backends that are not ``available`` are left out.

    Tiers and rules stay even if nothing is left in them: a rule that matches decides, and the
    request is then refused with the reason, never handed to another rule.
    """
    backends = Backends(policy, available)
    return tuple(
        ir.Rule(
            name=rule.name,
            tiers=tuple(_tier(policy, tier, available) for tier in rule.route.tiers),
            match=_match(rule.match) if rule.match is not None else None,
            when=rule.when or "",
            select=lower_select(rule.route, backends),
            cascade=lower_cascade(rule.route.cascade, backends),
            ensemble=lower_ensemble(rule.route.ensemble, backends),
            mirror=lower_mirror(rule.route.mirror, backends),
            review=lower_review(rule.route.review),
        )
        for rule in spec.rules or ()
    )


def lower_policy(
    policy: Name,
    spec: routingpolicy.RoutingPolicySpec,
    *,
    rules: tuple[ir.Rule, ...],
    guardrails: Sequence[ir.Guardrail],
    namespace_rank: int,
    available: Container[Name],
) -> ir.Policy:
    """Lower a policy around its rules and the guardrails that it carries."""
    return ir.Policy(
        name=str(policy),
        models=tuple(spec.models or ()),
        rules=rules,
        guardrails=tuple(guardrails),
        namespace_rank=namespace_rank,
        priority=spec.priority,
        attempts=spec.resilience.attempts,
        deadline_ms=duration_ms(spec.resilience.deadline),
        retry_budget_permille=permille(spec.resilience.retry_budget),
        max_retry_after_wait_ms=duration_ms(spec.resilience.max_retry_after_wait),
        max_ejected_permille=permille(spec.resilience.max_ejected),
        restart_within_chars=_restart_within_chars(spec.stream),
        hedge=_hedge(spec.resilience.hedge) if spec.resilience.hedge is not None else None,
        intents=tuple(
            ir.Intent(one.name, tuple(one.examples), permille(one.threshold))
            for one in spec.intents
        ),
        arms=tuple(ir.Arm(arm.name, arm.weight) for arm in spec.arms or ()),
        learning=lower_learning(spec.learning, Backends(policy, available)),
    )


def _hedge(said: resilience.Hedge) -> ir.Hedge:
    return ir.Hedge(
        after_ms=0 if said.after == "p95" else duration_ms(said.after),
        budget_permille=permille(said.budget),
    )


def _restart_within_chars(said: resilience.Stream) -> int:
    if said.on_break == "Error":
        return 0
    return RESTART_WITHIN_CHARS if said.restart_within is None else said.restart_within


def _tier(policy: Name, tier: tiers.Tier, available: Container[Name]) -> ir.Tier:
    members: dict[Name, ir.Member] = {}
    for reference in tier.backends:
        name = referent(policy, reference)
        if name in available:
            # "" and the policy's own namespace name one backend; the first mention counts.
            members.setdefault(name, ir.Member(backend=str(name), weight=reference.weight))
    return ir.Tier(
        name=tier.name,
        members=tuple(members.values()),
        balance=_balance(tier.balance),
        spill=_spill(tier.spill) if tier.spill is not None else None,
    )


def _spill(said: spill.Spill) -> ir.Spill:
    return ir.Spill(
        queue_wait_ms=duration_ms(said.queue_wait) if said.queue_wait is not None else None,
        in_flight_permille=permille(said.in_flight) if said.in_flight is not None else None,
        ttft_ms=duration_ms(said.ttft) if said.ttft is not None else None,
    )


def _balance(said: tiers.Balance) -> ir.Balance:
    return ir.Balance(
        by=said.by,
        key=_hash_key(said.key) if said.key is not None else None,
        scorers=tuple(ir.Scorer(one.by, one.weight) for one in said.scorers or ()),
    )


def _hash_key(said: tiers.HashKey) -> ir.HashKey:
    if said.header is not None:
        return ir.HashKey(source="header", header=said.header.lower())
    if said.prompt_prefix is not None:
        return ir.HashKey(source="prompt_prefix", prefix_bytes=said.prompt_prefix)
    return ir.HashKey(source="user" if said.user else "session")


def _match(said: match.Match) -> ir.Match:
    tokens = said.tokens or match.TokenRange()
    contains = said.system_prompt.contains if said.system_prompt is not None else ()
    return ir.Match(
        apis=tuple(said.apis or ()),
        tags=tuple(said.tags or ()),
        headers=tuple(
            ir.HeaderMatch(name=header.name.lower(), value=header.value)
            for header in said.headers or ()
        ),
        keywords=tuple(keyword.lower() for keyword in said.keywords or ()),
        tokens_min=tokens.min,
        tokens_max=tokens.max,
        system_prompt=tuple(text.lower() for text in contains),
        roles=tuple(said.roles or ()),
        stages=tuple(said.stages or ()),
        arms=tuple(said.arms or ()),
    )


def lower_backend(
    backend: BackendObject, spec: modelbackend.ModelBackendSpec, target: Target
) -> ir.Backend:
    """Lower a backend; where credentials are wanted it names them, there or not."""
    said = spec.timeouts
    return ir.Backend(
        name=str(backend.name),
        uid=backend.uid,
        model=spec.model,
        provider=spec.external.provider if spec.external is not None else "openai-compatible",
        external=spec.external is not None,
        url=target.url,
        credential=names.credential_key(*backend.name) if spec.credentials is not None else "",
        capabilities=_capabilities(spec.capabilities),
        pricing=_pricing(spec.pricing) if spec.pricing is not None else None,
        region=spec.locality.region or "",
        zone=spec.locality.zone or "",
        jurisdiction=spec.locality.jurisdiction or "",
        max_in_flight=spec.capacity.max_in_flight if spec.capacity is not None else None,
        queue=_queue(spec.capacity),
        wake_hold_ms=duration_ms(spec.wake.hold) if spec.wake is not None else 0,
        timeouts=ir.Timeouts(
            connect_ms=duration_ms(said.connect),
            first_token_ms=duration_ms(said.first_token),
            idle_ms=duration_ms(said.idle),
            total_ms=duration_ms(said.total),
        ),
        health=_health(spec.health),
        telemetry=_telemetry(spec.telemetry) if spec.telemetry is not None else None,
        quality=_quality(spec.quality) if spec.quality is not None else (),
    )


def _quality(said: quality.Quality) -> tuple[tuple[str, int], ...]:
    shares: dict[str, str] = said.model_dump(exclude_none=True)
    return tuple(sorted((task, permille(share)) for task, share in shares.items()))


def _queue(said: capacity.Capacity | None) -> ir.Queue | None:
    if said is None or said.queue is None:
        return None
    return ir.Queue(said.queue.max_waiting, duration_ms(said.queue.max_wait))


def _capabilities(said: modelbackend.Capabilities) -> ir.Capabilities:
    return ir.Capabilities(
        apis=tuple(said.apis) if said.apis is not None else None,
        modalities=tuple(said.modalities) if said.modalities is not None else None,
        tools=said.tools,
        json_schema=said.json_schema,
        context_window_tokens=said.context_window,
        max_output_tokens=said.max_output_tokens,
    )


def _health(said: health.Health) -> ir.Health:
    breaker = said.breaker
    return ir.Health(
        probe=_probe(said.probe) if said.probe is not None else None,
        breaker=ir.Breaker(
            consecutive_failures=breaker.consecutive_failures,
            failure_rate_permille=permille(breaker.failure_rate),
            open_for_ms=duration_ms(breaker.open_for),
        ),
        slow_start_ms=duration_ms(said.slow_start),
    )


def _probe(said: health.Probe) -> ir.Probe:
    return ir.Probe(
        path=said.path,
        interval_ms=duration_ms(said.interval),
        timeout_ms=duration_ms(said.timeout),
        unhealthy_after=said.unhealthy_after,
        healthy_after=said.healthy_after,
    )


def _telemetry(said: telemetry.Telemetry) -> ir.Telemetry:
    return ir.Telemetry(engine=said.engine, path=said.path, interval_ms=duration_ms(said.interval))


def _pricing(said: modelbackend.Pricing) -> ir.Pricing:
    cached = said.cached_input_per_million
    return ir.Pricing(
        input_picodollars=picodollars_per_token(said.input_per_million),
        cached_input_picodollars=picodollars_per_token(cached) if cached is not None else None,
        output_picodollars=picodollars_per_token(said.output_per_million),
    )
