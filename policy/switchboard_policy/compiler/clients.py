"""Client Secrets: who may call a gateway by an API key, of which only a keyed hash goes on.

Nothing that a Secret holds is ever part of a message: whoever pastes a key into the wrong place
finds it in no log and no Event.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from switchboard_policy import ir, names
from switchboard_policy.codec import Encoded, encode
from switchboard_policy.compiler.selectors import Labels, admits_clients
from switchboard_policy.compiler.world import Gateway, Name, Secret, World
from switchboard_policy.seal import Keyring

KEY: Final = "api-key"
FIELDS: Final = (KEY, "tier", "team", "labels", "models", "expires")

#: What limits a client, and is no limit where it is left out: an empty one was meant to be another.
_LIMITS: Final = {
    "models": "name the models that it may use",
    "expires": "write a time with its zone",
}

KEY_CHARACTERS_MIN: Final = 16
LABELS_MAX: Final = 64
MODELS_MAX: Final = 256

#: What a tier, a team or the value of a label may be: as the value of a Kubernetes label.
FACT_PATTERN: Final = r"^([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$"
#: The name of a label.
FACT_NAME_PATTERN: Final = r"^[A-Za-z0-9]([-_./A-Za-z0-9]{0,61}[A-Za-z0-9])?$"
#: A public model name without commas, or with "*" at its end for all that begin like it.
MODEL_PATTERN: Final = r"^[!-)+\--~]{0,127}[!-+\--~]$"

_KEY: Final = re.compile(rb"[!-~]{%d,%d}" % (KEY_CHARACTERS_MIN, names.CLIENT_KEY_CHARACTERS_MAX))
_TOKEN: Final = re.compile(names.TOKEN_PATTERN.encode())
_FACT: Final = re.compile(FACT_PATTERN)
_FACT_NAME: Final = re.compile(FACT_NAME_PATTERN)
_MODEL: Final = re.compile(MODEL_PATTERN)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[-+]\d\d:\d\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FACT_WORDS: Final = (
    "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
)

INVALID: Final = "ClientInvalid"
DUPLICATE: Final = "ClientDuplicate"
NOT_ADMITTED: Final = "ClientNotAdmitted"


class ClientProblem(NamedTuple):
    """What is wrong with a key of a client Secret's data, and what to do about it."""

    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}: {self.fix}"


class Refusal(NamedTuple):
    """Why a Secret makes no client of a gateway; ``uid`` is the Secret's."""

    uid: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """What a client Secret says; ``expires_ms`` is in Unix time, None for never."""

    key: bytes = field(repr=False)
    tier: str = ""
    team: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    expires_ms: int | None = None


def read_client(data: Mapping[str, bytes]) -> tuple[ClientSpec | None, tuple[ClientProblem, ...]]:
    """Read the data of a client Secret; there is no spec if there are any problems."""
    problems = list(_key_problems(data))
    if not data.keys() <= set(FIELDS):
        # Which is not told: it may be an API key, where name and value changed places.
        fix = f"write {', '.join(FIELDS)} alone"
        problems.append(ClientProblem("data", "has a key that no client has", fix))
    said: dict[str, str] = {}
    for name in FIELDS[1:]:
        try:
            said[name] = data.get(name, b"").decode("ascii").strip()
        except UnicodeDecodeError:
            problems.append(_problem(name, "is not ASCII", "write ASCII"))
    problems.extend(
        _problem(name, "is not well-formed", f"write {_FACT_WORDS}")
        for name in ("tier", "team")
        if not _FACT.fullmatch(said.get(name, ""))
    )
    problems.extend(
        _problem(name, "is empty", f"{fix}, or leave it out")
        for name, fix in _LIMITS.items()
        if name in data and said.get(name) == ""
    )
    labels = _labels(said.get("labels", ""), problems)
    models = _models(said.get("models", ""), problems)
    expires_ms = _expires_ms(said.get("expires", ""), problems)
    if problems:
        return None, tuple(problems)
    return (
        ClientSpec(data[KEY].strip(), said["tier"], said["team"], labels, models, expires_ms),
        (),
    )


def _problem(name: str, message: str, fix: str) -> ClientProblem:
    return ClientProblem(f"data.{name}", message, fix)


def _key_problems(data: Mapping[str, bytes]) -> Iterator[ClientProblem]:
    fix = "make one with `switchboard key`"
    if KEY not in data:
        yield _problem(KEY, "is missing", fix)
        return
    # Files end in a newline, and so do the Secrets that are made from them.
    key = data[KEY].strip()
    if not _KEY.fullmatch(key):
        most = names.CLIENT_KEY_CHARACTERS_MAX
        form = f"{KEY_CHARACTERS_MIN} to {most} printable ASCII characters"
        yield _problem(KEY, f"is not of {form} without spaces", fix)
    elif _TOKEN.fullmatch(key):
        yield _problem(KEY, "has the form of a ServiceAccount token, and is taken for one", fix)


def _listed(said: str) -> list[str]:
    """Split at commas; one at the end is forgiven."""
    return [part.strip() for part in said.removesuffix(",").split(",")] if said else []


