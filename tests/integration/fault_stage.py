"""Where faults are played: an operator, data planes, callers, and objects that stay as they are."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from cluster.line import PATIENT, STEADY_LEASE, Running, eventually, patience_s
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from fakes.routers import fitted, rows
from integration.operator_bench import OperatorBench
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing.artifact import digest_of
from switchboard_dataplane.choosing.routers import file_name

SUMMARY = "switchboard-status-default"
BYSTANDERS = tuple(f"by-{number}" for number in range(3))
ASK_EVERY_S = 0.1
CALM_S = 3.0
"""Longer than a status takes to be written, and than pods have before they are waited for."""
AT_ONCE_S = 5.0
"""What needs no timer takes milliseconds; pods have a second before they are waited for."""
NICE_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 300)
"""Measured times are rounded up to these: a table that changes with every run is read by nobody."""
LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; ``at_most_s`` is for a machine that has time for it.

    The table is only written where that was kept.
    """

    fault: str
    sees: str
    where: str
    seen_s: float
    at_most_s: float

    def cells(self) -> tuple[str, ...]:
        nice = next(each for each in NICE_S if self.seen_s <= each)
        return (self.fault, self.sees, self.where, f"{nice:g} s", f"{self.at_most_s:g} s")


@dataclass
class Callers:
    """Somebody who asks data planes all the time."""

    planes: list[Running]
    seen: Counter[str] = field(default_factory=Counter[str])

    @contextmanager
    def asking(self) -> Iterator[None]:
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                for plane in list(self.planes):
                    try:
                        self.seen[plane.answerer(BYSTANDERS[0])] += 1
                    except httpx2.HTTPError as error:
                        self.seen[type(error).__name__] += 1
                ended.wait(ASK_EVERY_S)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(120)


