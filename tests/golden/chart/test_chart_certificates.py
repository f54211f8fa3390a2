"""Certificates of cert-manager's: a renewal must not change whom the API server trusts."""

from typing import Any

import pytest

from cluster.chart import require_helm, values_of

Json = dict[str, Any]
ISSUER = (
    "--set-json",
    'admission.certManager.issuerRef={"name": "company", "kind": "ClusterIssuer"}',
)


def certificates(*values: str) -> tuple[dict[str, Json], dict[str, Json]]:
    """The specs of the Certificates and Issuers of a rendered chart, by name."""
    found: tuple[dict[str, Json], dict[str, Json]] = ({}, {})
    for each in require_helm().documents(*values_of("cert-manager"), *values):
        if each["kind"] in ("Certificate", "Issuer"):
            found[each["kind"] == "Issuer"][each["metadata"]["name"]] = each["spec"]
    return found


def test_an_authority_that_outlives_the_certificate_signs_it() -> None:
    made, issuers = certificates()
    leaf = made["switchboard-admission"]
    kept = issuers[leaf["issuerRef"]["name"]]["ca"]["secretName"]
    (authority,) = (each for each in made.values() if each["secretName"] == kept)
    assert authority["isCA"]
    assert authority["duration"] == "87600h"
    # The same key: what the old one trusts, and what it signed, the renewed one does too.
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    assert len(made) == len(issuers) == 2


def test_an_issuer_of_the_platform_needs_none_of_the_chart() -> None:
    made, issuers = certificates("--set", "admission.certManager.issuerRef.name=company")
    assert made["switchboard-admission"]["issuerRef"]["name"] == "company"
    assert (len(made), issuers) == (1, {})


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ((), {"namespaces", "tokens"}),
        (("gateway.access.modes={keys}",), set[str]()),
        (("admission.certificates=Operator",), {"namespaces", "tokens", "admission"}),
        (
            ("admission.certificates=Operator", "gateway.access.modes={keys}"),
            {"namespaces", "admission"},
        ),
    ],
)
def test_with_named_namespaces_few_rights_on_the_cluster_are_left(
    values: tuple[str, ...], left: set[str]
) -> None:
    flags = [part for each in values for part in ("--set", each)]
    made = require_helm().documents(*values_of("cert-manager"), *flags)
    roles = {each["metadata"]["name"] for each in made if each["kind"] == "ClusterRole"}
    assert {name for name in roles if "operator" in name} == {
        f"switchboard-operator-{each}-switchboard" for each in left
    }
