"""Guardrails: ``require`` is settled here, for every backend, so that at run time it is a mask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from switchboard_policy import ir
from switchboard_policy.compiler.traits import Traits, traits_of
from switchboard_policy.compiler.world import BackendObject, Name
from switchboard_policy.errors import ExpressionError
from switchboard_policy.facts import Program, backend_facts
from switchboard_policy.v1alpha1.modelbackend import AllowedNamespaces
from switchboard_policy.v1alpha1.routingpolicy import Guardrail

#: Programs kept compiled, by source: a compilation takes a millisecond, 2,000 policies share few.
PROGRAMS_MAX: Final = 4_096
#: Verdicts kept, by source and backend (200 bytes each): an evaluation takes ten microseconds.
VERDICTS_MAX: Final = 65_536

#: The guardrails of one owner.
Owned = tuple[Name, tuple[Guardrail, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """All that policies see of a backend; a new one where that changed: identity is its version.

    ``facts`` are what ``require`` may read; those not said are "". ``allowed`` says who may refer
    to it; None where the backend is invalid and always was.
    """

    facts: Mapping[str, object]
    allowed: AllowedNamespaces | None = None
    apis: Sequence[ir.Api] | None = None
    traits: Traits = Traits()  # noqa: RUF009 - it is frozen

    def says_the_same_as(self, other: "Known") -> bool:
        """Compare by what is seen."""
        mine = (self.facts, self.allowed, self.apis, self.traits)
        return mine == (other.facts, other.allowed, other.apis, other.traits)


def as_known(backend: BackendObject) -> Known:
    """Return what policies see of a backend."""
    spec = backend.effective
    if spec is None:
        return Known({})
    return Known(
        facts={
            "backend.name": backend.name.name,
            "backend.namespace": backend.name.namespace,
            "backend.model": spec.model,
            "backend.external": spec.external is not None,
            "backend.provider": spec.external.provider if spec.external else "openai-compatible",
            "backend.region": spec.locality.region or "",
            "backend.zone": spec.locality.zone or "",
            "backend.jurisdiction": spec.locality.jurisdiction or "",
            "backend.labels": dict(backend.labels),
        },
        allowed=spec.allowed_namespaces,
        apis=spec.capabilities.apis,
        traits=traits_of(spec),
    )


class Requirements:
    """Evaluates ``require``, remembering programs and verdicts; bounded, pure to its callers."""

    def __init__(self) -> None:
        self._facts = backend_facts()
        self._program: Callable[[str], Program | None] = lru_cache(PROGRAMS_MAX)(self._compile)
        self._meets: Callable[[str, Known], bool] = lru_cache(VERDICTS_MAX)(self._evaluate)

    def lower(self, owned: Owned, backends: Mapping[Name, Known]) -> list[ir.Guardrail]:
        """Compile the guardrails of one owner for the backends that a policy names."""
        owner, guardrails = owned
        return [
            ir.Guardrail(
                name=guardrail.name,
                policy=str(owner),
                forbids=self._forbidden(guardrail.require, backends),
                when=guardrail.when or "",
            )
            for guardrail in guardrails
        ]

    def _forbidden(self, require: str, backends: Mapping[Name, Known]) -> tuple[str, ...]:
        return tuple(
            sorted(str(name) for name, known in backends.items() if not self._meets(require, known))
        )

    def _compile(self, source: str) -> Program | None:
        try:
            return self._facts.compile(source)
        except ExpressionError:
            return None

    def _evaluate(self, source: str, known: Known) -> bool:
        program = self._program(source)
        # Bound anew each time: a binding keeps the memory of every evaluation until it goes.
        return program is not None and program.holds(self._facts.bind(known.facts)) is True


def always_forbidden(guardrails: Sequence[ir.Guardrail]) -> frozenset[str]:
    """Return the backends that guardrails without ``when`` forbid."""
    return frozenset(name for each in guardrails if not each.when for name in each.forbids)
