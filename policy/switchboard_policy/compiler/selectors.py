"""Who is admitted and who consents: namespaces against gateways and backends."""

from collections.abc import Mapping

from switchboard_policy.compiler.world import Gateway
from switchboard_policy.v1alpha1.modelbackend import (
    AllowedNamespaces,
    LabelSelector,
    LabelSelectorRequirement,
)

Labels = Mapping[str, str]


def admits(gateway: Gateway, namespace: str, labels: Labels | None) -> bool:
    """Say whether the gateway serves policies of a namespace.

    ``labels`` are the namespace's; None where the namespace is not known, which admits only
    what does not depend on them.
    """
    match gateway.admit:
        case "All":
            return True
        case "Same":
            return namespace == gateway.namespace
        case "Selector":
            return labels is not None and _has(labels, gateway.selector)


def admits_clients(gateway: Gateway, namespace: str, labels: Labels | None) -> bool:
    """Say whether client Secrets of a namespace (labels above) are keys of the gateway."""
    match gateway.clients_from:
        case "All":
            return True
        case "Same":
            return namespace == gateway.namespace
        case "Selector":
            return labels is not None and _has(labels, gateway.clients_selector)


def consents(allowed: AllowedNamespaces, namespace: str, labels: Labels | None) -> bool:
    """Say whether a backend may be referred to by policies of another namespace (labels above)."""
    match allowed.from_:
        case "All":
            return True
        case "Same":
            return False
        case "Selector":
            # Without a selector nothing was said, and silence is no consent.
            return (
                labels is not None
                and allowed.selector is not None
                and selects(allowed.selector, labels)
            )


def selects(selector: LabelSelector, labels: Labels) -> bool:
    """Apply a label selector with Kubernetes' meaning: all terms; an empty one selects all."""
    return _has(labels, selector.match_labels or {}) and all(
        _meets(labels, term) for term in selector.match_expressions or ()
    )


def _has(labels: Labels, wanted: Labels) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _meets(labels: Labels, term: LabelSelectorRequirement) -> bool:
    value = labels.get(term.key)
    match term.operator:
        case "In":
            return value is not None and value in (term.values or ())
        case "NotIn":
            return value is None or value not in (term.values or ())
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
