"""A primary that dies, its last writes with it: the line heals without a person, in real processes.

Callers ask and edits are made all the time; no request fails, and no data plane goes back.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, Line, Running, eventually
from cluster.processes import ChildProcess
from cluster.redis_sentinel import SentinelRedis
from cluster.redis_server import RedisServer
from cluster.revisions import Watched, in_force, watching
from cluster.traffic import Traffic, traffic
from fakes.manifests import external, policy

HEALED_MAX_S = 300.0
"""Sentinels take 2 s, and half a minute where they stood still themselves."""
CALLERS = 2

Record = Callable[[str, object], None]


class Stage:
    """An operator and two data planes on a Redis with Sentinels, and two fakes that answer."""

    def __init__(self, folder: Path, api: ControlPlane, store: SentinelRedis) -> None:
        self.store = store
        self.line = Line(folder, api, store.servers[0], redis_url=store.url())
        self.line.apply(
            external("first", self.line.start_fake("a"), timeouts=PATIENT),
            external("second", self.line.start_fake("b"), timeouts=PATIENT),
            policy("chat", "first"),
        )
        self.operator = self.line.start_operator()
        self.planes = {name: self.line.start_data_plane(name) for name in ("pod-1", "pod-2")}
        eventually(lambda: self.everywhere("chat", "a"), what="a first answer")

    def epoch(self) -> int:
        """Return the epoch that the Lease has."""
        lease = self.line.plane.get("lease", "switchboard-operator", namespace=self.line.namespace)
        return int(lease["metadata"]["annotations"]["switchboard.dev/epoch"])

    def stored(self, server: RedisServer) -> set[str]:
        """Return the objects that a server's manifest names."""
        with self.store.client(server) as client:
            return {
                key.rpartition("/")[2]
                for key in client.hkeys("sb:{gw/default}:policy:manifest")
                if key.startswith("policy/")
            }

    def head(self, server: RedisServer) -> tuple[int, int]:
        """Return the revision that a server holds."""
        with self.store.client(server) as client:
            said = client.hmget("sb:{gw/default}:policy:head", "epoch", "sequence")
        epoch, sequence = (int(part or 0) for part in said)
        return epoch, sequence

    def everywhere(self, model: str, answerer: str) -> bool:
        """Whether each data plane has the model answered by that fake."""
        return all(plane.answerer(model) == answerer for plane in self.planes.values())

    def edit(self, number: int) -> None:
        """Make a policy that was not there."""
        self.line.apply(policy(f"edit-{number}", "second"))

    @contextmanager
    def calm(self) -> Iterator[tuple[Traffic, Watched]]:
        """Let callers ask all the time: none fails, and no data plane goes back."""
        with (
            watching(in_force(self.planes)) as watched,
            traffic(self.planes["pod-1"].url, callers=CALLERS) as called,
        ):
            yield called, watched
        called.check(at_least=20)
        watched.check("pod-")


pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def stage(api: ControlPlane, tmp_path: Path) -> Iterator[Stage]:
    with SentinelRedis(tmp_path / "redis") as store:
        made = Stage(tmp_path, api, store)
        try:
            yield made
        finally:
            made.line.close()


def kill_amid_edits(stage: Stage, *also: ChildProcess) -> tuple[RedisServer, float, set[str]]:
    """Let writes reach the primary alone, kill it; return it, when, and what no server has."""
    primary, replica = stage.store.primary, stage.store.replica
    stage.store.await_copy()
    stage.store.cut_replica()
    for number in range(3):
        stage.edit(number)
    eventually(lambda: stage.everywhere("edit-2", "b"), what="edits that will be lost")
    lost = stage.stored(primary) - stage.stored(replica)
    assert lost == {"edit-0", "edit-1", "edit-2"}
    assert stage.head(replica) < stage.head(primary)
    stage.store.watch()
    for each in also:
        each.kill()
    primary.kill()
    return primary, time.monotonic(), lost


def test_the_last_writes_that_a_failover_loses_are_written_again(
    stage: Stage, record_property: Record
) -> None:
    epoch = stage.epoch()
    with stage.calm():
        dead, died, lost = kill_amid_edits(stage)
        stage.edit(3)
        eventually(
            lambda: stage.everywhere("edit-3", "b"),
            what="an edit after the primary's death, in force",
            timeout_s=HEALED_MAX_S,
        )
        took_s = time.monotonic() - died
        healed = stage.store.primary
        assert healed is not dead
        eventually(
            lambda: lost | {"chat", "edit-3"} == stage.stored(healed),
            what="all that was lost",
            timeout_s=HEALED_MAX_S,
        )
        stage.line.await_condition("rp", "edit-3", "Programmed", status="True")
        # What was in force stayed so, and goes on to be followed.
        assert stage.everywhere("edit-0", "b")
        stage.line.apply(policy("chat", "second"))
        eventually(lambda: stage.everywhere("chat", "b"), what="an edit of what was there")
    assert stage.epoch() == epoch
    assert newcomer(stage).answerer("edit-1") == "b"
    record_property(
        "measured",
        f"a Sentinel failover that loses writes: the next edit in force after {took_s:.1f} s",
    )


def newcomer(stage: Stage) -> Running:
    """Start a data plane that knows nothing but the store."""
    plane = stage.line.start_data_plane("pod-new")
    assert plane.ready()["refused"] == {}
    return plane


def test_a_leader_that_dies_with_the_primary_is_followed_by_one_that_knows_what_was_lost(
    stage: Stage, record_property: Record
) -> None:
    epoch = stage.epoch()
    standby = stage.line.start_operator()
    with stage.calm() as (_, watched):
        dead, died, lost = kill_amid_edits(stage, stage.operator)
        stage.store.await_failover(dead)
        eventually(
            lambda: stage.stored(stage.store.primary) >= lost | {"chat"},
            what="all that was lost, by the next leader",
            timeout_s=HEALED_MAX_S,
        )
        healed_s = time.monotonic() - died
        stage.edit(3)
        eventually(lambda: stage.everywhere("edit-3", "b"), what="the next leader's edit")
        # What it wrote is above all that any data plane had seen of the dead primary.
        both = [watched.seen[f"{pod} policy"] for pod in ("pod-1", "pod-2")]
        eventually(
            lambda: all(seen[-1][0] == epoch + 1 for seen in both), what="revisions of its epoch"
        )
    assert stage.epoch() == epoch + 1
    assert standby.running
    record_property("measured", f"leader and primary dead at once: healed after {healed_s:.1f} s")
