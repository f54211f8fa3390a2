"""Condition types and reasons: the words in which a status speaks, and what each one means."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

ACCEPTED: Final = "Accepted"
RESOLVED_REFS: Final = "ResolvedRefs"
PROGRAMMED: Final = "Programmed"
READY: Final = "Ready"
DEGRADED: Final = "Degraded"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"


class Reason(StrEnum):
    """Every reason that a condition can have."""

    PENDING = "Pending"
    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    INVALID_EXPRESSION = "InvalidExpression"
    MODEL_NAME_CLAIMED = "ModelNameClaimed"
    NAMESPACE_NOT_ADMITTED = "NamespaceNotAdmitted"
    NOT_PLATFORM_NAMESPACE = "NotPlatformNamespace"
    RESOLVED_REFS = "ResolvedRefs"
    BACKEND_NOT_FOUND = "BackendNotFound"
    BACKEND_INVALID = "BackendInvalid"
    REF_NOT_PERMITTED = "RefNotPermitted"
    SERVICE_NOT_FOUND = "ServiceNotFound"
    PORT_NOT_FOUND = "PortNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a password
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105 - a reason, not a password
    SECRET_INVALID = "SecretInvalid"  # noqa: S105 - a reason, not a password
    PROGRAMMED = "Programmed"
    NOT_REFERENCED = "NotReferenced"
    NO_DATA_PLANES = "NoDataPlanes"
    STORE_UNAVAILABLE = "StoreUnavailable"
    WAITING_FOR_PODS = "WaitingForPods"
    REFUSED_BY_POD = "RefusedByPod"
    LAST_GOOD_IN_FORCE = "LastGoodInForce"
    UNREACHABLE_RULE = "UnreachableRule"
    TIER_EMPTIED_BY_GUARDRAIL = "TierEmptiedByGuardrail"
    RULE_WITHOUT_BACKENDS = "RuleWithoutBackends"
    API_NOT_OFFERED = "ApiNotOffered"
    GUARDRAIL_TRUSTS_CALLER = "GuardrailTrustsCaller"
    NO_EFFECT = "NoEffect"
    READY = "Ready"


#: What each type of condition says where it is True.
TYPES: Final[Mapping[str, str]] = {
    ACCEPTED: "The object is valid, and a gateway serves its namespace.",
    RESOLVED_REFS: "Everything that it refers to is there, and may be referred to.",
    PROGRAMMED: "Every data plane that was there took over the latest edit.",
    READY: "The sum of the others, for people and for `kubectl wait`.",
    DEGRADED: "It works, but not as it was meant; there only while it is so.",
    RECONCILING: "Data planes have yet to take it over; there only while it is so (kstatus).",
    STALLED: "Only an edit or somebody's help gets it on; there only while it is so (kstatus).",
}

ConditionStatus = Literal["True", "False", "Unknown"]


class Stand(NamedTuple):
    """A condition of this type and status."""

    type: str
    status: ConditionStatus


class Explanation(NamedTuple):
    """Which conditions give a reason, what it means, and what to do about it ("" if nothing)."""

    stands: tuple[Stand, ...]
    meaning: str
    remedy: str = ""


_NOT_READY: Final = Stand(READY, "False")
_REJECTED: Final = (
    Stand(ACCEPTED, "False"),
    Stand(PROGRAMMED, "False"),
    Stand(STALLED, "True"),
    _NOT_READY,
)
_UNRESOLVED: Final = (Stand(RESOLVED_REFS, "False"), _NOT_READY)
_UNPROGRAMMED: Final = (Stand(PROGRAMMED, "False"),)
_UNDER_WAY: Final = (Stand(PROGRAMMED, "False"), Stand(RECONCILING, "True"), _NOT_READY)
_WARNED: Final = (Stand(DEGRADED, "True"),)

#: Every reason, explained: docs/reference/conditions.md is made of it.
REASONS: Final[Mapping[Reason, Explanation]] = {
    Reason.PENDING: Explanation(
        (Stand(ACCEPTED, "Unknown"), Stand(READY, "Unknown"), *_UNDER_WAY),
        "The operator has not seen the object yet (Unknown), or is publishing it (False).",
        "If it stays Unknown for more than a few seconds: does an operator run, and does it watch "
        "the namespace?",
    ),
    Reason.ACCEPTED: Explanation((Stand(ACCEPTED, "True"),), "All is well."),
    Reason.INVALID: Explanation(
        _REJECTED, "A field is wrong.", "The message names the field, the value and the fix."
    ),
    Reason.INVALID_EXPRESSION: Explanation(
        _REJECTED,
        "A `when` or `require` does not compile, or could take too long, as a `regex` may. The "
        "schema of the kind cannot tell.",
        "The message has a caret under the place. Admission and `switchboard validate` tell it "
        "before.",
    ),
    Reason.MODEL_NAME_CLAIMED: Explanation(
        (*_WARNED, _NOT_READY),
        "Another policy answers for a model name of this one, by the order of namespaces, the "
        "priority, or the name. One that has no name left is not ready.",
        "Rename, or raise `priority`.",
    ),
    Reason.NAMESPACE_NOT_ADMITTED: Explanation(
        _REJECTED,
        "No gateway serves policies of this namespace.",
        "The administrator of a gateway has to admit it.",
    ),
    Reason.NOT_PLATFORM_NAMESPACE: Explanation(
        _REJECTED,
        "A policy without models and rules is a platform guardrail, which only the platform's "
        "namespace may hold.",
        "Move it there, or give it models and rules.",
    ),
    Reason.RESOLVED_REFS: Explanation((Stand(RESOLVED_REFS, "True"),), "All is well."),
    Reason.BACKEND_NOT_FOUND: Explanation(
        _UNRESOLVED, "There is no ModelBackend of that name.", "Create it, or mend the name."
    ),
    Reason.BACKEND_INVALID: Explanation(
        _UNRESOLVED, "The ModelBackend is there, but not valid.", "See its own status."
    ),
    Reason.REF_NOT_PERMITTED: Explanation(
        _UNRESOLVED,
        "The ModelBackend is in another namespace and does not allow this one, or no more.",
        "Its owner has to set `allowedNamespaces`.",
    ),
    Reason.SERVICE_NOT_FOUND: Explanation(
        _UNRESOLVED,
        "There is no Service of that name in the backend's namespace.",
        "Create it, or mend the name.",
    ),
    Reason.PORT_NOT_FOUND: Explanation(
        _UNRESOLVED, "The Service has no such port.", "The message lists those that it has."
    ),
    Reason.SECRET_NOT_FOUND: Explanation(
        _UNRESOLVED,
        "There is no such Secret, or it lacks the label that lets the operator read it.",
        "The message names the command.",
    ),
    Reason.SECRET_KEY_MISSING: Explanation(
        _UNRESOLVED, "The Secret has no such key.", "The message lists those that it has."
    ),
    Reason.SECRET_INVALID: Explanation(
        _UNRESOLVED,
        "The key's value cannot be sent as an API key: it is empty, say. Or it is a client's.",
        "Put the key there as the provider gave it, in a Secret that is no client's.",
    ),
    Reason.PROGRAMMED: Explanation((Stand(PROGRAMMED, "True"),), "All is well."),
    Reason.NOT_REFERENCED: Explanation(
        _UNPROGRAMMED,
        "No policy uses this backend, so no data plane needs it. It is ready.",
        "Refer to it, or delete it.",
    ),
    Reason.NO_DATA_PLANES: Explanation(
        _UNPROGRAMMED,
        "No data plane is running yet. The object itself is ready.",
        "Start one: does the gateway's Deployment have pods?",
    ),
    Reason.STORE_UNAVAILABLE: Explanation(
        _UNDER_WAY,
        "The operator cannot write to Redis; the message says why. What is in force stays so, and "
        "the edit goes out once Redis takes it.",
        "Mend Redis.",
    ),
    Reason.WAITING_FOR_PODS: Explanation(
        _UNDER_WAY,
        "Some data planes have not taken it over yet.",
        "The message names them; look at one that is silent or stays behind, and at its `/readyz`.",
    ),
    Reason.REFUSED_BY_POD: Explanation(
        (Stand(PROGRAMMED, "False"), Stand(STALLED, "True"), _NOT_READY),
        "A data plane refuses it, and keeps what it had.",
        "The message has the pod and its reason. After an upgrade: is the pod of the same version?",
    ),
    Reason.LAST_GOOD_IN_FORCE: Explanation(
        (Stand(PROGRAMMED, "False"), Stand(DEGRADED, "True")),
        "The latest edit is not valid; the last good one is in force in its place.",
        "Correct the edit; `Accepted` says what is wrong.",
    ),
    Reason.UNREACHABLE_RULE: Explanation(
        _WARNED, "A rule before it matches all that it matches.", "Move or narrow one."
    ),
    Reason.TIER_EMPTIED_BY_GUARDRAIL: Explanation(
        _WARNED,
        "Guardrails forbid every backend of a tier.",
        "Add a backend that they allow, or drop the tier.",
    ),
    Reason.RULE_WITHOUT_BACKENDS: Explanation(
        _WARNED,
        "No backend of a rule can be used: its requests are refused.",
        "Mend the references, or add a backend.",
    ),
    Reason.API_NOT_OFFERED: Explanation(
        _WARNED,
        "No backend of a rule serves an API that the rule matches.",
        "Narrow the match, or add a backend that serves it.",
    ),
    Reason.GUARDRAIL_TRUSTS_CALLER: Explanation(
        _WARNED,
        "A guardrail applies only where the caller says so, in tags, headers and the like: it "
        "protects nothing from a caller who does not.",
        "Have it apply without `when`, or by what a caller cannot choose.",
    ),
    Reason.NO_EFFECT: Explanation(
        _WARNED,
        "Something that a tier says, or a backend, does nothing with what the others say: a "
        "threshold of what no backend counts, say.",
        "The message names the field and the fix.",
    ),
    Reason.READY: Explanation((Stand(READY, "True"),), "All is well."),
}
