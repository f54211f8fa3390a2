"""The settings of a data plane: each one a flag, and an environment variable SWITCHBOARD_*."""

import argparse
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from switchboard_policy.errors import Malformed
from switchboard_policy.store import Retention

_PREFIX: Final = "SWITCHBOARD_"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_ACCESS_MODES: Final = ("keys", "tokens", "mesh", "none", "pod")
_ACCESS_ALONE: Final = frozenset({"none", "pod"})
_OTLP_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)

#: What numbers may be: the least, the most, and of what.
_BOUNDS: Final = (
    ("grace_s", 0, 3_600, " seconds"),
    ("drain_s", 0, 3_600, " seconds"),
    ("body_limit_bytes", 1, 1024**3, ""),
    ("decision_log_entries", 0, 10_000_000, ""),
    ("decision_log_age_s", 1, 31_536_000, " seconds"),
)


def _said(default: object, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a data plane is told at its start; it never changes while it runs."""

    listen: str = _said("0.0.0.0:8080", "address of the public port")
    admin: str = _said("0.0.0.0:9090", "address of the admin port")
    redis_url: str = _said(
        "", "where compiled policy comes from: redis[s]://, redis[s]+sentinel://, …+cluster://"
    )
    redis_url_file: str = _said(
        "", "file with that URL, in the place of --redis-url; it may be replaced: a mounted Secret"
    )
    scope: str = _said("gw/default", "the scope that is read: gw/NAME or ns/NAMESPACE")
    scope_key_file: str = _said("", "file with the scope's keys")
    zone: str = _said("", "the zone that this data plane runs in")
    pod_name: str = _said("", "name of this pod; the host's name if empty")
    pod_namespace: str = _said("", "namespace of this pod")
    pod_uid: str = _said("", "UID of this pod")
    state_dir: str = _said("", "folder for the last good snapshot; none is kept if empty")
    routers: str = _said("", "folder of learned routers that policies may name, by their digests")
    grace_s: float = _said(5.0, "after SIGTERM: listen on, not ready, for this long")
    drain_s: float = _said(30.0, "after the grace: let live requests run for this long")
    body_limit_bytes: int = _said(32 * 1024 * 1024, "largest body of a request")
    bodies_limit_bytes: int = _said(
        256 * 1024 * 1024, "what bodies on their way hold together, and one of them at least"
    )
    decision_log_entries: int = _said(
        100_000, "entries of the scope's decision log in the store; 0: none is kept there"
    )
    decision_log_age_s: float = _said(604_800.0, "age at which entries of it go")
    detail_headers: bool = _said(True, "say in x-switchboard-* headers how a request was routed")  # noqa: FBT003
    lane: bool = _said(True, "serve model routes by the fast lane; else by aiohttp, like the rest")  # noqa: FBT003
    upstream_ca_file: str = _said("", "PEM file of authorities to trust beside the system's")
    allow_addresses: str = _said(
        "", "networks to call models in that are refused, such as 127.0.0.0/8; by commas"
    )
    gateway_token_file: str = _said(
        "", "of a sidecar: file with the token that is shown to the gateway; it may be replaced"
    )
    access: str = _said(
        "none", "who may call: keys, tokens and mesh, by commas; or none (anybody), or pod"
    )
    token_audience: str = _said("switchboard", "what a ServiceAccount's token must be meant for")
    trusted_peers: str = _said(
        "", "networks whose word for a caller's identity counts, such as 10.0.0.0/8; by commas"
    )
    mesh_header: str = _said(
        "x-forwarded-client-cert", "header in which they name a caller's SPIFFE URI"
    )
    service_account: str = _said("", "name of the ServiceAccount that calls where access is pod")
    log_level: str = _said("info", "debug, info, warning or error")
    otlp: bool = field(default=False)

    @property
    def state_path(self) -> Path | None:
        """The folder for the last good snapshot, None if none is kept."""
        return Path(self.state_dir) if self.state_dir else None

    @property
    def routers_path(self) -> Path | None:
        """The folder of learned routers, None if there is none."""
        return Path(self.routers) if self.routers else None

    @property
    def access_modes(self) -> frozenset[str]:
        """By what callers are let in."""
        return frozenset(one.strip() for one in self.access.split(","))

    @property
    def decision_log(self) -> Retention:
        """How much the scope's decision log keeps."""
        return Retention(self.decision_log_entries, round(self.decision_log_age_s * 1000))


def parse_settings(argv: Sequence[str], env: Mapping[str, str], *, prog: str) -> Settings:
    """Read flags and environment; a flag wins. A wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A data plane: decides which model answers a request and sends it there.",
        epilog="`switchboard-dataplane probe --help` tells of the command that probes one. "
        f"Every flag is an environment variable too: --zone is {_PREFIX}ZONE. "
        "Metrics and traces go out by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT is set, or the "
        "signal's own: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.",
    )
    for one in fields(Settings):
        if "meaning" in one.metadata:
            parser.add_argument(
                f"--{one.name.replace('_', '-')}",
                metavar="VALUE",
                help=f"{one.metadata['meaning']} (default: {one.default!r})",
            )
    said = vars(parser.parse_args(argv))
    values: dict[str, Any] = {}
    for one in fields(Settings):
        text = said.get(one.name)
        if text is None:
            text = env.get(_PREFIX + one.name.upper()) if "meaning" in one.metadata else None
        if text is None:
            continue
        try:
            values[one.name] = _read(text, one.default)
        except ValueError as error:
            parser.error(f"--{one.name.replace('_', '-')}: {error}")
    values["otlp"] = any(env.get(name) for name in _OTLP_ENDPOINTS)
    settings = Settings(**values)
    problem = _problem(settings)
    if problem:
        parser.error(problem)
    return settings


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[v6]:PORT`` or ``:PORT``; raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535:  # noqa: PLR2004
        raise ValueError(f"{address!r} is no address; write HOST:PORT, such as 0.0.0.0:8080")
    return host.strip("[]"), int(port)


def _read(text: str, default: object) -> object:
    match default:
        case bool():
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError(f"{text!r} is neither true nor false")
            return text.lower() in _TRUE
        case int():
            return int(text)
        case float():
            return float(text)
        case _:
            return text


def _problem(settings: Settings) -> str:
    """Say what cannot be, "" if all is well."""
    for name, address in (("listen", settings.listen), ("admin", settings.admin)):
        try:
            split_address(address)
        except ValueError as error:
            return f"--{name}: {error}"
    for name, least, most, unit in _BOUNDS:
        value = getattr(settings, name)
        if not least <= value <= most:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            return f"--{name.replace('_', '-')}: {shown} is not in {least}..{most}{unit}"
    if settings.bodies_limit_bytes < 1:
        return f"--bodies-limit-bytes: {settings.bodies_limit_bytes} is less than 1"
    wrong = _problem_of_store(settings) or _problem_of_access(settings)
    if wrong:
        return wrong
    if settings.log_level not in ("debug", "info", "warning", "error"):
        return f"--log-level: {settings.log_level!r} is none of debug, info, warning, error"
    return ""


def _problem_of_store(settings: Settings) -> str:
    if settings.redis_url and settings.redis_url_file:
        return (
            "--redis-url and --redis-url-file are both set, here or by the environment "
            f"({_PREFIX}REDIS_URL, {_PREFIX}REDIS_URL_FILE): give one of them"
        )
    return ""


def _problem_of_access(settings: Settings) -> str:
    modes = settings.access_modes
    unknown = sorted(modes - set(_ACCESS_MODES))
    if unknown:
        return f"--access: {unknown[0]!r} is none of {', '.join(_ACCESS_MODES)}"
    if len(modes) > 1 and modes & _ACCESS_ALONE:
        return f"--access: {settings.access!r}: none and pod stand alone"
    if "pod" in modes and not (settings.service_account and settings.pod_namespace):
        return "--access pod needs --service-account and --pod-namespace"
    if "mesh" in modes and not (settings.trusted_peers.strip() and settings.mesh_header):
        return "--access mesh needs --trusted-peers, and a --mesh-header"
    return ""


class CannotStart(Exception):
    """A data plane cannot be made as it is told; says by which setting."""


@contextmanager
def naming(flag: str) -> Generator[None]:
    """Name the setting by which something cannot be made; raises CannotStart."""
    try:
        yield
    except (OSError, Malformed, ValueError) as error:
        raise CannotStart(f"{flag}: {error}") from error
