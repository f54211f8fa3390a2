"""An edit that comes before anyone has noticed a loss: a new data plane gets all of it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from integration.operator_bench import OperatorBench

POLICIES = 40
ROUNDS = 3


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    made = OperatorBench(tmp_path, api, redis_server)
    made.apply(
        external("a", made.start_fake("a")),
        *(policy(f"model-{number}", "a") for number in range(POLICIES)),
    )
    try:
        yield made
    finally:
        made.close()


def test_the_first_edit_after_a_flush_brings_every_entry_back(bench: OperatorBench) -> None:
    bench.start()
    bench.await_key(bench.key("policy", f"model-{POLICIES - 1}"))
    # Again and again: the operator's own upkeep, every 5 s, must not be what mends it each time.
    mended_s = list[float]()
    for number in range(ROUNDS):
        bench.flush()
        bench.apply(policy(f"edit-{number}", "a"))
        bench.await_key(bench.key("policy", f"edit-{number}"))
        named = bench.digests()
        assert len(named) == 1 + POLICIES + 1 + number
        assert set(named.values()) <= bench.stored_entries()
        began = time.monotonic()
        eventually(lambda: bench.head("endpoints")[1] > 0, what="the other channel")
        mended_s.append(time.monotonic() - began)
    assert min(mended_s) < 1
    bench.flush()
    bench.apply(policy("last", "a"))
    bench.await_key(bench.key("policy", "last"))
    plane = bench.start_data_plane("pod-new")
    assert plane.ready()["refused"] == {}
    assert plane.chat("last").status_code == 200
    assert plane.chat("model-0").status_code == 200