def _labels(said: str, problems: list[ClientProblem]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    parts = _listed(said)
    for number, each in enumerate(parts, start=1):
        name, equals, value = each.partition("=")
        if not equals or not _FACT_NAME.fullmatch(name) or not _FACT.fullmatch(value):
            fix = f"write name=value, both {_FACT_WORDS} (names may have '/')"
            problems.append(_problem("labels", f"label {number} is not well-formed", fix))
        elif name in found:
            problems.append(_problem("labels", f"label {number} is there twice", "remove one"))
        found[name] = value
    if len(parts) > LABELS_MAX:
        problems.append(_problem("labels", f"has {len(parts)} labels", f"write {LABELS_MAX}"))
    return tuple(sorted(found.items()))


def _models(said: str, problems: list[ClientProblem]) -> tuple[str, ...]:
    found = _listed(said)
    for number, each in enumerate(found, start=1):
        if not _MODEL.fullmatch(each):
            fix = 'write the public names of models, "*" at the end alone: chat,gpt-4o*'
            problems.append(_problem("models", f"name {number} is not well-formed", fix))
    if len(found) > MODELS_MAX:
        fix = f'write {MODELS_MAX} at most, with "*" for many'
        problems.append(_problem("models", f"has {len(found)} names", fix))
    return tuple(dict.fromkeys(found))


def _expires_ms(said: str, problems: list[ClientProblem]) -> int | None:
    if not said:
        return None
    try:
        # Of the fraction Python reads what it knows of.
        at = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", said.upper()))
    except ValueError:
        at = None
    if at is None or not _TIME.fullmatch(said):
        fix = "write a time with its zone, as in RFC 3339: 2027-01-31T00:00:00Z"
        problems.append(_problem("expires", "is no time", fix))
        return None
    return (at - _EPOCH) // timedelta(milliseconds=1)


class Clients:
    """The clients of one gateway, kept up to date Secret by Secret.

    ``entries`` are published, by object key. ``refused`` are the Secrets that make no client, those
    of namespaces that the gateway takes no clients from included.
    """

    def __init__(self) -> None:
        self.entries: Mapping[str, Encoded] = {}
        self.refused: Mapping[Name, Refusal] = {}
        self._keyring: Keyring | None = None
        self._secrets: Mapping[Name, Secret] = {}
        self._namespaces: Mapping[str, Labels] = {}
        self._read: dict[Name, tuple[Secret, ClientSpec | Refusal]] = {}

    def update(self, world: World, gateway: Gateway, keyring: Keyring) -> bool:
        """Bring them up to date; say whether anything changed."""
        same = world.clients == self._secrets and world.namespaces == self._namespaces
        if same and keyring is self._keyring:
            return False
        self._keyring, self._secrets = keyring, dict(world.clients)
        self._namespaces = dict(world.namespaces)
        refused: dict[Name, Refusal] = {}
        specs: dict[Name, ClientSpec] = {}
        read: dict[Name, tuple[Secret, ClientSpec | Refusal]] = {}
        for name, secret in world.clients.items():
            if not admits_clients(gateway, name.namespace, world.namespaces.get(name.namespace)):
                refused[name] = _foreign(secret, gateway)
                continue
            read[name] = secret, self._read_anew(secret)
            found = read[name][1]
            if isinstance(found, Refusal):
                refused[name] = found
            else:
                specs[name] = found
        self._read = read
        entries: dict[str, Encoded] = {}
        for name, holder in _holders(specs, world.clients).items():
            if holder != name:
                refused[name] = _duplicate(world.clients[name], holder)
                continue
            key = names.client_key(*name)
            entry = _entry(name, specs[name], keyring)
            last = self.entries.get(key)
            entries[key] = last if last is not None and last.entry == entry else encode(entry)
        before = self.entries, self.refused
        self.entries, self.refused = entries, refused
        return before != (entries, refused)

    def _read_anew(self, secret: Secret) -> ClientSpec | Refusal:
        """Read a Secret, unless it is the one that was read last."""
        last = self._read.get(secret.name)
        if last is not None and last[0] is secret:
            return last[1]
        spec, problems = read_client(secret.data)
        if spec is not None:
            return spec
        said = "; ".join(str(problem) for problem in problems)
        return Refusal(secret.uid, INVALID, f"this Secret makes no client: {said}")


def _holders(
    specs: Mapping[Name, ClientSpec], secrets: Mapping[Name, Secret]
) -> Mapping[Name, Name]:
    """Return for each Secret the one whose client has its key: the oldest, then by name."""
    age: Callable[[Name], tuple[str, Name]] = lambda name: (secrets[name].created, name)  # noqa: E731
    first: dict[bytes, Name] = {}
    return {name: first.setdefault(specs[name].key, name) for name in sorted(specs, key=age)}


def _entry(name: Name, spec: ClientSpec, keyring: Keyring) -> ir.Client:
    return ir.Client(
        name=str(name),
        key_id=keyring.current,
        digest=keyring.hash_key(keyring.current, spec.key),
        tier=spec.tier,
        team=spec.team,
        labels=spec.labels,
        models=spec.models,
        expires_ms=spec.expires_ms,
    )


def _duplicate(secret: Secret, holder: Name) -> Refusal:
    message = (
        f"this Secret makes no client: Secret {holder} has the same {KEY}, and is older or comes "
        "first by name: make another key with `switchboard key`"
    )
    return Refusal(secret.uid, DUPLICATE, message)


def _foreign(secret: Secret, gateway: Gateway) -> Refusal:
    message = (
        f"this Secret makes no client: gateway {gateway.name} takes clients from "
        f"{_WHENCE[gateway.clients_from]}: put it there, or have the administrator change "
        "gateway.access.clients"
    )
    return Refusal(secret.uid, NOT_ADMITTED, message)


_WHENCE: Final = {
    "Same": "its own namespace alone",
    "Selector": "namespaces with certain labels",
    "All": "all namespaces",
}
