"""Compiled entries to the running snapshot, object by object: what did not change is kept.

The builder holds the running form of everything in force. A change of endpoints rebuilds one
backend, an edit of a policy that policy and the index of model names; the rest is shared with
the snapshot before.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

from switchboard_dataplane.decision.running import (
    Backend,
    Endpoint,
    Exact,
    Policy,
    Snapshot,
    Wildcard,
)
from switchboard_dataplane.lowering import lower_policy, routers_of
from switchboard_policy import ir
from switchboard_policy.errors import BadSeal, ExpressionError
from switchboard_policy.facts import Facts, Program, answer_facts, request_facts
from switchboard_policy.names import origin
from switchboard_policy.seal import Keyring

#: Programs are remembered by source: policies share expressions, and most edits change none.
PROGRAMS_MAX: Final = 8_192
#: Enough to tell the credentials of one backend apart.
IDENTITY_BYTES: Final = 8

#: Without the URL: what stands before an @ may be a password.
_NO_ADDRESS: Final = "its url has no host, or a port that is not in 1..65535"

#: A sealed credential and what it is bound to.
_Sealed = tuple[ir.Credential, str, str]


@dataclass(slots=True)
class _InForce:
    """The entries in force, by ``namespace/name``."""

    backends: dict[str, ir.Backend] = field(default_factory=dict)
    credentials: dict[str, ir.Credential] = field(default_factory=dict)
    endpoints: dict[str, ir.Endpoints] = field(default_factory=dict)


class SnapshotBuilder:
    """Builds each snapshot from the one before and what changed.

    ``keyring`` opens credentials; ``zone`` is the data plane's own. ``has_router`` says whether the
    learned router of a digest is there.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        zone: str = "",
        has_router: Callable[[str], bool] = lambda digest: False,
    ) -> None:
        self._keyring = keyring
        self._zone = zone
        self._has_router = has_router
        self._facts: Facts = request_facts()
        self._answer_facts: Facts = answer_facts()
        self._compile = lru_cache(PROGRAMS_MAX)(self._facts.compile)
        self._compile_accepts = lru_cache(PROGRAMS_MAX)(self._answer_facts.compile)
        self._entries = _InForce()
        self._policies: dict[str, Policy] = {}
        self._backends: dict[str, Backend] = {}
        self._terminating: set[str] = set()
        self._opened: dict[str, tuple[_Sealed, str]] = {}
        self._refused: dict[str, str] = {}
        self._exact: Mapping[str, Exact] = {}
        self._wildcards: tuple[Wildcard, ...] = ()
        self._claims_moved = False
        self._snapshot = self._assemble("0-0", live_pods=1)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot built last."""
        return self._snapshot

    def apply(
        self,
        changed: Mapping[str, ir.Entry],
        removed: Iterable[str],
        *,
        revision: str,
        live_pods: int = 1,
    ) -> tuple[Snapshot, Mapping[str, str]]:
        """Build the next snapshot; return it and, by object key, what is refused and why.

        A policy that cannot run keeps its last good form. For a router that is named and is not
        there the one that ships stands in: everything else of the policy holds, guardrails first. A
        credential that does not open, and a URL that cannot be called, make their backend unusable:
        its old address is not what the policies now in force were compiled for.
        """
        gone = set(removed)
        self._drop(gone)
        self._take(changed)
        before = self._snapshot
        self._snapshot = self._assemble(revision, live_pods=live_pods)
        if not any(_shapes_policies(key) for key in (*changed, *gone)):
            # Only endpoints changed: what the backends can do is as it was.
            self._snapshot.abilities.update(before.abilities)
        return self._snapshot, dict(self._refused)

    def rekey(self, keyring: Keyring) -> None:
        """Open all credentials with these keys from now on; ``apply`` then takes them in."""
        self._keyring = keyring
        for name, spec in self._entries.backends.items():
            self._refused.pop(spec.credential, None)
            self._build_backend(name)
        # What the backends can do is remembered from snapshot to snapshot: no longer.
        self._snapshot.abilities.clear()

    def _drop(self, keys: set[str]) -> None:
        for key in keys:
            self._refused.pop(key, None)
            kind, _, name = key.partition("/")
            match kind:
                case "policy":
                    self._claims_moved |= self._policies.pop(name, None) is not None
                case "backend":
                    self._entries.backends.pop(name, None)
                case "credential":
                    self._entries.credentials.pop(name, None)
                case _:
                    self._entries.endpoints.pop(name, None)
            if kind != "policy":
                self._build_backend(name)

    def _take(self, changed: Mapping[str, ir.Entry]) -> None:
        touched: set[str] = set()
        for key, entry in changed.items():
            self._refused.pop(key, None)
            match entry:
                case ir.Policy():
                    self._build_policy(key, entry)
                case ir.Backend():
                    self._entries.backends[entry.name] = entry
                    touched.add(entry.name)
                case ir.Credential():
                    self._entries.credentials[entry.backend] = entry
                    touched.add(entry.backend)
                case ir.Endpoints():
                    self._entries.endpoints[entry.backend] = entry
                    touched.add(entry.backend)
        for name in touched:
            self._build_backend(name)

    def _build_policy(self, key: str, entry: ir.Policy) -> None:
        try:
            lowered = lower_policy(entry, self._program, self._accepts)
        except ExpressionError as error:
            self._refused[key] = str(error)
            return
        before = self._policies.get(entry.name)
        missing = next((one for one in routers_of(entry) if not self._has_router(one)), "")
        if missing:
            # It holds all the same, for it may have brought a guardrail.
            self._refused[key] = (
                f"its router {missing} is not in --routers: the one that ships takes its place"
            )
        self._claims_moved |= before is None or _claims(before.spec) != _claims(entry)
        self._policies[entry.name] = lowered

    def _program(self, source: str) -> Program | None:
        return self._compile(source) if source else None

    def _accepts(self, source: str) -> Program | None:
        return self._compile_accepts(source) if source else None

    def _build_backend(self, name: str) -> None:
        spec = self._entries.backends.get(name)
        self._terminating.discard(name)
        if spec is None:
            self._backends.pop(name, None)
            self._opened.pop(name, None)
            return
        if spec.external and not _can_be_called(spec.url):
            self._refused[f"backend/{name}"] = _NO_ADDRESS
            self._backends[name] = Backend(name=name, spec=spec, unusable=_NO_ADDRESS)
            return
        api_key, unusable = self._open_credential(spec)
        backend = Backend(
            name=name,
            spec=spec,
            api_key=api_key,
            credential=_identity(self._entries.credentials.get(name)) if api_key else "",
            unusable=unusable,
        )
        entry = self._entries.endpoints.get(name)
        backend.endpoints = _endpoints(backend, entry)
        if (before := self._backends.get(name)) is not None and before.places:
            backend.places = _places_of(backend, before)
        if entry is not None and entry.terminating and not spec.external:
            backend.terminating = True
            self._terminating.add(name)
        self._backends[name] = backend

    def _open_credential(self, spec: ir.Backend) -> tuple[str, str]:
        if not spec.credential:
            return "", ""
        sealed = self._entries.credentials.get(spec.name)
        if sealed is None:
            self._opened.pop(spec.name, None)
            return "", "its credential is not there"
        known: _Sealed = sealed, spec.uid, origin(spec.url)
        try:
            raw = self._keyring.unseal(sealed.key_id, sealed.sealed, *known[1:])
        except BadSeal as error:
            opened, api_key = self._opened.get(spec.name, (None, ""))
            if opened == known:
                # Its key was dropped before what the next one sealed came: the last good stays.
                return api_key, ""
            self._refused[spec.credential] = str(error)
            return "", "its credential does not open"
        self._opened[spec.name] = known, raw.decode()
        return raw.decode(), ""

    def _assemble(self, revision: str, *, live_pods: int) -> Snapshot:
        if self._claims_moved:
            self._exact, self._wildcards = _index(self._policies.values())
            self._claims_moved = False
        return Snapshot(
            revision=revision,
            policies=dict(self._policies),
            backends=dict(self._backends),
            exact=self._exact,
            wildcards=self._wildcards,
            facts=self._facts,
            answer_facts=self._answer_facts,
            zone=self._zone,
            live_pods=max(1, live_pods),
            reads=any(policy.readings for policy in self._policies.values()),
            terminating=frozenset(self._terminating),
        )


def _shapes_policies(key: str) -> bool:
    return not key.startswith("endpoints/")


def _can_be_called(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _identity(sealed: ir.Credential | None) -> str:
    """Return what tells a credential from another, without saying anything of it."""
    if sealed is None:
        return ""
    return blake2b(sealed.sealed, digest_size=IDENTITY_BYTES).hexdigest()


def _endpoints(backend: Backend, entry: ir.Endpoints | None) -> tuple[Endpoint, ...]:
    spec = backend.spec
    parts = urlsplit(spec.url)
    if spec.external:
        address = parts.netloc if parts.port else f"{parts.netloc}:{_port(parts.scheme)}"
        whole = ir.Endpoint(address=address, zone=spec.zone)
        return (_endpoint(backend, whole, url=spec.url.rstrip("/"), host=""),)
    if entry is None:
        return ()
    path = parts.path.rstrip("/")
    return tuple(
        _endpoint(backend, one, url=f"{parts.scheme}://{one.address}{path}", host=parts.netloc)
        for one in entry.addresses
    )


def _places_of(backend: Backend, before: Backend) -> dict[str, int]:
    """Return what is remembered of the endpoints' places; of those that are gone not for ever."""
    if len(before.places) <= 2 * len(backend.endpoints):
        return before.places
    known = before.places
    return {one.id: known[one.id] for one in backend.endpoints if one.id in known}


