"""What the operator is told: flags, then environment, then the YAML file, then defaults.

The file says what an administrator decides of the gateways; it never is a custom resource, since
who may write RoutingPolicies must not decide whose policies win.
"""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from switchboard_policy.compiler.clients import (
    FACT_NAME_PATTERN,
    FACT_PATTERN,
    MODEL_PATTERN,
    MODELS_MAX,
)
from switchboard_policy.compiler.world import Gateway
from switchboard_policy.store.address import parse_address
from switchboard_policy.v1alpha1.common import DURATION_PATTERN, PATTERN_WORDS, duration_ms
from switchboard_policy.v1alpha1.conditions import Reason

ENVIRONMENT_PREFIX: Final = "SWITCHBOARD_"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
GATEWAYS_MAX: Final = 64
ACCOUNT_RULES_MAX: Final = 256

Label = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
ObjectName = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]

FactName = Annotated[str, Field(min_length=1, pattern=FACT_NAME_PATTERN)]
Fact = Annotated[str, Field(pattern=FACT_PATTERN)]
ModelName = Annotated[str, Field(pattern=MODEL_PATTERN)]


class FindingGroup(StrEnum):
    """What may be found of an object beside errors of its own; admission warns of it."""

    UNRESOLVED = "Unresolved"
    NOT_ADMITTED = "NotAdmitted"
    CONFLICTS = "Conflicts"
    ANALYSIS = "Analysis"


_NEVER_FOUND: Final = frozenset(
    {
        *(Reason.PENDING, Reason.ACCEPTED, Reason.INVALID, Reason.INVALID_EXPRESSION),
        *(Reason.RESOLVED_REFS, Reason.PROGRAMMED, Reason.NOT_REFERENCED, Reason.READY),
        *(Reason.NO_DATA_PLANES, Reason.STORE_UNAVAILABLE, Reason.WAITING_FOR_PODS),
        *(Reason.REFUSED_BY_POD, Reason.LAST_GOOD_IN_FORCE),
    }
)
"""Reasons that admission never warns of: errors of the object's own, and what comes later."""
DENIABLE: Final = frozenset({*FindingGroup, *Reason} - _NEVER_FOUND)


def _duration(said: object) -> object:
    if isinstance(said, timedelta):
        return said
    if not isinstance(said, str) or not re.fullmatch(DURATION_PATTERN, said):
        raise ValueError(f"write {PATTERN_WORDS[DURATION_PATTERN]}")
    return timedelta(milliseconds=duration_ms(said))


#: A GEP-2257 duration.
Duration = Annotated[timedelta, BeforeValidator(_duration)]


class SettingsInvalid(Exception):
    """The settings cannot be used; the text names each field, its value and what to do."""


def _both(flag: str) -> str:
    variable = ENVIRONMENT_PREFIX + flag.removeprefix("--").replace("-", "_").upper()
    return (
        f"{flag} and {flag}-file are both set, in the file (url, urlFile), by flags, or by the "
        f"environment ({variable}, {variable}_FILE): give one of them"
    )


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True
    )


class KeySettings(_Part):
    """How a gateway's scope key is rotated; see ``rotation.Pace``."""

    rotate_after: Duration = timedelta(hours=720)
    wait_at_most: Duration = timedelta(minutes=15)
    keep_old_for: Duration = timedelta(minutes=5)


class ClientsFrom(_Part):
    """Whose labelled Secrets are keys of a gateway: namespaces, as for policies."""

    from_: Literal["Same", "Selector", "All"] = Field(default="Same", alias="from")
    selector: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _selector_belongs_to_from(self) -> "ClientsFrom":
        if (self.from_ == "Selector") != bool(self.selector):
            raise ValueError(
                f"from is {self.from_} and selector has {len(self.selector)} labels: give labels "
                "with from: Selector, and none with Same or All"
            )
        return self


class ServiceAccountRule(_Part):
    """ServiceAccounts that are admitted ("*" is any), and what is known of them.

    ``models`` are public names, exact or with a trailing ``*``; without any, all may be used.
    """

    # No default: who may write in any namespace makes accounts of any name there.
    namespace: Label | Literal["*"]
    name: ObjectName | Literal["*"] = "*"
    tier: Fact = ""
    team: Fact = ""
    labels: dict[FactName, Fact] = Field(default_factory=dict)
    models: Annotated[list[ModelName], Field(max_length=MODELS_MAX)] = Field(default_factory=list)