class Stage:
    """An operator and two data planes, policies that no fault is to touch, and callers."""

    def __init__(self, bench: OperatorBench, store: RedisServer) -> None:
        self.bench, self.store = bench, store
        self.rows: dict[str, Row] = {}
        self.operators: list[Running] = []
        self.pods: list[Running] = []
        self.callers = Callers([])
        self.router = ""
        label = bench.gateway["selector"]
        self.elsewhere = bench.plane.create_namespace("elsewhere", labels=label)
        self._logged: dict[str, int] = {}

    def start(self) -> None:
        """Start everything; only pod-1 has the ``router``."""
        bench, routers = self.bench, self.bench.folder / "routers"
        routers.mkdir()
        artifact = store_fit(fitted().fit, rows())
        self.router = digest_of(artifact)
        (routers / file_name(self.router)).write_bytes(artifact)
        bench.apply(external("a", bench.start_fake("a"), timeouts=PATIENT))
        bench.apply(*(policy(name, "a") for name in BYSTANDERS))
        self.start_operator("operator-0")
        self.pods = [
            bench.start_data_plane("pod-1", "--routers", str(routers)),
            bench.start_data_plane("pod-2"),
        ]
        self.callers.planes = list(self.pods)
        self.await_calm()

    def start_operator(self, pod: str, *, lease: Mapping[str, str] = STEADY_LEASE) -> Running:
        """Start a replica."""
        self.bench.lease = dict(lease)
        self.operators.append(self.bench.start(pod=pod))
        return self.operators[-1]

    def make(self, name: str) -> None:
        """Have one more policy in force at both pods."""
        self.bench.apply(policy(name, "a"))
        self.await_policy(name, "Programmed", status="True", message="2/2 pods")

    def restore(self) -> None:
        """Undo a fault, however far its test came."""
        for peer in (*self.pods, *self.operators):
            peer.process.resume()
        if not self.store.running:
            self.store.start()
        if not any(each.process.running for each in self.operators):
            self.start_operator("operator-0")
        self.callers.planes = list(self.pods)
        for kind, kept in (("routingpolicies", BYSTANDERS), ("modelbackends", ("a",))):
            for name in sorted(self.names(kind) - set(kept)):
                self.bench.delete(kind, name)
        self.await_calm()

    def await_calm(self) -> None:
        """Wait until the bystanders alone are in force at both pods, and the summary knows it."""
        for name in BYSTANDERS:
            self.await_policy(name, "Ready", status="True")
        wanted = {self.bench.key("policy", name) for name in BYSTANDERS}
        eventually(
            lambda: {key for key in self.bench.digests() if key.startswith("policy/")} == wanted,
            what="the bystanders alone in the store",
        )
        eventually(
            lambda: (said := self.summary())["lacks"] == "nothing" and said["live"] == "2/2",
            what="a calm summary",
        )

    def names(self, kind: str) -> set[str]:
        """Return the names of all objects of a kind."""
        found = self.bench.plane.get_all(kind, namespace=self.bench.namespace)
        return {each["metadata"]["name"] for each in found}

    def logged(self) -> str:
        """Return the end of what each operator has logged since this was last asked."""
        said = ""
        for each in self.operators:
            text = each.process.log_text()
            before = self._logged.get(each.admin, 0)
            self._logged[each.admin] = len(text)
            lines = text[before:].splitlines()[-LOG_LINES:]
            said += "\n".join([f"the operator at {each.admin} logged:", *lines, ""])
        return said

    def summary(self) -> Mapping[str, str]:
        """Return the summary of the gateway; one without any words before there is one."""
        found = self.bench.plane.get_all("cm", namespace=self.bench.system)
        data = (each["data"] for each in found if each["metadata"]["name"] == SUMMARY)
        return next(data, defaultdict(str))

    def events(self, about: str) -> Counter[str]:
        """Return how many Events of each reason there are about an object."""
        namespace = self.bench.system if about == SUMMARY else self.bench.namespace
        found = self.bench.plane.get_all("events", namespace=namespace)
        return Counter(one["reason"] for one in found if one["involvedObject"]["name"] == about)

    def says(self, kind: str, name: str, of: str, **wanted: str) -> bool:
        """Say whether a condition of the newest generation contains what is wanted."""
        found = self.bench.get(kind, name)
        conditions = {each["type"]: each for each in found["status"]["conditions"]}
        said = conditions.get(of, {})
        observed = said.get("observedGeneration") == found["metadata"]["generation"]
        return observed and all(text in said.get(key, "") for key, text in wanted.items())

    def await_policy(self, name: str, of: str, **wanted: str) -> None:
        eventually(
            lambda: self.says("routingpolicy", name, of, **wanted),
            what=f"{name}: {of} {wanted}",
        )

    def await_event(self, about: str, reason: str) -> None:
        eventually(lambda: self.events(about)[reason], what=f"{about}: an Event {reason}")

    def statuses(self, *but: str) -> Mapping[str, str]:
        """Return every object's status as it is written, but those of the fault itself."""
        return {
            f"{kind}/{name}": json.dumps(one.get("status"), sort_keys=True)
            for kind in ("modelbackends", "routingpolicies")
            for one in self.bench.plane.get_all(kind, namespace=self.bench.namespace)
            if (name := one["metadata"]["name"]) not in but
        }

    @contextmanager
    def alone(self, *touched: str) -> Iterator[None]:
        """Check that no other status and no request knows of what happens meanwhile."""
        before = self.statuses(*touched)
        self.callers.seen.clear()
        with self.callers.asking():
            yield
            time.sleep(CALM_S)
            asked = CALM_S / ASK_EVERY_S / 4
            eventually(lambda: self.callers.seen.total() >= asked, what="requests meanwhile")
        assert self.statuses(*touched) == before
        assert set(self.callers.seen) == {"a"}, self.callers.seen

    def time_to(
        self,
        fault: str,
        see: Callable[[], Any],
        *,
        sees: str,
        where: str,
        at_most_s: float = AT_ONCE_S,
        since: float | None = None,
    ) -> None:
        """Note how long it takes until a person sees it; fail if that is far too long."""
        began = time.monotonic() if since is None else since
        eventually(see, what=f"{fault}: {sees}", timeout_s=patience_s(at_most_s))
        self.rows[fault] = Row(fault, sees, where, time.monotonic() - began, at_most_s)
