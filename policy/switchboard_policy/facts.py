"""The facts that CEL expressions may read, and the one way in which both planes run them.

Facts are declared as dotted variables (``request.tokens``), so an unknown fact or a wrong type is
refused when the expression is compiled, with a caret under it. ``cel-expr-python`` wraps cel-cpp:
regular expressions are RE2 and run in linear time, evaluation takes microseconds.

Nothing in an expression makes a value that is larger than a fact: texts and lists cannot be joined,
and so there is neither ``map`` nor ``filter``, which join lists. A line of ``.map(a, a + a)`` would
double the prompt each time, and end the process that routes for everybody. What an expression takes
at worst is told when it is compiled: see ``costs``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cel_expr_python import cel

from switchboard_policy.costs.cost import Cost
from switchboard_policy.costs.estimate import estimate
from switchboard_policy.costs.tree import Node, read_tree
from switchboard_policy.errors import ExpressionError

_STRING = cel.Type.STRING
_STRINGS = cel.Type.List(_STRING)
_STRING_MAP = cel.Type.Map(_STRING, _STRING)
_DOUBLE = cel.Type.DOUBLE
_DOUBLE_MAP = cel.Type.Map(_STRING, _DOUBLE)

#: Facts that are read out of the texts, and only where somebody asks for them.
SIGNAL_PREFIX: Final = "signals."

#: What a rule's or a guardrail's ``when`` may read.
REQUEST_FACTS: Final[Mapping[str, cel.Type]] = {
    "request.model": _STRING,
    "request.api": _STRING,
    "request.tokens": cel.Type.INT,
    "request.maxTokens": cel.Type.INT,
    "request.stream": cel.Type.BOOL,
    "request.tools": cel.Type.BOOL,
    "request.modalities": _STRINGS,
    "request.headers": _STRING_MAP,
    "request.tags": _STRINGS,
    "request.metadata": _STRING_MAP,
    "request.user": _STRING,
    "request.session": _STRING,
    "request.system": _STRING,
    "request.prompt": _STRING,
    "request.role": _STRING,
    "request.stage": _STRING,
    "request.latencyClass": _STRING,
    "request.minQuality": _DOUBLE,
    "request.labels": _DOUBLE_MAP,
    "request.arm": _STRING,
    "client.kind": _STRING,
    "client.name": _STRING,
    "client.namespace": _STRING,
    "client.tier": _STRING,
    "client.team": _STRING,
    "client.labels": _STRING_MAP,
    "client.models": _STRINGS,
    "client.expires": _STRING,
    "signals.task": _STRING,
    "signals.domain": _STRING,
    "signals.language": _STRING,
    "signals.complexity": _DOUBLE,
    "signals.sentiment": _DOUBLE,
    "signals.urgent": cel.Type.BOOL,
    "signals.code": cel.Type.BOOL,
    "signals.injection": cel.Type.BOOL,
    "signals.pii": _STRINGS,
    "signals.secrets": _STRINGS,
    "signals.intents": _STRINGS,
    "signals.sessionCost": _DOUBLE,
    "signals.lastModel": _STRING,
}

#: What a cascade's ``when`` may read: of the answer that is judged. Its length is in characters;
#: ``cut`` says that it ended at its limit of tokens, ``json`` that the text is a JSON value.
ANSWER_FACTS: Final[Mapping[str, cel.Type]] = {
    "answer.text": _STRING,
    "answer.length": cel.Type.INT,
    "answer.finishReason": _STRING,
    "answer.empty": cel.Type.BOOL,
    "answer.refused": cel.Type.BOOL,
    "answer.cut": cel.Type.BOOL,
    "answer.json": cel.Type.BOOL,
    "answer.toolCalls": cel.Type.INT,
}

#: What a guardrail's ``require`` may read: known when the policy is compiled.
BACKEND_FACTS: Final[Mapping[str, cel.Type]] = {
    "backend.name": _STRING,
    "backend.namespace": _STRING,
    "backend.model": _STRING,
    "backend.external": cel.Type.BOOL,
    "backend.provider": _STRING,
    "backend.region": _STRING,
    "backend.zone": _STRING,
    "backend.jurisdiction": _STRING,
    "backend.labels": _STRING_MAP,
}

#: What the environment leaves out of CEL's own functions.
_WITHOUT_JOINING: Final = """
stdlib:
  exclude_functions:
  - name: _+_
    overloads: [{id: add_string}, {id: add_bytes}, {id: add_list}]
"""


def _get(mapping: Mapping[str, str], key: str) -> str:
    return mapping.get(key, "")


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled condition, and what an evaluation costs at worst."""

    source: str
    cost: Cost
    _compiled: cel.Expression

    def holds(self, facts: cel.Activation) -> bool | None:
        """Evaluate: true, false, or None where that fails (a missing map key)."""
        try:
            # An error is an ERROR value whose text is truthy: only the identity of a bool counts.
            outcome = self._compiled.eval(facts).value()
        except RuntimeError:
            # The engine gives up at 10,000 steps, which nested loops over a caller's list can take.
            return None
        return outcome if outcome is True or outcome is False else None

    def tree(self) -> Node:
        """Return what the condition says, as a tree."""
        return read_tree(self._compiled.serialize())


class Facts:
    """A CEL environment over one set of facts."""

    def __init__(self, variables: Mapping[str, cel.Type]) -> None:
        self._env = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_WITHOUT_JOINING),
            variables=variables,
            functions=[
                cel.FunctionDecl(
                    "get",
                    [
                        cel.Overload(
                            "map_get_or_empty",
                            return_type=_STRING,
                            parameters=[_STRING_MAP, _STRING],
                            is_member=True,
                            impl=_get,
                        )
                    ],
                )
            ],
        )

    def compile(self, source: str) -> Program:
        """Compile a condition.

        Raises ExpressionError with the place (a caret) and the reason, also where the
        expression is not a boolean.
        """
        try:
            compiled = self._env.compile(source)
        except RuntimeError as error:
            text = str(error).removeprefix("INVALID_ARGUMENT: ").removesuffix("[INVALID_ARGUMENT]")
            raise ExpressionError(text.replace("ERROR: <input>:", "at ").strip()) from error
        if compiled.return_type() != cel.Type.BOOL:
            name = compiled.return_type().name()
            raise ExpressionError(f"it is of type {name}, and not true or false")
        return Program(source, estimate(compiled.serialize()), compiled)

    def bind(self, values: Mapping[str, Any]) -> cel.Activation:
        """Bind the facts' values for any number of evaluations."""
        return self._env.Activation(values)


def regex_fault(pattern: str) -> str:
    """Say why a pattern is no RE2 expression; "" if it is one."""
    env = cel.NewEnv(variables={"pattern": _STRING})
    found = env.compile('"".matches(pattern)').eval(env.Activation({"pattern": pattern}))
    if found.type() == cel.Type.BOOL:
        return ""
    return str(found.value()).partition("invalid regular expression: ")[2] or "it is malformed"


def request_facts() -> Facts:
    """Build the environment of ``when``."""
    return Facts(REQUEST_FACTS)


def answer_facts() -> Facts:
    """Build the environment of a cascade's ``when``."""
    return Facts(ANSWER_FACTS)


def backend_facts() -> Facts:
    """Build the environment of ``require``."""
    return Facts(BACKEND_FACTS)