class AccessSettings(_Part):
    """Who may call a gateway by a key, or by a token of Kubernetes.

    The first of ``service_accounts`` that names an account says what is known of it; accounts that
    none names are not admitted, but without any rule all are. ``audience`` is what a token must be
    meant for.
    """

    clients: ClientsFrom = ClientsFrom()
    service_accounts: Annotated[list[ServiceAccountRule], Field(max_length=ACCOUNT_RULES_MAX)] = (
        Field(default_factory=list[ServiceAccountRule])
    )
    audience: Annotated[str, Field(min_length=1, max_length=253)] = "switchboard"


class GatewaySettings(_Part):
    """One gateway: whose policies it serves, and whose win."""

    name: Label = "default"
    namespace: Label | None = None
    admit: Literal["Same", "Selector", "All"] = "All"
    selector: dict[str, str] = Field(default_factory=dict)
    order: list[Label] = Field(default_factory=list)
    platform_namespace: Label | None = None
    access: AccessSettings = AccessSettings()
    keys: KeySettings = KeySettings()

    @model_validator(mode="after")
    def _selector_belongs_to_admit(self) -> "GatewaySettings":
        if (self.admit == "Selector") != bool(self.selector):
            raise ValueError(
                f"admit is {self.admit} and selector has {len(self.selector)} labels: give labels "
                "with admit: Selector, and none with Same or All"
            )
        return self


class RedisSettings(_Part):
    """Where the store is; ``url`` may hold a password, so it comes from a Secret.

    Or it is in ``url_file``, which may be replaced: then a new password needs no restart.
    """

    url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    url_file: str = ""

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, url: str) -> str:
        parse_address(url)
        return url

    @model_validator(mode="after")
    def _one_is_given(self) -> "RedisSettings":
        if self.url_file and "url" in self.model_fields_set:
            raise ValueError(_both("--redis-url"))
        return self


class LeaseSettings(_Part):
    """The Lease by which replicas elect a leader; see ``lease.Terms``."""

    name: Label = "switchboard-operator"
    duration: Duration = timedelta(seconds=4)
    renew_deadline: Duration = timedelta(seconds=3)
    retry: Duration = timedelta(milliseconds=500)

    @model_validator(mode="after")
    def _a_leader_can_keep_it(self) -> "LeaseSettings":
        if self.duration.microseconds:
            raise ValueError("the duration of a Lease is in whole seconds")
        if not self.renew_deadline < self.duration:
            raise ValueError("give renewDeadline less time than duration: a leader stops first")
        if not timedelta() < self.retry * 3 <= self.renew_deadline:
            raise ValueError("give retry a third of renewDeadline at most: renewals fail at times")
        return self


class CertificateSettings(_Part):
    """How the certificate that the operator makes is renewed; see ``certificates.Pace``."""

    lifetime: Duration = timedelta(days=90)
    settle: Duration = timedelta(seconds=30)
    keep_old_for: Duration = timedelta(hours=1)


class AdmissionSettings(_Part):
    """The validating webhook; it is off where ``port`` is 0.

    ``service`` and ``secret`` are names in the operator's namespace. ``cert_dir`` holds files that
    somebody else makes: then there is no Secret and nothing is written to ``configuration``.
    ``deny`` lists groups of findings, or reasons, that are denials and not warnings.
    """

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    host: str = "0.0.0.0"  # noqa: S104 - the API server calls from outside the pod
    service: Label = "switchboard-operator"
    secret: ObjectName = "switchboard-admission"  # noqa: S105 - a name
    configuration: ObjectName | None = None
    cert_dir: str | None = None
    deny: list[str] = Field(default_factory=list[str])
    certificates: CertificateSettings = CertificateSettings()
    linger: Duration = timedelta(seconds=5)

    @field_validator("deny")
    @classmethod
    def _deny_names_findings(cls, deny: list[str]) -> list[str]:
        if wrong := [each for each in deny if each not in DENIABLE]:
            raise ValueError(
                f"{', '.join(wrong)} is nothing that can be denied: write {', '.join(FindingGroup)}"
                ", or a reason of theirs such as BackendNotFound"
            )
        return deny


