"""Condition types and reasons: the words in which a status speaks, and what each one means."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

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
    PROGRAMMED: "Every live data plane has the latest form of it in force.",
    READY: "The sum of the others, for people and for `kubectl wait`.",
    DEGRADED: "It works, but not as it was meant; there only while it is so.",
    RECONCILING: "Data planes have yet to take it over; there only while it is so (kstatus).",
    STALLED: "Only an edit or somebody's help gets it on; there only while it is so (kstatus).",
}

#: What each reason means, and what to do about it.
MEANINGS: Final[Mapping[Reason, str]] = {
    Reason.PENDING: "The operator has not seen the object yet. Is the operator running?",
    Reason.ACCEPTED: "All is well.",
    Reason.INVALID: "A field is wrong; the message names the field, the value and the fix.",
    Reason.INVALID_EXPRESSION: (
        "A `when` or `require` does not compile; the message has a caret under the place. The API "
        "server cannot see this, `switchboard validate` can."
    ),
    Reason.MODEL_NAME_CLAIMED: (
        "Another policy answers for the model name, by the order of namespaces, the priority, or "
        "the name. Rename, or raise `priority`."
    ),
    Reason.NAMESPACE_NOT_ADMITTED: (
        "No gateway serves policies of this namespace. Its administrator has to admit it."
    ),
    Reason.NOT_PLATFORM_NAMESPACE: (
        "A policy without models and rules is a platform guardrail, which only the platform's "
        "namespace may hold."
    ),
    Reason.RESOLVED_REFS: "All is well.",
    Reason.BACKEND_NOT_FOUND: "There is no ModelBackend of that name. Create it, or mend the name.",
    Reason.BACKEND_INVALID: "The ModelBackend is there, but not valid. See its own status.",
    Reason.REF_NOT_PERMITTED: (
        "The ModelBackend is in another namespace and does not allow this one. Its owner has to "
        "set `allowedNamespaces`."
    ),
    Reason.SERVICE_NOT_FOUND: "There is no Service of that name in the backend's namespace.",
    Reason.PORT_NOT_FOUND: "The Service has no such port; the message lists those that it has.",
    Reason.SECRET_NOT_FOUND: (
        "There is no such Secret, or it lacks the label that lets the operator read it; the "
        "message names the command."
    ),
    Reason.SECRET_KEY_MISSING: "The Secret has no such key; the message lists those that it has.",
    Reason.SECRET_INVALID: "The key's value cannot be sent as an API key: it is empty, say.",
    Reason.PROGRAMMED: "All is well.",
    Reason.NOT_REFERENCED: "No policy uses this backend, so no data plane needs it. It is ready.",
    Reason.NO_DATA_PLANES: "No data plane is running yet. The object itself is ready.",
    Reason.STORE_UNAVAILABLE: (
        "The operator cannot write to Redis; the message says why. What is in force stays so, and "
        "the edit goes out once Redis takes it."
    ),
    Reason.WAITING_FOR_PODS: "Some data planes have not taken it over yet; the message names them.",
    Reason.REFUSED_BY_POD: "A data plane refuses it; the message has the pod's reason.",
    Reason.LAST_GOOD_IN_FORCE: (
        "The latest edit is not valid; the last good one stays in force until it is mended."
    ),
    Reason.UNREACHABLE_RULE: "A rule before it matches all that it matches. Move or narrow one.",
    Reason.TIER_EMPTIED_BY_GUARDRAIL: "Guardrails forbid every backend of a tier.",
    Reason.RULE_WITHOUT_BACKENDS: "No backend of a rule can be used: its requests are refused.",
    Reason.API_NOT_OFFERED: "No backend of a rule serves an API that the rule matches.",
    Reason.GUARDRAIL_TRUSTS_CALLER: (
        "A guardrail applies only where the caller says so, in tags, headers and the like: it "
        "protects nothing from a caller who does not."
    ),
    Reason.NO_EFFECT: (
        "Something that a tier says, or a backend, does nothing with what the others say: a "
        "threshold of what no backend counts, say. The message names the field and the fix."
    ),
    Reason.READY: "All is well.",
}
