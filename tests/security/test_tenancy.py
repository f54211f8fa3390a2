"""A tenant that reaches for what is another's: backends, Secrets, the platform's guardrails.

More of the same: tests/property/test_no_forbidden_backend.py (`make test-guardrails`) and
tests/unit/compiler/test_selectors.py.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from fakes.defences import off, passes, without
from fakes.worlds import backend, keyring, policy, rule, world
from switchboard_policy import ir
from switchboard_policy.compiler import compile as compiling
from switchboard_policy.compiler import resolve
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.world import Gateway, Name, PolicyObject, Secret

GATEWAY = Gateway("default", "switchboard", platform_namespace="platform")
THEIRS = "bank/model"
OURS = "shop/own"


def compiled(*objects: Any, secrets: tuple[Secret, ...] = ()) -> Compilation:
    return Compiler(GATEWAY, keyring()).compile(world(*objects, *secrets))


def reached(found: Compilation) -> set[str]:
    """The backends that policies of the tenant may send anything to."""
    entries = [one.entry for key, one in found.policy.items() if key.startswith("policy/shop/")]
    assert all(isinstance(one, ir.Policy) for one in entries)
    return {name for one in entries for name in (OURS, THEIRS) if name in repr(one)}


def tenant(*tiers: Iterable[str], **of_route: Any) -> PolicyObject:
    """A policy of the tenant that routes like this."""
    made = rule("default", *(tiers or (["own"],)))
    made["route"].update(of_route)
    return policy("chat", "shop", models=["chat"], rules=[made])


ASKED = {"namespace": "bank", "name": "model"}
WAYS: dict[str, Callable[[], PolicyObject]] = {
    "a-tier": lambda: tenant([THEIRS]),
    "a-tier-after-its-own": lambda: tenant(["own"], [THEIRS]),
    "a-mirror": lambda: tenant(mirror={"backend": ASKED, "sample": "0.1", "maxCost": "1"}),
}


@without(off(resolve, "consents", passes(value=True)))
@pytest.mark.parametrize("way", WAYS)
def test_a_backend_of_another_namespace_needs_its_consent(defended: bool, way: str) -> None:
    found = compiled(backend("own", "shop"), backend("model", "bank"), WAYS[way]())
    assert (THEIRS in reached(found)) is not defended


@pytest.mark.parametrize("said", [{"from": "Same"}, {"from": "Selector"}])
def test_silence_is_no_consent(said: dict[str, Any]) -> None:
    try:
        theirs = backend("model", "bank", allowedNamespaces=said)
    except ValueError:
        return  # The schema refuses a selector that is not there.
    found = compiled(backend("own", "shop"), theirs, tenant([THEIRS]))
    assert THEIRS not in reached(found)


def test_consent_that_is_withdrawn_acts_at_once() -> None:
    running = Compiler(GATEWAY, keyring())
    open_ = backend("model", "bank", allowedNamespaces={"from": "All"})
    before = running.compile(world(open_, tenant([THEIRS])))
    assert THEIRS in reached(before)
    after = running.compile(world(backend("model", "bank"), tenant([THEIRS])))
    assert THEIRS not in reached(after)


def test_a_backend_takes_no_secret_of_another_namespace() -> None:
    """A credential names a Secret alone, and it is looked for beside the backend."""
    secret = Secret(Name("bank", "keys"), "uid", "1", {"api-key": b"sk-canary"})
    thief = backend("own", "shop", credentials={"apiKey": {"secretName": "keys"}})
    found = compiled(thief, secrets=(secret,))
    assert not any(key.startswith("credential/") for key in found.policy)
    with pytest.raises(ValueError, match="namespace"):
        backend("own", "shop", credentials={"apiKey": {"secretName": "keys", "namespace": "bank"}})


@without(off(compiling, "platform_guardrails", passes(())))
@pytest.mark.parametrize("mine", [(), ({"name": "mine", "require": "true"},)])
def test_a_tenant_is_under_the_platforms_guardrails_whatever_its_own_say(
    defended: bool, mine: tuple[Any, ...]
) -> None:
    rails = [{"name": "none", "require": "false"}]
    found = compiled(
        backend("own", "shop"),
        policy("guard", "platform", guardrails=rails),
        policy(
            "chat",
            "shop",
            models=["chat"],
            rules=[rule("default", ["own"])],
            guardrails=list(mine),
        ),
    )
    entry = found.policy["policy/shop/chat"].entry
    assert isinstance(entry, ir.Policy)
    assert any(OURS in one.forbids for one in entry.guardrails) is defended