class SidecarRedisSettings(_Part):
    """How sidecars reach the store.

    ``address`` is the store's URL as pods elsewhere see it; its login is replaced by that of each
    namespace's own user. "" is the operator's. ``url``, or what ``url_file`` says, is used by all
    as it is instead: then no users are made, and one namespace's sidecars may read what is
    another's.
    """

    address: str = Field(default="", repr=False)
    url: str = Field(default="", repr=False)
    url_file: str = ""

    @field_validator("address", "url")
    @classmethod
    def _each_is_a_url(cls, url: str) -> str:
        if url:
            parse_address(url)
        return url

    @model_validator(mode="after")
    def _one_is_given(self) -> "SidecarRedisSettings":
        if self.url_file and self.url:
            raise ValueError(_both("--sidecar-redis-url"))
        return self


class SidecarSettings(_Part):
    """Data planes beside applications; off unless ``enabled``.

    ``gateway`` is whose policies they have, "" is the first one; ``gateway_url`` is its base URL,
    which ends in /v1. ``flags`` are more of the data plane's, the maps are as in a container.
    ``configuration`` is the MutatingWebhookConfiguration whose caBundle the leader keeps.
    ``linger`` is how long a scope stays that nobody has use for.
    """

    enabled: bool = False
    gateway: str = ""
    gateway_url: str = ""
    configuration: ObjectName | None = None
    image: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    resources: dict[str, dict[str, str | int | float]] = Field(default_factory=dict)
    security_context: dict[str, Any] = Field(default_factory=dict)
    flags: list[str] = Field(default_factory=list)
    audience: Annotated[str, Field(min_length=1, max_length=253)] = "switchboard"
    scopes_max: Annotated[int, Field(ge=1, le=5_000)] = 500
    linger: Duration = timedelta(minutes=10)
    redis: SidecarRedisSettings = SidecarRedisSettings()

    @model_validator(mode="after")
    def _enough_is_said(self) -> "SidecarSettings":
        if self.enabled and not (self.image and self.gateway_url):
            raise ValueError("with enabled: true give image and gatewayUrl, too")
        return self


class Settings(_Part):
    """All settings, as in the file. ``namespace`` is the operator's own."""

    namespace: Label
    gateways: Annotated[list[GatewaySettings], Field(min_length=1, max_length=GATEWAYS_MAX)] = (
        Field(default_factory=lambda: [GatewaySettings()])
    )
    watch_namespaces: list[Label] = Field(default_factory=list)
    redis: RedisSettings = RedisSettings()
    lease: LeaseSettings = LeaseSettings()
    admission: AdmissionSettings = AdmissionSettings()
    sidecar: SidecarSettings = SidecarSettings()
    admin_host: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    admin_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kubeconfig: str | None = None
    pod_name: str = ""
    owner: ObjectName | None = None

    @model_validator(mode="after")
    def _gateways_have_names_of_their_own(self) -> "Settings":
        names = [gateway.name for gateway in self.gateways]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"gateways {', '.join(twice)} appear twice: give each its own name")
        return self

    @model_validator(mode="after")
    def _sidecars_have_a_gateway(self) -> "Settings":
        said = self.sidecar
        if not said.enabled:
            return self
        if said.gateway and said.gateway not in [each.name for each in self.gateways]:
            raise ValueError(f"sidecar.gateway: there is no gateway {said.gateway}")
        if not self.admission.port:
            raise ValueError("sidecar.enabled needs admission.port: the same port injects them")
        return self

    def worlds_gateways(self) -> list[Gateway]:
        """Return the gateways as the compiler knows them."""
        return [
            Gateway(
                name=said.name,
                namespace=said.namespace or self.namespace,
                admit=said.admit,
                selector=said.selector,
                order=tuple(said.order),
                platform_namespace=said.platform_namespace or "",
                clients_from=said.access.clients.from_,
                clients_selector=said.access.clients.selector,
            )
            for said in self.gateways
        ]


#: A URL may hold a password, and so may what it is part of.
_HIDDEN: Final = frozenset(
    {"redis", "redis.url", "sidecar", "sidecar.redis", "sidecar.redis.url", "sidecar.redis.address"}
)

