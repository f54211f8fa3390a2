"""Who answers for a model name, before and after: taken over, left unserved, newly served."""

from collections.abc import Iterator, Mapping

from switchboard_cli.review.changes import Change, listed
from switchboard_cli.review.sides import Side
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.running import Snapshot
from switchboard_policy import ir

#: No model is called so: only a wildcard answers for a prefix and this.
_NOBODY = "\0"


def changed_names(old: Side, new: Side, before: Snapshot, after: Snapshot) -> Iterator[Change]:
    """Yield what became of model names."""
    unserved: dict[str, list[str]] = {}
    served: dict[str, list[str]] = {}
    for model in _all_names(old, new):
        was, now = _holder(before, model), _holder(after, model)
        if was == now:
            continue
        if not now:
            unserved.setdefault(was, []).append(model)
        elif not was:
            if now in old.policies:
                served.setdefault(now, []).append(model)
        else:
            yield _taken(model, was, now, old.policies, new.policies)
    for policy, models in unserved.items():
        yield _unserved(policy, models, gone=policy not in new.policies)
    for policy, models in served.items():
        yield Change(
            severity="gained",
            kind="model name newly served",
            text=f"policy {policy} answers for {named(models)}, which nobody did before",
            policy=policy,
            model=models[0],
        )


def handed_on(
    old: Side, new: Side, before: Snapshot, after: Snapshot
) -> dict[tuple[str, str], list[str]]:
    """Return the model names that another policy answers for: by the old one and the new."""
    found: dict[tuple[str, str], list[str]] = {}
    for model in _all_names(old, new):
        was, now = _holder(before, model), _holder(after, model)
        if was and now and was != now:
            found.setdefault((was, now), []).append(model)
    return found


def names_of(policy: ir.Policy) -> str:
    """Return the public names of a policy, as people list them."""
    return named(list(policy.models))


def named(models: list[str]) -> str:
    """Return model names, as people list them."""
    return f"the model name{'s' if len(models) > 1 else ''} {listed(models)}"


def _all_names(old: Side, new: Side) -> list[str]:
    every = (*old.policies.values(), *new.policies.values())
    return sorted({model for policy in every for model in policy.models})


def _holder(snapshot: Snapshot, model: str) -> str:
    """Return the policy that answers for a name; for a wildcard, for what no other name takes."""
    probe = model.removesuffix("*") + _NOBODY if model.endswith("*") else model
    found = find_policy(snapshot, probe)
    return found.name if found is not None else ""


def _unserved(policy: str, models: list[str], *, gone: bool) -> Change:
    why = "is gone" if gone else "claims it no more" if len(models) == 1 else "claims them no more"
    verb = "is" if len(models) == 1 else "are"
    return Change(
        severity="lost",
        kind="model name left unserved",
        text=f"{named(models)} {verb} left unserved: policy {policy}, which answered, {why}; "
        "requests get 404",
        policy=policy,
        model=models[0],
    )


def _taken(
    model: str, was: str, now: str, old: Mapping[str, ir.Policy], new: Mapping[str, ir.Policy]
) -> Change:
    space, other = was.partition("/")[0], now.partition("/")[0]
    by = f"namespace {other}" if other != space else "another policy"
    loser = new.get(was)
    return Change(
        severity="taken",
        kind=f"model name taken over by {by}",
        text=f"the model name {model} goes to policy {now}, no longer to {was}: "
        f"{_why(model, loser, new[now])}",
        policy=now,
        model=model,
        details=(f"before: {_reaches(old[was])}", f"now: {_reaches(new[now])}"),
    )


def _why(model: str, loser: ir.Policy | None, winner: ir.Policy) -> str:
    if loser is None:
        return "that policy is gone"
    if not any(covers_name(pattern, model) for pattern in loser.models):
        return "that policy claims it no more"
    if winner.namespace_rank != loser.namespace_rank:
        return "its namespace comes first in the gateway's order"
    if winner.priority != loser.priority:
        return f"its priority is higher ({winner.priority} over {loser.priority})"
    if _exactness(winner, model) != _exactness(loser, model):
        return "its claim is more exact"
    return "its namespace and name come first, all else being equal"


def covers_name(pattern: str, model: str) -> bool:
    """Say whether a public name, or the beginning of one, takes in another."""
    return pattern == model or (pattern.endswith("*") and model.startswith(pattern[:-1]))


def _exactness(policy: ir.Policy, model: str) -> tuple[bool, int]:
    return max(
        (not pattern.endswith("*"), len(pattern))
        for pattern in policy.models
        if covers_name(pattern, model)
    )


def _reaches(policy: ir.Policy) -> str:
    tiers = policy.rules[-1].tiers if policy.rules else ()
    chain = " → ".join(listed(one.backend for one in tier.members) for tier in tiers)
    return (
        f"{policy.name}, {chain or 'no backend'} (rule {policy.rules[-1].name})"
        if tiers
        else (f"{policy.name}, no backend")
    )
