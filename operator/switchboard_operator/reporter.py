"""Which objects need a new status, and what it says: reports and acks in, statuses out.

Only what may have changed is looked at: objects that were edited or compiled differently, those
whose entries got a new revision, and those that wait for pods. An object that is programmed is
left alone until one of these comes, or a pod refuses it.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from switchboard_operator.client_secrets import ClientSecrets
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.events import Announcer
from switchboard_operator.inventory import Inventory
from switchboard_operator.lease import Clock
from switchboard_operator.patcher import COUNTS_EVERY_S, Patcher
from switchboard_operator.propagation import Journeys
from switchboard_operator.publication import Publication
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.standing import Standing, combine, condemn, reached, refusals, stand
from switchboard_operator.status import Status, assess, merge
from switchboard_policy.compiler.report import ObjectReport
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import MORE_REFUSED, Revision
from switchboard_policy.v1alpha1.conditions import PROGRAMMED, Reason
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec

TICK_S: Final = 1.0
GRACE_S: Final = 1.0
"""Pods ack within milliseconds: an object that only waits for them gets one patch, not two."""
GRACE_OBJECT_S: Final = 0.002
"""The same for each object that waits: thousands that come at once take pods that much longer."""
GRACE_MAX_S: Final = 10.0
DISTRUST_S: Final = 30.0
"""A pod that trusts the store no more is back within seconds, or only with somebody's help."""
OBJECTS_A_TURN: Final = 32
"""Looked at before others get the loop; thousands take a good part of a second."""

_UNSETTLED: Final = frozenset(
    {
        Reason.WAITING_FOR_PODS,
        Reason.NO_DATA_PLANES,
        Reason.REFUSED_BY_POD,
        Reason.PENDING,
        Reason.STORE_UNAVAILABLE,
    }
)


