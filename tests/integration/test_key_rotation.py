"""Scope keys are rotated with the chart's rights, real data planes and traffic that goes on."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy, secret
from integration.operator_bench import OperatorBench

SECRET = "switchboard-scope-default"
ROTATION_S = 120.0
API_KEY = "sk-rotation"

# A rotation waits more than it works: 40 s each, and more on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    made = OperatorBench(tmp_path, api, redis_server)
    made.gateway["keys"] = {"rotateAfter": "0s", "waitAtMost": "5m", "keepOldFor": "2s"}
    port = made.start_fake("a", "--api-key", API_KEY)
    keyed = {"credentials": {"apiKey": {"secretName": "keys"}}, "timeouts": PATIENT}
    made.apply(
        secret("keys", API_KEY), external("a", port, **keyed), policy("chat", "a", rule="old")
    )
    try:
        yield made
    finally:
        made.close()


class Keys:
    """The Secret's keys, as a person sees them."""

    def __init__(self, bench: OperatorBench) -> None:
        self._bench = bench

    def look(self) -> tuple[str, set[str]]:
        """Return the id in use, and all ids."""
        said = json.loads(self._bench.scope_key_file())
        return said["current"], set(said["keys"])

    def demand(self, value: str) -> None:
        """Ask for a rotation, as the documentation says."""
        self._bench.plane.kubectl(
            *("annotate", "secret", SECRET, "-n", self._bench.system, "--overwrite"),
            f"switchboard.dev/rotate={value}",
        )

    def await_ids(self, count: int) -> tuple[str, set[str]]:
        eventually(lambda: len(self.look()[1]) == count, what=f"{count} keys", timeout_s=ROTATION_S)
        return self.look()

    def await_current(self, other_than: str) -> str:
        eventually(
            lambda: self.look()[0] != other_than, what="another key in use", timeout_s=ROTATION_S
        )
        return self.look()[0]

    def await_signer(self, key_id: str) -> None:
        eventually(lambda: self._bench.signers() == {key_id}, what=f"all signed by {key_id}")

    def events(self) -> set[tuple[str, str]]:
        """Return type and reason of the events that ``kubectl describe secret`` shows."""
        text = self._bench.plane.kubectl(
            *("get", "events", "-n", self._bench.system, "-o", "json"),
            *("--field-selector", f"involvedObject.kind=Secret,involvedObject.name={SECRET}"),
        )
        return {(one["type"], one["reason"]) for one in json.loads(text)["items"]}


@contextmanager
def traffic(*planes: Running) -> Iterator[Counter[int]]:
    """Ask all data planes all the time; yields how often each status came."""
    seen, ended = Counter[int](), threading.Event()

    def ask(plane: Running) -> None:
        while not ended.is_set():
            seen[plane.chat("chat").status_code] += 1
            time.sleep(0.1)

    threads = [threading.Thread(target=ask, args=(plane,), daemon=True) for plane in planes]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join(120)


def await_rule(plane: Running, rule: str) -> None:
    eventually(_has_rule(plane, rule), what=f"rule {rule} at {plane.url}")


def _has_rule(plane: Running, rule: str) -> Callable[[], bool]:
    return lambda: plane.chat("chat").headers.get("x-switchboard-rule") == rule


def refused(plane: Running) -> str:
    return str(plane.ready()["refused"].get("channel/policy", ""))


def test_a_rotation_leaves_one_new_key_and_refuses_no_request(
    bench: OperatorBench, redis_server: RedisServer
) -> None:
    keys = Keys(bench)
    bench.start()
    first, _ = keys.look()
    one, two = bench.start_data_plane("pod-1"), bench.start_data_plane("pod-2")
    for plane in (one, two):
        await_rule(plane, "old")
    with traffic(one, two) as seen:
        keys.demand("because")
        current, _ = keys.await_ids(2)
        assert current == first, "given out, and not used yet"
        for name in ("pod-1", "pod-2"):
            bench.mount(name)
        second = keys.await_current(first)
        for name in ("pod-1", "pod-2"):
            bench.mount(name)
        keys.await_signer(second)
        assert keys.await_ids(1) == (second, {second})
        for name in ("pod-1", "pod-2"):
            bench.mount(name)
        bench.apply(policy("chat", "a", rule="new"))
        for plane in (one, two):
            await_rule(plane, "new")
            assert plane.ready()["refused"] == {}
        eventually(lambda: seen.total() > 100, what="requests meanwhile")
    assert set(seen) == {200}
    steps = {("Normal", f"ScopeKey{step}") for step in ("Added", "InUse", "Dropped")}
    eventually(lambda: steps <= keys.events(), what="an Event of each step")
    assert keys.events() == steps
    assert API_KEY not in bench.everything_stored()
    # What is on the disk of a data plane must outlive the old key, too.
    one.process.kill()
    redis_server.kill()
    again = bench.start_data_plane("pod-1")
    assert again.chat("chat").status_code == 200