#: Flag → where it goes in the file's form; the environment variable follows from the flag.
_FLAGS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "namespace": (("namespace",), "namespace of the operator (default: the pod's)"),
    "watch-namespaces": (("watchNamespaces",), "comma-separated; default: all namespaces"),
    "redis-url": (
        ("redis", "url"),
        "redis://, rediss://, or the address of Sentinels or of a Cluster",
    ),
    "redis-url-file": (
        ("redis", "urlFile"),
        "file with that URL, in the place of --redis-url; it may be replaced: a mounted Secret",
    ),
    "sidecar-redis-url": (("sidecar", "redis", "url"), "a URL that all sidecars have as it is"),
    "sidecar-redis-url-file": (("sidecar", "redis", "urlFile"), "file with that URL, likewise"),
    "lease-name": (("lease", "name"), "name of the Lease"),
    "lease-duration": (("lease", "duration"), "how long others wait for a silent leader: 4s"),
    "lease-renew-deadline": (
        ("lease", "renewDeadline"),
        "how long a leader goes on without a renewal: 3s",
    ),
    "lease-retry": (("lease", "retry"), "between two renewals: 500ms"),
    "admin-host": (("adminHost",), "address of the admin port"),
    "admin-port": (("adminPort",), "admin port: /livez /readyz /metrics"),
    "admission-port": (("admission", "port"), "port of the webhook; 0, the default: none"),
    "admission-host": (("admission", "host"), "address of the webhook's port"),
    "admission-service": (("admission", "service"), "Service by which the webhook is called"),
    "admission-secret": (("admission", "secret"), "Secret with the webhook's certificate"),
    "admission-configuration": (
        ("admission", "configuration"),
        "ValidatingWebhookConfiguration whose caBundle the leader keeps",
    ),
    "admission-cert-dir": (
        ("admission", "certDir"),
        "folder with tls.crt and tls.key that somebody else makes, instead of the Secret",
    ),
    "log-level": (("logLevel",), "debug, info, warning or error"),
    "kubeconfig": (("kubeconfig",), "kubeconfig file (default: the pod's ServiceAccount)"),
    "pod-name": (("podName",), "name of the Pod that the operator runs in"),
    "owner": (("owner",), "ConfigMap beside the operator; what the operator makes goes with it"),
}


def read_settings(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read all sources. Raises SettingsInvalid."""
    parser = argparse.ArgumentParser(
        prog="switchboard operator",
        description="Watch ModelBackends and RoutingPolicies, publish them to the data planes.",
        epilog="Every flag is also an environment variable: --redis-url is SWITCHBOARD_REDIS_URL.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with the gateways")
    for flag, (_, meaning) in _FLAGS.items():
        parser.add_argument(f"--{flag}", help=meaning)
    said = vars(parser.parse_args(argv))

    def given(flag: str) -> str | None:
        flagged: str | None = said[flag.replace("-", "_")]
        variable = ENVIRONMENT_PREFIX + flag.replace("-", "_").upper()
        return flagged if flagged is not None else environ.get(variable)

    form = _read_file(given("config"))
    for flag, (place, _) in _FLAGS.items():
        if (value := given(flag)) is not None:
            _put(form, place, value.split(",") if flag == "watch-namespaces" else value)
    if "namespace" not in form and NAMESPACE_FILE.exists():
        form["namespace"] = NAMESPACE_FILE.read_text().strip()
    try:
        return Settings.model_validate(form)
    except ValidationError as error:
        raise SettingsInvalid(_explain(error)) from error


def _read_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        said: object = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsInvalid(f"--config {path}: {error}") from error
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise SettingsInvalid(f"--config {path}: the file must be a map, such as `gateways: […]`")
    return cast("dict[str, Any]", said)


def _put(form: dict[str, Any], place: tuple[str, ...], value: object) -> None:
    *parents, last = place
    for parent in parents:
        # What is no map is left for the validation to tell.
        if not isinstance(form.setdefault(parent, {}), dict):
            return
        form = form[parent]
    form[last] = value


def _explain(error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "missing":
            lines.append(f"{place}: is not set; set it in the file or with a flag (see --help)")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{place}: there is no such setting; correct its name or remove it")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            # The whole of the settings is no value to show.
            hidden = place in _HIDDEN or not problem["loc"]
            shown = "" if hidden else f" is {problem['input']!r}"
            lines.append(f"{place}{shown}: {text}")
    return "\n".join(lines)
