"""What can be told of a recorded request: which rule takes it, which guardrails hold, or why not.

A record has no texts, and no values that its own policy did not read: a condition that needs them
is neither true nor false here, and is counted as such.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from switchboard_cli.review.records import Recorded
from switchboard_dataplane.decision.match import Conditions, mismatch
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Guardrail, Matcher, Policy, Rule
from switchboard_dataplane.decision.select import ROUTER
from switchboard_dataplane.learning.inputs import Inputs
from switchboard_policy.facts import SIGNAL_PREFIX, Program
from switchboard_policy.reads import facts_in, headers_in, metadata_in

#: Facts that every record has.
_ALWAYS: Final = frozenset({"request.model", "request.api", "request.stream"})
#: Facts that no record has.
_NEVER: Final = frozenset({"request.prompt", "request.system"})
#: Of a client that is anybody they are known to be empty.
_OF_KEYS: Final = frozenset({"client.models", "client.expires"})
#: What stands in for a reading that was not recorded, where its value is not gone by.
UNREAD: Final[Mapping[str, Any]] = {
    "task": "",
    "domain": "",
    "language": "",
    "complexity": 0.0,
    "sentiment": 0.0,
    "urgent": False,
    "code": False,
    "injection": False,
    "pii": (),
    "secrets": (),
    "intents": (),
    "sessionCost": 0.0,
    "lastModel": "",
    "embedding": (),
    "context": (),
}


@dataclass(frozen=True, slots=True)
class Reads:
    """What a condition reads: facts, and of headers and metadata those keys."""

    facts: tuple[str, ...]
    headers: frozenset[str] = frozenset()
    metadata: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule, and what its conditions read. ``bare`` is its matcher without what may be missing."""

    rule: Rule
    bare: Matcher | None
    api_only: Matcher | None
    reads: Reads | None


@dataclass(frozen=True, slots=True)
class Known:
    """A policy, ready to be told of; ``moved`` are facts that no record has for it any more."""

    policy: Policy
    rules: tuple[Asked, ...]
    rails: tuple[tuple[Guardrail, Reads | None], ...]
    unread: Mapping[str, Any]
    moved: frozenset[str]


class Untold(Exception):
    """Something cannot be told of a record; the text says what it needs."""


def know(policy: Policy, moved: frozenset[str] = frozenset()) -> Known:
    """Return a policy, ready to be told of."""
    unread = {name: UNREAD.get(name, {}) for name in policy.readings}
    return Known(
        policy=policy,
        rules=tuple(_asked(rule) for rule in policy.rules),
        rails=tuple((rail, _reads(rail.when)) for rail in policy.guardrails),
        unread=unread,
        moved=moved,
    )


def _asked(rule: Rule) -> Asked:
    matcher = rule.matcher
    bare = api_only = None
    if matcher is not None:
        bare = replace(matcher, keywords=(), system_prompt=(), headers=(), arms=frozenset())
        nobody = frozenset[str]()
        api_only = replace(
            bare, tags=nobody, tokens_min=None, tokens_max=None, roles=nobody, stages=nobody
        )
    return Asked(rule=rule, bare=bare, api_only=api_only, reads=_reads(rule.when))


def _reads(program: Program | None) -> Reads | None:
    if program is None:
        return None
    facts = facts_in(program.source)
    headers, metadata = headers_in(program.source), metadata_in(program.source)
    # Whoever reads all headers reads some that are not recorded.
    every = {fact for fact in facts if fact not in ("request.headers", "request.metadata")}
    every |= {"request.headers"} if headers.open else set()
    every |= {"request.metadata"} if metadata.open else set()
    return Reads(tuple(sorted(every)), headers.names, metadata.names)


def rule_of(known: Known, record: Recorded, view: RequestView, conditions: Conditions) -> Rule:
    """Return the rule that takes a request; raises Untold, LookupError where none does."""
    for asked in known.rules:
        said = _holds(asked, known, record, view, conditions)
        if isinstance(said, str):
            raise Untold(f'rule "{asked.rule.name}" of {known.policy.name} needs {said}')
        if said:
            return asked.rule
    raise LookupError(known.policy.name)


def _holds(
    asked: Asked, known: Known, record: Recorded, view: RequestView, conditions: Conditions
) -> bool | str:
    """Say whether a rule takes a request; a text says what is needed to know."""
    needs = ""
    if asked.rule.matcher is not None:
        said = _matches(asked, known, record, view, conditions)
        if said is False:
            return False
        needs = said if isinstance(said, str) else ""
    program, reads = asked.rule.when, asked.reads
    if program is None or reads is None:
        return needs or True
    missing = missing_of(reads, known, record)
    if missing:
        return needs or missing
    if not conditions.holds(program, on_error=False):
        return False
    return needs or True


