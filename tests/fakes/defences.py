"""Attacks are tried twice: with the defence in place, and with that one defence switched off.

A test of ``@without(…)`` asserts that the attack succeeds exactly where ``defended`` is false. So
each shows that the attack is real, and that what stops it is what it says.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Switch(NamedTuple):
    """A function or constant of the product, and what stands in its place while it is off."""

    owner: Any
    name: str
    instead: Any


def off(owner: Any, name: str, instead: Any) -> Switch:
    """Name a defence; the tests fail where there is no such thing any more."""
    return Switch(owner, name, instead)


def without(*switches: Switch) -> pytest.MarkDecorator:
    """Run a test with the defence, and without it: without all of these at once."""
    names = "+".join(one.name.strip("_").lower() for one in switches)
    return pytest.mark.parametrize(
        "defended",
        [pytest.param((), id="defended"), pytest.param(switches, id=f"without-{names}")],
        indirect=True,
    )


def passes(value: object = None) -> Callable[..., Any]:
    """Return what answers the same to everybody: a check that finds nothing, for one."""
    return lambda *_, **__: value
