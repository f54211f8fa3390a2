"""The maps that a pass returns, kept up to date unit by unit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from switchboard_policy.codec import Encoded
from switchboard_policy.compiler.backends import BackendUnit
from switchboard_policy.compiler.claims import Lost
from switchboard_policy.compiler.clients import Clients, Refusal
from switchboard_policy.compiler.policies import PolicyUnit
from switchboard_policy.compiler.report import ObjectReport, bounded
from switchboard_policy.compiler.world import Name


@dataclass(frozen=True, slots=True)
class Compilation:
    """What one pass found; a compiler that sees this world first finds the same.

    ``policy`` holds policies, backends, credentials and clients by object key; ``endpoints`` holds
    the addresses of service backends (a channel of its own, as they change so often). ``reports``
    has every policy and backend of the world, by kind and name. ``clients`` counts the client
    Secrets that make a client, ``refused_clients`` are the others.
    """

    policy: Mapping[str, Encoded]
    endpoints: Mapping[str, Encoded]
    reports: Mapping[tuple[str, Name], ObjectReport]
    clients: int = 0
    refused_clients: Mapping[Name, Refusal] = field(default_factory=dict[Name, Refusal])


class Assembly:
    """Collects the units; backends are published only while a policy uses them."""

    def __init__(self) -> None:
        self._policy: dict[str, Encoded] = {}
        self._endpoints: dict[str, Encoded] = {}
        self._reports: dict[tuple[str, Name], ObjectReport] = {}
        self._uses: Counter[Name] = Counter()
        self._platform: dict[Name, PolicyUnit] = {}
        self._carriers: set[str] = set()
        self._clients: Mapping[str, Encoded] = {}
        self._refused_clients: Mapping[Name, Refusal] = {}

    def place_backend(self, old: BackendUnit | None, new: BackendUnit | None) -> None:
        """Put a backend in the place of its former self; either may be missing."""
        if old is not None:
            self._drop_entries(old)
            del self._reports[old.report_key]
        if new is not None:
            self._show(new)

    def place_policy(
        self, old: PolicyUnit | None, new: PolicyUnit | None, backends: Mapping[Name, BackendUnit]
    ) -> None:
        """Put a policy in the place of its former self; ``backends`` are those already placed."""
        before = old.used if old is not None else frozenset[Name]()
        now = new.used if new is not None else frozenset[Name]()
        self._uses.subtract(before - now)
        self._uses.update(now - before)
        for name in before ^ now:
            if name in backends:
                self._drop_entries(backends[name])
                self._show(backends[name])
            if not self._uses[name]:
                del self._uses[name]
        if old is not None:
            self._policy.pop(old.key, None)
            self._carriers.discard(old.key)
            self._platform.pop(old.policy.name, None)
            del self._reports[old.report_key]
        if new is not None:
            self._reports[new.report_key] = new.report
            if new.encoded is not None:
                self._policy[new.key] = new.encoded
                self._carriers.add(new.key)
            if new.platform:
                self._platform[new.policy.name] = new

    def place_clients(self, clients: Clients) -> None:
        """Put the clients in the place of those before."""
        for key in self._clients.keys() - clients.entries.keys():
            del self._policy[key]
        self._policy.update(clients.entries)
        self._clients, self._refused_clients = clients.entries, clients.refused

    def tell(self, unit: PolicyUnit, lost: Lost) -> None:
        """Add to a policy's report the model names that it lost to others."""
        warnings = bounded([*lost.findings, *unit.report.warnings])
        self._reports[unit.report_key] = replace(
            unit.report, warnings=warnings, nameless=lost.nameless
        )

    def compilation(self) -> Compilation:
        """Return the maps as they are now; they do not change afterwards."""
        keys = tuple(sorted(self._carriers)) if self._platform else ()
        for unit in self._platform.values():
            self._reports[unit.report_key] = replace(unit.report, keys=keys)
        return Compilation(
            dict(self._policy),
            dict(self._endpoints),
            dict(self._reports),
            len(self._clients),
            self._refused_clients,
        )

    def _show(self, unit: BackendUnit) -> None:
        used = self._uses[unit.backend.name] > 0
        if used:
            self._policy.update(unit.policy)
            self._endpoints.update(unit.endpoints)
        self._reports[unit.report_key] = unit.report_used if used else unit.report_unused

    def _drop_entries(self, unit: BackendUnit) -> None:
        for key in unit.policy:
            self._policy.pop(key, None)
        for key in unit.endpoints:
            self._endpoints.pop(key, None)
