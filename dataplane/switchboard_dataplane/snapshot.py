"""Compiled entries to the running snapshot, object by object: what did not change is kept.

The builder holds the running form of everything in force. A change of endpoints rebuilds one
backend, an edit of a policy that policy and the claims to its model names; the rest is shared
with the snapshot before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

import msgspec

from switchboard_dataplane.claims import ClaimIndex
from switchboard_dataplane.clients import ClientTable
from switchboard_dataplane.decision.running import Backend, Endpoint, Policy, Snapshot
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
#: What follows the reason why an address is refused.
_HOW_TO_ALLOW: Final = "the gateway's --allow-addresses names what may be called all the same"

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
    learned router of a digest is there. ``refuses`` says why the host of a URL may not be called,
    "" where it may.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        zone: str = "",
        has_router: Callable[[str], bool] = lambda digest: False,
        refuses: Callable[[str], str] = lambda host: "",
    ) -> None:
        self._keyring = keyring
        self._zone = zone
        self._has_router = has_router
        self._refuses = refuses
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
        self._claims = ClaimIndex()
        self._clients = ClientTable(keyring)
        self._reshaped = False
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
        """Build the next snapshot at once: ``build`` and ``finish``."""
        for _ in self.build(changed, removed):
            pass
        return self.finish(revision=revision, live_pods=live_pods)

    def build(self, changed: Mapping[str, ir.Entry], removed: Iterable[str]) -> Iterator[None]:
        """Build what an update brings, one object a step; ``finish`` puts it together.

        A policy that cannot run keeps its last good form. For a router that is named and is not
        there the one that ships stands in: everything else of the policy holds, guardrails first. A
        credential that does not open, and a URL that cannot be called, make their backend unusable:
        its old address is not what the policies now in force were compiled for.
        """
        gone = set(removed)
        # Where only endpoints change, what the backends can do is as it was.
        self._reshaped |= any(_shapes_policies(key) for key in (*changed, *gone))
        yield from self._drop(gone)
        yield from self._take(changed)

    def rekey(self, keyring: Keyring) -> Iterator[None]:
        """Open all credentials with these keys from now on, one a step, before a ``finish``."""
        self._keyring = keyring
        self._clients.rekey(keyring)
        # What the backends can do is remembered from snapshot to snapshot: no longer.
        self._reshaped = True
        for name, spec in self._entries.backends.items():
            if spec.credential:
                self._refused.pop(spec.credential, None)
                self._build_backend(name)
                yield

    def finish(self, *, revision: str, live_pods: int = 1) -> tuple[Snapshot, Mapping[str, str]]:
        """Return the snapshot of all that was built; by object key, what is refused and why."""
        before = self._snapshot
        self._snapshot = self._assemble(revision, live_pods=live_pods)
        if not self._reshaped:
            self._snapshot.abilities.update(before.abilities)
        self._reshaped = False
        return self._snapshot, {**self._refused, **self._clients.refused}

    def _drop(self, keys: set[str]) -> Iterator[None]:
        for key in keys:
            self._refused.pop(key, None)
            kind, _, name = key.partition("/")
            match kind:
                case "policy":
                    self._policies.pop(name, None)
                    self._claims.drop(name)
                case "backend":
                    self._entries.backends.pop(name, None)
                case "credential":
                    self._entries.credentials.pop(name, None)
                case "client":
                    self._clients.drop(name)
                case _:
                    self._entries.endpoints.pop(name, None)
            if kind not in ("policy", "client"):
                self._build_backend(name)
            yield

    def _take(self, changed: Mapping[str, ir.Entry]) -> Iterator[None]:
        touched: set[str] = set()
        for key, entry in changed.items():
            self._refused.pop(key, None)
            match entry:
                case ir.Policy():
                    self._build_policy(key, entry)
                    yield
                case ir.Backend():
                    self._entries.backends[entry.name] = entry
                    touched.add(entry.name)
                case ir.Credential():
                    self._entries.credentials[entry.backend] = entry
                    touched.add(entry.backend)
                case ir.Endpoints():
                    self._entries.endpoints[entry.backend] = entry
                    touched.add(entry.backend)
                case ir.Client():
                    self._clients.take(entry)
                    yield
        for name in touched:
            self._build_backend(name)
            yield

    def _build_policy(self, key: str, entry: ir.Policy) -> None:
        try:
            lowered = lower_policy(entry, self._program, self._accepts)
        except ExpressionError as error:
            self._refused[key] = str(error)
            return
        missing = next((one for one in routers_of(entry) if not self._has_router(one)), "")
        if missing:
            # It holds all the same, for it may have brought a guardrail.
            self._refused[key] = (
                f"its router {missing} is not in --routers: the one that ships takes its place"
            )
        for why in filter(None, map(self._why_not, _webhooks(entry))):
            self._refused[key] = f"a webhook of its reviews: {why}"
        self._claims.put(entry)
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
        if spec.external and (why := self._why_not(spec.url)):
            self._refused[f"backend/{name}"] = why
            self._backends[name] = Backend(name=name, spec=spec, unusable=why)
            return
        api_key, unusable = self._open_credential(spec)
        # Endpoints refer to a form of their backend that has none. If it had them, whatever an edit
        # replaces would wait for the garbage collector, and thousands would be freed in one go.
        owner = Backend(
            name=name,
            spec=spec,
            api_key=api_key,
            credential=_identity(self._entries.credentials.get(name)) if api_key else "",
            unusable=unusable,
        )
        entry = self._allowed(self._entries.endpoints.get(name))
        endpoints = _endpoints(owner, entry)
        if (before := self._backends.get(name)) is not None and before.places:
            owner.places = _places_of(endpoints, before)
        terminating = entry is not None and entry.terminating and not spec.external
        if terminating:
            self._terminating.add(name)
        self._backends[name] = replace(owner, endpoints=endpoints, terminating=terminating)

    def _why_not(self, url: str) -> str:
        """Say why a URL cannot or may not be called, "" where it may."""
        try:
            parts = urlsplit(url)
            host = parts.hostname
            if not host or parts.port == 0:
                return _NO_ADDRESS
        except ValueError:
            return _NO_ADDRESS
        why = self._refuses(host)
        return f"its url may not be called: {why}; {_HOW_TO_ALLOW}" if why else ""

    def _allowed(self, entry: ir.Endpoints | None) -> ir.Endpoints | None:
        """Return the endpoints without those that may not be called."""
        if entry is None:
            return None
        whys = {one: self._refuses(one.address.rpartition(":")[0]) for one in entry.addresses}
        allowed = tuple(one for one, why in whys.items() if not why)
        if len(allowed) == len(entry.addresses):
            return entry
        why = next(filter(None, whys.values()))
        self._refused[f"endpoints/{entry.backend}"] = (
            f"an endpoint may not be called: {why}; {_HOW_TO_ALLOW}"
        )
        return msgspec.structs.replace(entry, addresses=allowed)

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
        self._claims.settle()
        return Snapshot(
            revision=revision,
            policies=dict(self._policies),
            backends=dict(self._backends),
            exact=self._claims.exact,
            wildcards=self._claims.wildcards,
            facts=self._facts,
            answer_facts=self._answer_facts,
            zone=self._zone,
            live_pods=max(1, live_pods),
            reads=any(policy.readings for policy in self._policies.values()),
            terminating=frozenset(self._terminating),
            clients=self._clients.settle(),
        )


def _shapes_policies(key: str) -> bool:
    return not key.startswith(("endpoints/", "client/"))


def _webhooks(entry: ir.Policy) -> Iterator[str]:
    for rule in entry.rules:
        if rule.review is not None:
            yield rule.review.webhook


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


def _places_of(endpoints: Sequence[Endpoint], before: Backend) -> dict[str, int]:
    """Return what is remembered of the endpoints' places; of those that are gone not for ever."""
    known = before.places
    if len(known) <= 2 * len(endpoints):
        return known
    return {one.id: known[one.id] for one in endpoints if one.id in known}


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
