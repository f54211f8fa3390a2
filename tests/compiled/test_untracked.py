"""The garbage collector looks at nothing that a snapshot is made of, however often it is edited."""

import pytest

from switchboard_dataplane.decision import running
from switchboard_dataplane.signals.average import Average
from switchboard_dataplane.signals.breaker import Breaker

HAVE_GC = 1 << 14
"""Py_TPFLAGS_HAVE_GC."""


@pytest.mark.parametrize(
    "kind",
    [
        running.Policy,
        running.Rule,
        running.Matcher,
        running.Tier,
        running.Guardrail,
        running.Arm,
        running.Backend,
        running.Endpoint,
        Average,
        Breaker,
    ],
)
def test_an_object_of_a_snapshot_is_unknown_to_the_garbage_collector(kind: type) -> None:
    assert not kind.__flags__ & HAVE_GC
