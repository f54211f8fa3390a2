"""Names that YAML takes for something else are names all the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.chart import STORE, Helm, JsonObject, only, pods_of, require_helm
from switchboard_dataplane.settings import parse_settings
from switchboard_operator.settings import Settings, read_settings

SIDECARS = ("--set", "sidecar.enabled=true")


@pytest.fixture(scope="module")
def helm() -> Helm:
    return require_helm()


def said(**values: str) -> tuple[str, ...]:
    return tuple(part for each in values.items() for part in ("--set-string", "=".join(each)))


def settings_of(documents: list[JsonObject], folder: Path) -> Settings:
    config = only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    (folder / "operator.yaml").write_text(config)
    environ = {"SWITCHBOARD_NAMESPACE": "x", "SWITCHBOARD_REDIS_URL": STORE[1].partition("=")[2]}
    return read_settings([f"--config={folder}/operator.yaml"], environ)


@pytest.mark.parametrize("name", ["123", "1e3", "no", "null"])
def test_a_gateway_may_have_any_name(name: str, helm: Helm, tmp_path: Path) -> None:
    documents = list(helm.documents(*STORE, *SIDECARS, *said(**{"gateway.name": name})))
    settings = settings_of(documents, tmp_path)
    assert (settings.gateways[0].name, settings.sidecar.gateway) == (name, name)


@pytest.mark.parametrize("audience", ["1234567890", "aud: x", "aud #x", 'the "gateway"', "no"])
def test_tokens_may_be_meant_for_anything(audience: str, helm: Helm, tmp_path: Path) -> None:
    values = said(**{"gateway.access.audience": audience})
    documents = list(helm.documents(*STORE, *SIDECARS, *values))
    settings = settings_of(documents, tmp_path)
    assert settings.sidecar.audience == audience
    assert settings.gateways[0].access.audience == audience
    gateway = dict(pods_of(iter(documents)))["switchboard-gateway"]["containers"][0]
    assert parse_settings(gateway["args"], {}, prog="dataplane").token_audience == audience


def test_a_network_may_end_in_a_colon(helm: Helm) -> None:
    values = ("gateway.allowAddresses={fd00::}", "gateway.access.trustedPeers={fd00::}")
    mesh = ("--set", "gateway.access.modes={mesh}")
    documents = helm.documents(
        *STORE, *mesh, *(part for each in values for part in ("--set", each))
    )
    gateway = dict(pods_of(documents))["switchboard-gateway"]["containers"][0]
    assert {"--allow-addresses=fd00::", "--trusted-peers=fd00::"} <= set(gateway["args"])


def test_no_name_becomes_a_number(helm: Helm) -> None:
    names = {
        "watchNamespaces[0]": "4711001",
        "gateway.name": "4711002",
        "gateway.access.audience": "4711003",
        "gateway.image.repository": "4711004",
        "gateway.upstreamCa.configMap": "4711005",
        "gateway.upstreamCa.key": "4711006",
        "sidecar.redis.existingSecret.name": "4711007",
        "sidecar.redis.existingSecret.key": "4711008",
        "redis.existingSecret.name": "4711009",
        "redis.existingSecret.operatorKey": "4711010",
        "redis.existingSecret.gatewayKey": "4711011",
        "redis.tls.caConfigMap": "4711012",
        "redis.tls.clientSecret": "4711013",
    }
    documents = list(helm.documents(*SIDECARS, *said(**names)))
    config = only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    found = list(leaves([documents, yaml.safe_load(config)]))
    assert {name for name in names.values() if any(name in str(leaf) for leaf in found)} == {
        *names.values()
    }
    assert not [leaf for leaf in found if not isinstance(leaf, str) and str(leaf) in names.values()]


def leaves(value: Any) -> Iterator[Any]:
    """Yield all that is neither a mapping nor a list."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value