def _endpoint(backend: Backend, one: ir.Endpoint, *, url: str, host: str) -> Endpoint:
    return Endpoint(
        id=f"{backend.name}@{one.address}",
        backend=backend,
        address=one.address,
        url=url,
        zone=one.zone or backend.spec.zone,
        host=host,
    )


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _claims(spec: ir.Policy) -> tuple[tuple[str, ...], int, int]:
    return spec.models, spec.namespace_rank, spec.priority


def _index(policies: Iterable[Policy]) -> tuple[dict[str, Exact], tuple[Wildcard, ...]]:
    """Order the claims to model names: namespaces, priority, exact first, longer first, name."""
    exact: dict[str, Exact] = {}
    wildcards: list[Wildcard] = []
    for policy in policies:
        spec = policy.spec
        for model in spec.models:
            prefix = model.removesuffix("*")
            is_wildcard = prefix != model
            order = (
                spec.namespace_rank,
                -spec.priority,
                int(is_wildcard),
                -len(prefix) if is_wildcard else 0,
                policy.name,
            )
            if is_wildcard:
                wildcards.append(Wildcard(prefix=prefix, order=order, policy=policy.name))
            elif (holder := exact.get(model)) is None or order < holder.order:
                exact[model] = Exact(order=order, policy=policy.name)
    wildcards.sort(key=lambda wildcard: wildcard.order)
    return exact, tuple(wildcards)
