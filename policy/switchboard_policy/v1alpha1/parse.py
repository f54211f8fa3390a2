"""Manifest → spec, or what is wrong with it: the parse step, and the same verdict as admission.

Total: any JSON value gives either a spec or problems, never an exception. The shape is checked
first (pydantic), then the rules (CEL and unique lists), then the policy's own expressions, which
the API server cannot check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError

from switchboard_policy.costs.cost import Cost
from switchboard_policy.costs.patterns import measure_pattern
from switchboard_policy.errors import ExpressionError
from switchboard_policy.facts import (
    Facts,
    answer_facts,
    backend_facts,
    regex_fault,
    request_facts,
)
from switchboard_policy.schemas import compile_schema
from switchboard_policy.v1alpha1.common import Model
from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.crd import structural_schema
from switchboard_policy.v1alpha1.expressions import (
    Conditions,
    Verdict,
    answer_conditions,
    backend_conditions,
    request_conditions,
    too_costly,
)
from switchboard_policy.v1alpha1.json_values import is_list, is_map
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.problems import Problem, bounded, show
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec
from switchboard_policy.v1alpha1.rules import SchemaRules
from switchboard_policy.v1alpha1.shape import problem_of

__all__ = ["Parsed", "Parser", "Problem"]

#: The models are eleven deep; the rest is an attack or an accident.
DEPTH_MAX: Final = 32

SpecT = TypeVar("SpecT", bound=Model)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[SpecT]):
    """The outcome: ``spec`` is None if, and only if, there are problems."""

    spec: SpecT | None
    problems: tuple[Problem, ...] = ()


class Parser:
    """Parses both kinds; holds what is compiled once, so make one and pass it on.

    It remembers verdicts on expressions, and so belongs to one thread.
    """

    def __init__(self, *, request: Facts | None = None, backend: Facts | None = None) -> None:
        self._request = request_conditions(request or request_facts())
        self._backend = backend_conditions(backend or backend_facts())
        self._answer = answer_conditions(answer_facts())
        self._backend_form = _Form(ModelBackendSpec)
        self._policy_form = _Form(RoutingPolicySpec)

    def parse_backend(self, manifest: object) -> Parsed[ModelBackendSpec]:
        """Parse the ``spec`` of a ModelBackend, as it came from the API server or from a file."""
        return self._backend_form.parse(manifest)

    def parse_policy(self, manifest: object) -> Parsed[RoutingPolicySpec]:
        """Parse the ``spec`` of a RoutingPolicy and compile its expressions."""
        parsed = self._policy_form.parse(manifest)
        if parsed.spec is not None and (found := list(self._expression_problems(parsed.spec))):
            return Parsed(None, bounded(found))
        return parsed

    def _expression_problems(self, spec: RoutingPolicySpec) -> Iterator[Problem]:
        for index, guardrail in enumerate(spec.guardrails):
            place = f"spec.guardrails[{index}]"
            yield from _judged(guardrail.when, f"{place}.when", self._request)
            yield from _judged(guardrail.require, f"{place}.require", self._backend)
        for index, rule in enumerate(spec.rules or ()):
            yield from _judged(rule.when, f"spec.rules[{index}].when", self._request)
            if rule.route.cascade is not None:
                place = f"spec.rules[{index}].route.cascade.accept"
                accept = rule.route.cascade.accept
                yield from _judged(accept.when, f"{place}.when", self._answer)
                yield from _regex_problems(accept.regex, f"{place}.regex")
                yield from _schema_problems(accept.json_schema, f"{place}.jsonSchema")


class _Form(Generic[SpecT]):
    """A model and the rules of its schema."""

    def __init__(self, model: type[SpecT]) -> None:
        self._model = model
        self._schema = structural_schema(model)
        self._rules = SchemaRules(self._schema)

    def parse(self, manifest: object) -> Parsed[SpecT]:
        spec = manifest.get("spec") if is_map(manifest) else None
        if not is_map(spec):
            problem = Problem(
                field="spec",
                message="there is no spec" if spec is None else "the spec is no map",
                value="" if spec is None else show(spec),
                fix="write a map of the kind's fields",
            )
            return Parsed(None, (problem,))
        try:
            valid = self._model.model_validate(_tidy(spec), by_alias=True, by_name=False)
        except ValidationError as error:
            details = error.errors(include_url=False)
            found = [problem_of(each, root=("spec",), schema=self._schema) for each in details]
            return Parsed(None, bounded(found))
        data = valid.model_dump(by_alias=True, exclude_none=True)
        problems = bounded(list(self._rules.check(data, path=("spec",))))
        return Parsed(None if problems else valid, problems)


def _judged(source: str | None, field: str, conditions: Conditions) -> Iterator[Problem]:
    if source is None:
        return
    verdict = conditions.verdict(source)
    if verdict is not None:
        message, fix = verdict
        yield Problem(
            field=field,
            message=message,
            value=show(source),
            fix=fix,
            reason=Reason.INVALID_EXPRESSION,
        )


def _regex_problems(pattern: str | None, field: str) -> Iterator[Problem]:
    if pattern is None:
        return
    verdict: Verdict | None
    if fault := regex_fault(pattern):
        verdict = (
            f"{show(pattern)} is no regular expression of RE2: {fault}",
            "correct it; RE2 has no lookaround and no back references",
        )
    else:
        measured = measure_pattern(pattern)
        verdict = too_costly(Cost(measured.build_ns, (("answer.text", measured.ns),)))
    if verdict is not None:
        message, fix = verdict
        yield Problem(
            field=field,
            message=message,
            value=show(pattern),
            fix=fix,
            reason=Reason.INVALID_EXPRESSION,
        )


def _schema_problems(text: str | None, field: str) -> Iterator[Problem]:
    if text is None:
        return
    try:
        compile_schema(text)
        fault = ""
    except ExpressionError as error:
        fault = str(error)
    if fault:
        yield Problem(
            field=field,
            message=f"{show(text)} is no schema that answers can be checked by: {fault}",
            value=show(text),
            fix='write a JSON Schema as one text, for instance \'{"type": "object"}\'',
            reason=Reason.INVALID_EXPRESSION,
        )


def _tidy(value: Any, depth: int = 0) -> Any:
    """Return the value as the API server would see it: no nulls in maps, 1.0 is the integer 1.

    What is deeper than any field becomes None, which no field accepts.
    """
    if depth > DEPTH_MAX:
        return None
    if is_map(value):
        return {key: _tidy(child, depth + 1) for key, child in value.items() if child is not None}
    if is_list(value):
        return [_tidy(item, depth + 1) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