def test_operators_that_end_in_the_middle_of_a_rotation_leave_it_to_the_next(
    bench: OperatorBench,
) -> None:
    keys = Keys(bench)
    operator = bench.start(pod="operator-0")
    first, _ = keys.look()
    plane = bench.start_data_plane("pod-1")
    await_rule(plane, "old")
    with traffic(plane) as seen:
        keys.demand("because")
        given_out = keys.await_ids(2)
        operator.process.kill()
        operator = bench.start(pod="operator-0")
        bench.apply(policy("chat", "a", rule="meanwhile"))
        await_rule(plane, "meanwhile")
        assert (keys.look(), bench.signers()) == (given_out, {first})
        bench.mount("pod-1")
        second = keys.await_current(first)
        operator.process.kill()
        bench.start(pod="operator-0")
        keys.await_signer(second)
        assert keys.await_ids(1) == (second, {second})
    assert set(seen) == {200}


def test_a_data_plane_that_slept_through_a_rotation_keeps_its_policy_until_it_has_the_key(
    bench: OperatorBench,
) -> None:
    keys = Keys(bench)
    bench.start()
    first, _ = keys.look()
    awake, asleep = bench.start_data_plane("pod-1"), bench.start_data_plane("pod-2")
    for plane in (awake, asleep):
        await_rule(plane, "old")
    asleep.process.pause()
    keys.demand("because")
    keys.await_ids(2)
    bench.mount("pod-1")
    second = keys.await_current(first)
    keys.await_ids(1)
    bench.mount("pod-1")
    bench.apply(policy("chat", "a", rule="new"))
    await_rule(awake, "new")
    asleep.process.resume()
    eventually(lambda: f"no key '{second}'" in refused(asleep), what="a word about the key")
    assert _has_rule(asleep, "old")()
    bench.mount("pod-2")
    await_rule(asleep, "new")
    eventually(lambda: refused(asleep) == "", what="nothing refused")


def test_a_data_plane_that_never_gets_the_key_holds_a_rotation_up_for_so_long_alone(
    bench: OperatorBench,
) -> None:
    bench.gateway["keys"]["waitAtMost"] = "8s"
    keys = Keys(bench)
    operator = bench.start()
    first, _ = keys.look()
    plane = bench.start_data_plane("pod-1")
    await_rule(plane, "old")
    keys.demand("because")
    second = keys.await_current(first)
    eventually(lambda: f"no key '{second}'" in refused(plane), what="a word about the key")
    late = ("Warning", "ScopeKeyInUse")
    eventually(lambda: late in keys.events(), what="an Event of a rotation that did not wait")
    assert "without waiting any longer for pod-1" in operator.process.log_text()
    keys.await_ids(1)
    assert _has_rule(plane, "old")()
    bench.mount("pod-1")
    bench.apply(policy("chat", "a", rule="new"))
    await_rule(plane, "new")


def test_a_deleted_secret_is_made_anew_and_traffic_goes_on(bench: OperatorBench) -> None:
    keys = Keys(bench)
    bench.start()
    first, _ = keys.look()
    plane = bench.start_data_plane("pod-1")
    await_rule(plane, "old")
    with traffic(plane) as seen:
        bench.plane.kubectl("delete", "secret", SECRET, "-n", bench.system)
        exists = ("get", "secret", SECRET, "-n", bench.system)
        eventually(lambda: bench.plane.try_kubectl(*exists).returncode == 0, what="a Secret again")
        second, ids = keys.look()
        assert ids == {second}
        assert second != first
        keys.await_signer(second)
        bench.apply(policy("chat", "a", rule="new"))
        eventually(lambda: f"no key '{second}'" in refused(plane), what="a word about the key")
        bench.mount("pod-1")
        await_rule(plane, "new")
    assert set(seen) == {200}
