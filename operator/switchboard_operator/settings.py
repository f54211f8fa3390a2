"""What the operator is told: flags, then environment, then the YAML file, then defaults.

The file says what an administrator decides of the gateways; it never is a custom resource, since
who may write RoutingPolicies must not decide whose policies win.
"""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
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

from switchboard_policy.compiler.world import Gateway
from switchboard_policy.store.address import parse_address
from switchboard_policy.v1alpha1.common import DURATION_PATTERN, PATTERN_WORDS, duration_ms

ENVIRONMENT_PREFIX: Final = "SWITCHBOARD_"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
GATEWAYS_MAX: Final = 64

Label = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]


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


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True
    )


class KeySettings(_Part):
    """How a gateway's scope key is rotated; see ``rotation.Pace``."""

    rotate_after: Duration = timedelta(hours=720)
    wait_at_most: Duration = timedelta(minutes=15)
    keep_old_for: Duration = timedelta(minutes=5)


class GatewaySettings(_Part):
    """One gateway: whose policies it serves, and whose win."""

    name: Label = "default"
    namespace: Label | None = None
    admit: Literal["Same", "Selector", "All"] = "All"
    selector: dict[str, str] = Field(default_factory=dict)
    order: list[Label] = Field(default_factory=list)
    platform_namespace: Label | None = None
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
    """Where the store is; ``url`` may hold a password, so it comes from a Secret."""

    url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, url: str) -> str:
        parse_address(url)
        return url


class LeaseSettings(_Part):
    """The Lease by which replicas elect a leader."""

    name: Label = "switchboard-operator"


class Settings(_Part):
    """All settings, as in the file. ``namespace`` is the operator's own."""

    namespace: Label
    gateways: Annotated[list[GatewaySettings], Field(min_length=1, max_length=GATEWAYS_MAX)] = (
        Field(default_factory=lambda: [GatewaySettings()])
    )
    watch_namespaces: list[Label] = Field(default_factory=list)
    redis: RedisSettings = RedisSettings()
    lease: LeaseSettings = LeaseSettings()
    admin_host: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside the pod
    admin_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kubeconfig: str | None = None
    pod_name: str = ""

    @model_validator(mode="after")
    def _gateways_have_names_of_their_own(self) -> "Settings":
        names = [gateway.name for gateway in self.gateways]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"gateways {', '.join(twice)} appear twice: give each its own name")
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
            )
            for said in self.gateways
        ]


#: Flag → where it goes in the file's form; the environment variable follows from the flag.
_FLAGS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "namespace": (("namespace",), "namespace of the operator (default: the pod's)"),
    "watch-namespaces": (("watchNamespaces",), "comma-separated; default: all namespaces"),
    "redis-url": (
        ("redis", "url"),
        "redis://, rediss://, or the address of Sentinels or of a Cluster",
    ),
    "lease-name": (("lease", "name"), "name of the Lease"),
    "admin-host": (("adminHost",), "address of the admin port"),
    "admin-port": (("adminPort",), "admin port: /livez /readyz /metrics"),
    "log-level": (("logLevel",), "debug, info, warning or error"),
    "kubeconfig": (("kubeconfig",), "kubeconfig file (default: the pod's ServiceAccount)"),
    "pod-name": (("podName",), "name of the Pod that the operator runs in"),
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
            # A URL may hold a password, and the whole of the settings is no value to show.
            hidden = not problem["loc"] or place == "redis.url"
            shown = "" if hidden else f" is {problem['input']!r}"
            lines.append(f"{place}{shown}: {text}")
    return "\n".join(lines)
