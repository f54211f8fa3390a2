"""Reviews among 2,000 policies and 500 backends: how long one takes, how long it holds the loop.

The limits here are several times what a quiet machine with two cores shows (the run's summary
tells), and of the time that this process has a core: they fail where something is wrong and not
where a neighbour is busy, or the machine stands still.
"""

import asyncio
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster.line import eventually
from cluster.processes import free_port
from fakes.manifests import external, policy
from fakes.worlds import parser
from integration.test_admission import review
from switchboard_operator.admission import Admission
from switchboard_operator.certificates import issue
from switchboard_operator.certificates_kept import FileCertificates
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.resources import Kind
from switchboard_operator.settings import AdmissionSettings
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.compiler.world import Gateway
from unit.operator.kube_fakes import Cluster

BACKENDS, POLICIES, REVIEWS = 500, 2_000, 600
REVIEW_MAX_MS = 50.0
LOOP_HELD_P99_MAX_MS = 50.0
TICK_S = 0.002

CALLER = """
import http.client, json, ssl, sys, time
bodies = json.load(open(sys.argv[1]))
trust = ssl.create_default_context(cafile=sys.argv[2])
caller = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[3]), context=trust, timeout=60)
took, outcomes = [], {}
for body in bodies:
    began = time.perf_counter()
    caller.request("POST", "/validate", body, {"Content-Type": "application/json"})
    answer = json.loads(caller.getresponse().read())["response"]
    took.append((time.perf_counter() - began) * 1000)
    said = "warned" if answer.get("warnings") else str(answer["allowed"])
    outcomes[said] = outcomes.get(said, 0) + 1
print(json.dumps([took, outcomes]))
"""


def reviews() -> list[str]:
    """A mix: good, dangling and bad policies, backends, and deletions of backends in use."""
    draw = random.Random(1)
    made: list[bytes] = []
    for number in range(REVIEWS):
        name, backend = f"p{draw.randrange(POLICIES)}", f"b{draw.randrange(BACKENDS)}"
        made.append(
            (
                review(policy(name, backend, when=f"request.tokens > {number}"), "ai"),
                review(policy(name, backend, "gone"), "ai"),
                review(policy(name, backend, when=f"request.nope{number} > 1"), "ai"),
                review(external(backend, number + 1), "ai"),
                review(external(backend, number + 1), "ai", operation="DELETE"),
            )[number % 5]
        )
    return [each.decode() for each in made]


@asynccontextmanager
async def answering(folder: Path, inventory: Inventory) -> AsyncIterator[int]:
    """A webhook at a port of this machine, with its certificate's authority in the folder."""
    issued = issue(("127.0.0.1",), timedelta(days=1), now=datetime.now(UTC))
    (folder / "tls.crt").write_bytes(issued.pair.certificate)
    (folder / "tls.key").write_bytes(issued.pair.key)
    (folder / "ca.crt").write_bytes(issued.authority)
    port = free_port()
    admission = Admission(
        AdmissionSettings.model_validate({"port": port, "host": "127.0.0.1", "linger": "0s"}),
        [Gateway("default", "system")],
        FileCertificates(str(folder)),
        world=inventory.world,
        hinders=str,
        telemetry=Telemetry(),
        clock=time.monotonic,
    )
    running = asyncio.create_task(admission.run())
    await asyncio.to_thread(eventually, lambda: not admission.obstacle, what="a certificate")
    try:
        yield port
    finally:
        running.cancel()
        await admission.stop()


async def watch_the_loop(held_ms: list[float]) -> None:
    """Note how much of a core each turn of the loop takes."""
    while True:
        began = time.process_time()
        await asyncio.sleep(TICK_S)
        held_ms.append((time.process_time() - began) * 1000)


async def test_reviews_among_two_thousand_policies(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    cluster, inventory = Cluster(), Inventory(parser(), decode_secret=decode_data)
    for number in range(BACKENDS):
        cluster.put(Kind.BACKEND, external(f"b{number}", number + 1))
    for number in range(POLICIES):
        backends = (f"b{number % BACKENDS}", f"b{(number + 7) % BACKENDS}")
        cluster.put(Kind.POLICY, policy(f"p{number}", *backends))
    cluster.fill(inventory)
    (tmp_path / "reviews.json").write_text(json.dumps(reviews()))
    # As the operator does once it has published what it listed.
    gc.collect()
    gc.freeze()
    held_ms: list[float] = []
    try:
        async with answering(tmp_path, inventory) as port:
            arguments = (tmp_path / "reviews.json", tmp_path / "ca.crt", str(port))
            caller = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CALLER, *arguments, stdout=asyncio.subprocess.PIPE
            )
            watching = asyncio.create_task(watch_the_loop(held_ms))
            began = time.process_time()
            printed, _ = await caller.communicate()
            review_ms = (time.process_time() - began) * 1000 / REVIEWS
            watching.cancel()
    finally:
        gc.unfreeze()
    took, outcomes = json.loads(printed)
    share = REVIEWS // 5
    assert outcomes["False"] == share
    assert outcomes["True"] + outcomes["warned"] == 4 * share
    assert outcomes["warned"] >= 2 * share
    p99, held = percentile(took, 0.99), percentile(held_ms, 0.99)
    told = (
        f"review p50 {statistics.median(took):.1f} ms, p99 {p99:.1f} ms, max {max(took):.1f} ms; "
        f"{review_ms:.1f} ms of a core each, loop held p99 {held:.1f} ms, "
        f"max {max(held_ms):.1f} ms; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    record_property("measured", told)
    assert review_ms < REVIEW_MAX_MS, told
    assert held < LOOP_HELD_P99_MAX_MS, told


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share) - 1]
