"""What this pod and its peers tell each other: what engines say of their load, and what rests.

The gateway's pods share out the engines among themselves; sidecars (scopes of namespaces) are as
many as the pods that they serve, and ask no engine. Marks are shared in every scope.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final
from urllib.parse import urlsplit

import msgspec

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.signals import scraping
from switchboard_dataplane.signals.engine import PAGE_BYTES_MAX
from switchboard_dataplane.signals.marks import Mark, Marks
from switchboard_dataplane.signals.scraping import Fetch, Scraper, Target
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.upstream.getting import Getter
from switchboard_policy.names import gateway_scope

log = logging.getLogger(__name__)

MARKS: Final = "marks"
#: Marks that come together are told together, in seconds.
GATHER_S: Final = 0.02
#: Of what is marked within that time; the rest each pod finds out for itself.
MARKS_MAX: Final = 1_000
#: After a defect, what is shared begins anew, in seconds.
_AGAIN_S: Final = 5.0

_OK: Final = 200

_marks_decoder = msgspec.json.Decoder(list[Mark])


@dataclass(frozen=True, slots=True)
class Peers:
    """Speaks and listens; ``scraper`` is None where no engine is asked."""

    sharing: Sharing
    scraper: Scraper | None

    async def run(self) -> None:
        """Share until cancelled. A defect here costs the signals of others and no request."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.sharing.run())
                    if self.scraper is not None:
                        tasks.create_task(self.scraper.run())
            except Exception:
                log.exception("what pods share failed by a defect of the data plane")
            await asyncio.sleep(_AGAIN_S)


def build_peers(
    sharing: Sharing,
    *,
    scope: str,
    in_force: InForce,
    pods: Callable[[], Sequence[str]],
    getter: Getter,
    clock: Callable[[], float],
    random: Random,
) -> Peers:
    """Build what a pod of a scope shares with the others."""
    MarkSharing(
        in_force.signals.marks,
        sharing,
        snapshot=in_force.current,
        clock=clock,
        call_later=asyncio.get_running_loop().call_later,
    )
    if not scope.startswith(gateway_scope("")):
        return Peers(sharing, None)
    scraper = Scraper(
        me=sharing.pod,
        signals=in_force.signals,
        targets=_Targets(in_force.current),
        pods=pods,
        fetch=fetching(getter),
        share=lambda body: sharing.tell(scraping.TOPIC, body),
        clock=clock,
        random=random,
    )
    sharing.hear(scraping.TOPIC, scraper.take)
    return Peers(sharing, scraper)


class MarkSharing:
    """Tells the others of the marks that this pod finds, and takes in theirs."""

    def __init__(
        self,
        marks: Marks,
        sharing: Sharing,
        *,
        snapshot: Callable[[], Snapshot | None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._marks = marks
        self._sharing = sharing
        self._snapshot = snapshot
        self._clock = clock
        self._call_later = call_later
        self._found: list[tuple[Mark, float]] = []
        marks.on_mark = self.tell
        sharing.hear(MARKS, self.take)

    def tell(self, mark: Mark) -> None:
        """Tell the others of a mark, with those that are found in the next moment."""
        if not self._found:
            self._call_later(GATHER_S, self._send)
        if len(self._found) < MARKS_MAX:
            self._found.append((mark, self._clock()))

    def take(self, pod: str, body: bytes, at: float) -> None:
        """Take in the marks of another pod, said at ``at``: they rest for what is left."""
        snapshot = self._snapshot()
        if pod == self._sharing.pod or snapshot is None:
            return
        try:
            marks = _marks_decoder.decode(body)
        except (ValueError, RecursionError) as error:
            # A newer version may know reasons that this one does not.
            log.info("the marks of pod %s cannot be read: %s", pod, error)
            return
        now = self._clock()
        for mark in marks:
            if mark.backend in snapshot.backends:
                self._marks.take(_since(mark, at, now), now)

    def _send(self) -> None:
        found, self._found = self._found, []
        now = self._clock()
        left = [_since(mark, at, now) for mark, at in found]
        self._sharing.tell(MARKS, msgspec.json.encode(left))


def _since(mark: Mark, at: float, now: float) -> Mark:
    """Return what is left of a mark that was made at ``at``."""
    return msgspec.structs.replace(mark, for_s=mark.for_s - max(0.0, now - at))


class _Targets:
    """The targets of the snapshot in force: the same mapping until there is another one."""

    def __init__(self, snapshot: Callable[[], Snapshot | None]) -> None:
        self._snapshot = snapshot
        self._of: Snapshot | None = None
        self._targets: Mapping[str, Target] = {}

    def __call__(self) -> Mapping[str, Target]:
        snapshot = self._snapshot()
        if snapshot is not None and snapshot is not self._of:
            targets = targets_of(snapshot)
            if targets != self._targets:
                self._targets = targets
            self._of = snapshot
        return self._targets


def fetching(getter: Getter) -> Fetch:
    """Return how a page is fetched."""

    async def fetch(target: Target) -> bytes:
        got = await getter.get(
            target.url, host=target.host, timeout_s=scraping.TIMEOUT_S, bytes_max=PAGE_BYTES_MAX
        )
        if got.status != _OK:
            raise OSError(f"{target.url} answers with status {got.status}")
        return got.body

    return fetch


def targets_of(snapshot: Snapshot) -> Mapping[str, Target]:
    """Return the endpoints of a snapshot whose engines tell of their load, by id."""
    targets: dict[str, Target] = {}
    for backend in snapshot.backends.values():
        telemetry = backend.spec.telemetry
        if telemetry is None:
            continue
        for endpoint in backend.endpoints:
            parts = urlsplit(endpoint.url)
            targets[endpoint.id] = Target(
                id=endpoint.id,
                backend=backend.name,
                address=endpoint.address,
                engine=telemetry.engine,
                model=backend.spec.model,
                url=f"{parts.scheme}://{parts.netloc}{telemetry.path}",
                host=endpoint.host,
                interval_s=telemetry.interval_ms / 1000,
            )
    return targets
