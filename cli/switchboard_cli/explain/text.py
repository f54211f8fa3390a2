"""An explanation as people read it at night: the outcome first, then why, in 100 columns."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Final, NamedTuple, cast

from switchboard_cli.terminal import DIM, GREEN, PLAIN, RED, YELLOW
from switchboard_dataplane.explaining import form
from switchboard_dataplane.learning.inputs import Caller

WIDTH: Final = 100
_LABEL: Final = 12
_OUTCOME: Final[Mapping[form.Outcome, str]] = {
    "served": GREEN,
    "waits": YELLOW,
    "rejected": RED,
}
#: What a score is multiplied by, not a term of it; 1 says nothing.
_FACTOR: Final = "errors"
#: What a filter or a hash goes by: no terms of a sum.
_MEASURES: Final = frozenset({"dollars", "place", "in_flight", "bound"})


class Line(NamedTuple):
    """A line, and the shade that it is written in."""

    text: str
    shade: str = PLAIN


def explained(found: form.Explanation) -> Iterator[Line]:
    """Yield the lines of an explanation."""
    yield from _headline(found)
    yield Line("")
    yield from _about(found)
    if found.guardrails:
        yield Line("")
        yield Line("guardrails")
        for guardrail in found.guardrails:
            yield from _guardrail(guardrail)
    if found.rules:
        yield Line("")
        yield Line("rules")
        for rule in found.rules:
            yield from _rule(rule)
    if found.select is not None:
        yield Line("")
        yield from _select(found.select)
    for tier in found.tiers:
        yield Line("")
        yield from _tier(tier)
    for heading, notes in (("then", found.then), ("notes", found.notes)):
        if notes:
            yield Line("")
            for number, note in enumerate(notes):
                yield from _row("" if number else heading, note)


def recalled(found: form.Remembered) -> Iterator[Line]:
    """Yield the lines of a decision that is remembered."""
    said = dict(found.decision)
    yield Line(_clean(f"REMEMBERED  decision {said.pop('id', '')}, {found.age_s:.0f} s ago"), GREEN)
    yield Line("")
    for name in sorted(said):
        yield from _row(name, _plain(said[name]), wide=True)
    for name in sorted(found.readings):
        yield from _row(f"signals.{name}", _plain(found.readings[name]), wide=True)
    for rating in found.ratings:
        yield from _row("rating", f"{rating.get('value')} by {rating.get('source')}", wide=True)
    yield Line("")
    yield Line("now (nothing is decided again)")
    now = found.now
    same = "the same revision" if now.same_revision else "another revision"
    yield from _row("revision", f"{now.revision or 'none'}: {same}", wide=True)
    for name, there in (("policy", now.policy), ("rule", now.rule), ("backend", now.backend)):
        shade = PLAIN if there else YELLOW
        yield from _row(name, "still there" if there else "no longer there", shade, wide=True)
    yield Line("")
    yield Line("not remembered")
    for what in found.forgotten:
        yield from _wrapped(f"  {what}", indent=4, shade=DIM)


def _headline(found: form.Explanation) -> Iterator[Line]:
    shade = _OUTCOME[found.outcome]
    word = found.outcome.upper()
    code = f"{found.status} {found.reason}: " if found.reason else ""
    yield from _wrapped(f"{word:<{_LABEL}}{code}{found.message}", indent=_LABEL, shade=shade)
    if found.pick is not None:
        pick = found.pick
        told = f"tier {pick.tier} of rule {found.rule}, {pick.why}"
        panic = ", though it is ejected: too few others are left" if pick.panic else ""
        yield from _row("", told + panic)


def _about(found: form.Explanation) -> Iterator[Line]:
    yield from _row("request", ", ".join(_request(found.request)))
    yield from _row("client", ", ".join(_client(found)), PLAIN if found.permission.allowed else RED)
    where = "the files" if found.source == "files" else f"revision {found.revision} in this pod"
    yield from _row("by", where)
    if not found.claims:
        yield from _row("policy", "none claims the model", RED)
    for claim in found.claims:
        if claim.lost_by:
            told = f"{claim.policy} claims {claim.model} too, and loses: {claim.lost_by}"
            yield from _row("", told, DIM)
        else:
            yield from _row("policy", f"{claim.policy} answers for {claim.model}")
    if found.arm is not None:
        yield from _row(
            "arm", f"{found.arm.name} by {found.arm.by}, {_percent(found.arm.share)} of the callers"
        )


def _request(asked: form.Asked) -> Iterator[str]:
    said = asked.inputs
    yield f"{asked.api} for {asked.model}"
    tokens = "1 token" if said.tokens == 1 else f"{said.tokens} tokens"
    yield f"about {tokens}" + (f", at most {said.max_tokens} out" if said.max_tokens else "")
    for name, there in {
        "streamed": asked.stream,
        "tools": said.tools,
        "JSON schema": said.json_schema,
        "a session": said.session,
        "a user": said.user,
    }.items():
        if there:
            yield name
    if said.modalities != ("text",):
        yield "+".join(said.modalities)
    for name, value in {
        "task": asked.task,
        "tags": ",".join(said.tags),
        "role": said.role,
        "stage": said.stage,
        "headers": ",".join(asked.headers),
        "metadata": ",".join(asked.metadata),
    }.items():
        if value:
            yield f"{name} {value}"
    if said.min_quality:
        yield f"quality from {said.min_quality:g} on"
    for name, reading in said.readings.items():
        yield f"{name} {_plain(reading)}"


def _client(found: form.Explanation) -> Iterator[str]:
    permission = found.permission
    caller = found.request.inputs.client or Caller()
    yield permission.client
    for name, value in (("tier", caller.tier), ("team", caller.team)):
        if value:
            yield f"{name} {value}"
    allowed = ", ".join(permission.models) or "all"
    yield f"may {'' if permission.allowed else 'not '}use the model (allowed: {allowed})"


def _guardrail(guardrail: form.Guardrail) -> Iterator[Line]:
    when = guardrail.when or "always"
    failed = ": its when cannot be evaluated, so it applies" if guardrail.failed else ""
    label, shade = ("applies", YELLOW) if guardrail.applies else ("no", DIM)
    yield from _row(f"  {label}", f"{guardrail.name} of {guardrail.policy}{failed}", shade)
    yield from _row("", f"when {when}", DIM)
    if guardrail.applies:
        yield from _row("", f"forbids {', '.join(guardrail.forbids) or 'none of these backends'}")


def _rule(rule: form.Rule) -> Iterator[Line]:
    if rule.won:
        yield from _row("  wins", rule.name, GREEN)
    elif rule.reached:
        yield from _row("  no", rule.name, DIM)
    else:
        would = "would match" if rule.matches else "would not match"
        yield from _row("  unread", f"{rule.name}: a rule before it has won ({would})", DIM)
    shade = PLAIN if rule.reached else DIM
    for field in rule.fields:
        yield from _row("", f"{field.field}: wants {field.wants}; has {field.has}", shade)
    if rule.held is None:
        yield from _row("", f"when cannot be evaluated: {rule.when}", YELLOW)
    elif rule.when:
        yield from _row("", f"when is {str(rule.held).lower()}: {rule.when}", shade)


def _select(select: form.Selected) -> Iterator[Line]:
    gain = f", the gain is {select.gain:.3f}" if select.gain is not None else ""
    yield from _row("select", f"by {select.by}: begins with tier {select.tier}{gain}")
    yield from _row("", select.why, DIM)
    for offer in select.offers:
        price = "no price" if offer.dollars is None else f"${offer.dollars:.6f}"
        yield from _row("", f"{offer.tier}: quality {offer.quality:.3f}, {price}")
    for tier, share in sorted(select.shares.items(), key=lambda one: -one[1]):
        yield from _row("", f"{tier} begins in {_percent(share)} of the draws")
    if select.left_out:
        yield from _row("", f"not fallen back to: {', '.join(select.left_out)}", DIM)


def _tier(tier: form.Tier) -> Iterator[Line]:
    left = [one for one in tier.candidates if one.state != "dropped"]
    later = any(one.state == "later" for one in left)
    yield Line(_clean(f"tier {tier.name}" + (", if those before fail" if later else "")))
    if tier.spilled:
        yield from _row("", f"is busy ({tier.spilled}): hands its requests on", YELLOW)
    if len(left) > 1:
        yield from _row("", f"by {tier.balance}: {tier.how}", DIM)
    if tier.panic:
        yield from _row("", "too much of it is ejected: ejections are ignored", YELLOW)
    for candidate in tier.candidates:
        yield from _candidate(candidate)
    if tier.hidden:
        yield from _row("", f"and {tier.hidden} more", DIM)


def _candidate(one: form.Candidate) -> Iterator[Line]:
    name = f"{one.backend}@{one.address}" if one.address else one.backend
    if one.endpoints > 1:
        name += f" ({one.endpoints} endpoints)"
    weight = "" if one.weight is None else f", weight {one.weight}"
    if one.state == "dropped":
        yield from _row("  dropped", f"{name}{weight}: {one.filter}: {one.why}", RED)
    else:
        label = _percent(one.share) if one.state == "candidate" else "later"
        shade = GREEN if one.share else PLAIN
        yield from _row(f"  {label}", f"{name}{weight}{_score(one)}", shade)
        if one.why:
            yield from _row("", one.why, YELLOW)
    known = ", ".join(_signal(signal) for signal in one.signals)
    if known and known != "in_flight 0":
        yield from _row("", known, DIM)


def _score(one: form.Candidate) -> str:
    if one.score is None:
        return ""
    said = {name: value for name, value in one.terms.items() if name in _MEASURES}
    parts = {
        name: value
        for name, value in one.terms.items()
        if name not in _MEASURES and name != _FACTOR
    }
    told = f": score {one.score:.4g}"
    if parts:
        told += " = " + " + ".join(f"{name} {value:.4g}" for name, value in parts.items())
    factor = one.terms.get(_FACTOR, 1.0)
    if factor != 1.0:
        told += f", times {factor:.3g} for errors"
    for name, value in said.items():
        told += f", {name} {value:.6g}"
    return told + (f", in group {one.group}" if one.group > 1 else "")


def _signal(signal: form.Signal) -> str:
    age = "" if signal.age_s is None else f" ({signal.age_s:.0f} s ago)"
    return f"{signal.name} {signal.value:.4g}{age}"


def _row(label: str, text: str, shade: str = PLAIN, *, wide: bool = False) -> Iterator[Line]:
    indent = 2 * _LABEL if wide else _LABEL
    yield from _wrapped(f"{label:<{indent - 1}} {text}", indent=indent, shade=shade)


def _wrapped(text: str, *, indent: int, shade: str = PLAIN) -> Iterator[Line]:
    text = _clean(text)
    # What begins the line is aligned already: wrapping must not touch its spaces.
    start, rest = text[:indent], text[indent:]
    lines = wrap(rest, WIDTH - indent, break_on_hyphens=False) or [""]
    yield Line((start + lines[0]).rstrip(), shade)
    for line in lines[1:]:
        yield Line(" " * indent + line, shade)


def _clean(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _plain(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
        case dict():
            pairs = cast("dict[str, object]", value).items()
            return ", ".join(f"{name} {_plain(one)}" for name, one in pairs) or "none"
        case list() | tuple():
            every = cast("Sequence[object]", value)
            return ", ".join(_plain(one) for one in every) or "none"
        case _:
            return str(value)