class Reporter:
    """The statuses of all objects in all gateways.

    ``trouble`` says why the store cannot be written, "" if it can.
    """

    def __init__(
        self,
        inventory: Inventory,
        patcher: Patcher,
        gateways: Sequence[tuple[Publication, DataPlanes]],
        *,
        announcer: Announcer,
        journeys: Journeys,
        clock: Clock,
    ) -> None:
        self._inventory = inventory
        self._patcher = patcher
        self._gateways = gateways
        self._announcer = announcer
        self._client_secrets = ClientSecrets(announcer.announce)
        self._journeys = journeys
        self._clock = clock
        self._recounted_at = clock.monotonic()
        self._reports = dict[str, Mapping[tuple[str, Name], ObjectReport]]()
        self._dependants = defaultdict[str, set[ObjectKey]](set)
        self._keys = dict[ObjectKey, tuple[str, ...]]()
        self._unsettled = set[ObjectKey]()
        self._waits = dict[ObjectKey, tuple[Revision | None, float]]()
        self._held_back = set[ObjectKey]()
        self._refused = dict[str, frozenset[str]]()
        self._counted = dict[ObjectKey, tuple[tuple[str, str], ...]]()
        self.trouble = ""

    def compiled(self, publication: Publication) -> set[ObjectKey]:
        """Take in a compilation; return the objects that it speaks of in new words."""
        scope, reports = publication.scope, publication.compilation.reports
        before = self._reports.get(scope, {})
        if before is reports:
            return set()
        self._reports[scope] = reports
        changed = {key for key, report in reports.items() if before.get(key) is not report}
        changed |= before.keys() - reports.keys()
        return {ObjectKey(Kind(kind), name) for kind, name in changed}

    def dependants(self, keys: Iterable[str]) -> set[ObjectKey]:
        """Return the objects that are in force when these entries are."""
        return {dependant for key in keys for dependant in self._dependants.get(key, ())}

    def waiting(self) -> set[ObjectKey]:
        """Return objects that an ack may help, and those that a pod began or ceased to refuse.

        One that waits for pods is not looked at before the last of them is there: with as many
        objects as pods, every ack would cost their product. (Its count is brought up to date in
        time: ``run``.) All are looked at when a pod begins or ceases to refuse more than it names.
        """
        slowest = [
            (publication, min(reached(seen.pod, publication.revision) for seen in planes.pods))
            for publication, planes in self._gateways
            if planes.pods
        ]
        found = self._unsettled - {key for key in self._waits if self._waits_on(key, slowest)}
        for publication, planes in self._gateways:
            placed = publication.required(tuple(planes.refused()))
            now = refusals(planes.pods, placed, publication.revision)
            changed = now ^ self._refused.get(publication.scope, frozenset())
            if MORE_REFUSED in changed:
                changed = changed.union(publication.compilation.policy)
            found |= self.dependants(changed)
            self._refused[publication.scope] = now
        return found

    @property
    def patches_waiting(self) -> int:
        """How many patches are due."""
        return self._patcher.waiting

    @property
    def _grace_s(self) -> float:
        return min(GRACE_MAX_S, GRACE_S + GRACE_OBJECT_S * len(self._held_back))

    async def report(self, keys: Iterable[ObjectKey], *, since: float | None = None) -> None:
        """Look at these objects, and have their statuses written where they differ.

        ``since`` is when what changed was seen (monotonic), if it was not just now.
        """
        seen_at = self._clock.monotonic() if since is None else since
        for number, key in enumerate(keys, start=1):
            await self._report(key, seen_at)
            if not number % OBJECTS_A_TURN:
                await asyncio.sleep(0)

    def report_clients(self) -> None:
        """Have it told which client Secrets make no client."""
        self._client_secrets.report(
            (publication.compilation for publication, _ in self._gateways),
            self._inventory.world.clients,
        )

    async def run(self) -> None:
        """Write statuses until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._patcher.run())
            group.create_task(self._announcer.run())
            group.create_task(self._tick())

    def restart(self) -> set[ObjectKey]:
        """Begin as a new leader; return what is to be reported: every object."""
        every = {
            ObjectKey(Kind(kind), name)
            for reports in self._reports.values()
            for kind, name in reports
        }
        self._patcher.restart(every)
        self._client_secrets.restart()
        self._journeys.clear()
        return every

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            await self._report_held_back()
            await self._patcher.release_later()

    async def _report_held_back(self) -> None:
        """Look again at objects whose pods have had time to ack, and seldom at all that wait."""
        now = self._clock.monotonic()
        due = [key for key in self._held_back if self._waits[key][1] <= now - self._grace_s]
        if now - self._recounted_at >= COUNTS_EVERY_S:
            self._recounted_at = now
            due.extend(self._waits.keys() - self._held_back)
        await self.report(due)

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Return how many objects there are by kind, condition and its status.

        Of a replica that does not lead: nothing, for it does not know.
        """
        if not self._patcher.leads:
            return {}
        return Counter(
            (str(key.kind), condition, status)
            for key, verdicts in self._counted.items()
            for condition, status in verdicts
        )

    async def _report(self, key: ObjectKey, seen_at: float) -> None:
        reports = {
            publication.gateway.name: report
            for publication, _ in self._gateways
            if (report := self._reports.get(publication.scope, {}).get((key.kind, key.name)))
        }
        found = self._inventory.get(key)
        if not reports or found is None:
            self._forget(key)
            return
        report = merge(reports)
        self._depend(key, report.keys)
        standing = self._journeys.measure(
            key,
            combine(self._standings(report)),
            seen_at=seen_at,
            epoch=max(publication.revision.epoch for publication, _ in self._gateways),
            now=self._clock.monotonic(),
        )
        spec = found.effective
        counted = isinstance(spec, ModelBackendSpec) and spec.service is not None
        said = self._patcher.said(key)
        if standing.distrusting and self._is_given_up(key, standing, said):
            standing = condemn(standing)
        status = assess(report, standing, said, counted=counted)
        self._counted[key] = tuple((each.type, each.status) for each in status.verdicts)
        if not self._hold_back(key, status, standing):
            await self._patcher.want(key, status)

    def _standings(self, report: ObjectReport) -> Iterable[Standing]:
        for publication, planes in self._gateways:
            required = publication.required(report.keys)
            pending = ""
            if publication.lags(report.keys):
                pending = f"Not in the store yet: {self.trouble or 'it is being written'}"
            yield stand(
                planes.pods,
                required,
                pending,
                head=publication.revision,
                store_away=bool(pending and self.trouble),
            )

    def _waits_on(self, key: ObjectKey, slowest: Iterable[tuple[Publication, Revision]]) -> bool:
        """Say whether an object needs a later revision than some pod has."""
        keys = self._keys.get(key, ())
        return any(
            revision < required
            for publication, revision in slowest
            for required in publication.required(keys).values()
        )

    def _is_given_up(self, key: ObjectKey, standing: Standing, said: Status | None) -> bool:
        """Say whether pods that trust nothing have kept an object waiting for long."""
        if said is not None and said.revision == str(standing.revision):
            programmed = said.verdict(PROGRAMMED)
            if programmed is not None and programmed.reason == Reason.REFUSED_BY_POD:
                # It was given up, perhaps by another leader.
                return True
        revision, since = self._waits.get(key, (None, 0.0))
        waited_s = self._clock.monotonic() - since
        return revision == standing.revision and waited_s >= DISTRUST_S

    def _hold_back(self, key: ObjectKey, status: Status, standing: Standing) -> bool:
        programmed = status.verdict(PROGRAMMED)
        reason = programmed.reason if programmed else ""
        if reason in _UNSETTLED:
            self._unsettled.add(key)
        else:
            self._unsettled.discard(key)
        given_up = reason == Reason.REFUSED_BY_POD and standing.distrusting
        if reason != Reason.WAITING_FOR_PODS and not given_up:
            self._waits.pop(key, None)
            self._held_back.discard(key)
            return False
        now = self._clock.monotonic()
        revision, since = self._waits.get(key, (None, now))
        if revision != standing.revision:
            since = now
        self._waits[key] = (standing.revision, since)
        if now - since >= self._grace_s:
            self._held_back.discard(key)
            return False
        self._held_back.add(key)
        return True

    def _depend(self, key: ObjectKey, keys: tuple[str, ...]) -> None:
        before = self._keys.get(key, ())
        if before == keys:
            return
        for entry in before:
            self._dependants[entry].discard(key)
            if not self._dependants[entry]:
                del self._dependants[entry]
        for entry in keys:
            self._dependants[entry].add(key)
        self._keys[key] = keys

    def _forget(self, key: ObjectKey) -> None:
        self._depend(key, ())
        self._keys.pop(key, None)
        self._waits.pop(key, None)
        self._counted.pop(key, None)
        self._journeys.forget(key)
        self._patcher.forget(key)
        self._held_back.discard(key)
        self._unsettled.discard(key)