def _matches(
    asked: Asked, known: Known, record: Recorded, view: RequestView, conditions: Conditions
) -> bool | str:
    matcher, bare = asked.rule.matcher, asked.bare if record.inputs else asked.api_only
    if matcher is None or bare is None:
        return True
    if mismatch(bare, view, conditions) is not None:
        return False
    headers: Mapping[str, str | None] = {} if record.inputs is None else record.inputs.headers
    needs: list[str] = []
    for name, value in matcher.headers:
        if name not in headers:
            needs.append(f"the header {name}")
        elif headers[name] is None or (value is not None and headers[name] != value):
            return False
    if matcher.arms:
        if not _arm_known(known, record):
            needs.append("the arm")
        elif record.arm not in matcher.arms:
            return False
    if record.inputs is None and _wants_inputs(matcher):
        needs.append("inputs, which this record is too old for")
    needs += ["the prompt (keywords)"] if matcher.keywords else []
    needs += ["the system prompt"] if matcher.system_prompt else []
    return needs[0] if needs else True


def _wants_inputs(matcher: Matcher) -> bool:
    fields = (matcher.tags, matcher.roles, matcher.stages, matcher.tokens_min, matcher.tokens_max)
    return any(one not in (None, frozenset()) for one in fields)


def _arm_known(known: Known, record: Recorded) -> bool:
    if "request.arm" in known.moved:
        return False
    arms = known.policy.arms
    return record.arm in {arm.name for arm in arms} if arms else True


def missing_of(reads: Reads, known: Known, record: Recorded) -> str:
    """Say which fact of a condition is not recorded; "" where all are."""
    for fact in reads.facts:
        if not _has(fact, known, record):
            return _called(fact, record)
    said = record.inputs
    for name in reads.headers:
        if said is None or name not in said.headers:
            return f"the header {name}"
    for name in reads.metadata:
        if said is None or name not in said.metadata:
            return f"the metadata {name}"
    return ""


def _has(fact: str, known: Known, record: Recorded) -> bool:
    if fact in known.moved or fact in _NEVER:
        return False
    if fact in _ALWAYS:
        return True
    if fact == "request.arm":
        return _arm_known(known, record)
    if fact.startswith(SIGNAL_PREFIX):
        return _was_read(fact.removeprefix(SIGNAL_PREFIX), record)
    return record.inputs is not None and _in_inputs(fact, record.inputs)


def _in_inputs(fact: str, said: Inputs) -> bool:
    match fact:
        case "request.user":
            return not said.user
        case "request.session":
            return not said.session
        case "request.headers" | "request.metadata":
            return False
        case _:
            return fact not in _OF_KEYS or said.client is None


def _was_read(name: str, record: Recorded) -> bool:
    if name == "task":
        return bool(record.task)
    if name == "complexity" and record.complexity is not None:
        return True
    return record.inputs is not None and name in record.inputs.readings


def _called(fact: str, record: Recorded) -> str:
    match fact:
        case "request.prompt":
            return "the prompt"
        case "request.system":
            return "the system prompt"
        case _ if record.inputs is None and not fact.startswith(SIGNAL_PREFIX):
            return "inputs, which this record is too old for"
        case _:
            return fact


def rails_of(
    known: Known, record: Recorded, rule: Rule, conditions: Conditions
) -> Iterator[tuple[Guardrail, str]]:
    """Yield the guardrails that hold for a request, and those of which that cannot be told.

    With each what would have to be known; "" for those that hold.
    """
    for rail, reads in known.rails:
        if rail.when is None or reads is None:
            yield rail, ""
            continue
        missing = missing_of(reads, known, record)
        if missing:
            if rail.forbids & rule.mask:
                yield rail, missing
        elif conditions.holds(rail.when, on_error=True):
            yield rail, ""


def select_needs(known: Known, rule: Rule, record: Recorded) -> str:
    """Say what a rule's select goes by that is not recorded; "" where it has all."""
    select = rule.select
    if select is None:
        return ""
    if select.by in ("Bandit", "Neighbours") or select.target_quality_permille is not None:
        return "what was learned of ratings"
    if select.by == "Classifier":
        found = record.inputs is not None and "classified" in record.inputs.readings
        return "" if found else "the classifier's answer"
    wanted = ["task"] if select.by in ("Quality", "Task") else []
    if record.inputs is not None and record.inputs.min_quality:
        wanted.append("task")
    if select.router:
        wanted.append(ROUTER + select.router)
    elif select.by == "Complexity":
        wanted.append("complexity")
    missing = next((name for name in wanted if not _was_read(name, record)), "")
    return f"signals.{missing}" if missing and not missing.startswith(ROUTER) else missing
