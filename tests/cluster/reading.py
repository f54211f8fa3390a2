"""One object of the API server at a time, over a connection that stays open.

Tests read an object again and again until it says what they wait for; a kubectl for each look
would take a tenth of a second of a core.
"""

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

READ_SECONDS = 60
GROUPS = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

JsonObject = dict[str, Any]


class ReadFailed(Exception):
    """No such kind or object, or no answer; the text says which."""


class Reader:
    """Reads objects as the user of a kubeconfig file; kinds are named as kubectl takes them."""

    def __init__(self, kubeconfig: Path) -> None:
        # The client is not typed.
        load: Any = config.load_kube_config
        self._configuration = client.Configuration()
        load(str(kubeconfig), client_configuration=self._configuration)
        self._rest: Any = client.ApiClient(self._configuration).rest_client
        self._places: dict[str, tuple[str, str, bool]] = {}

    def get(self, kind: str, name: str, namespace: str) -> JsonObject:
        """Return the object, with its apiVersion and kind. Raises ReadFailed."""
        if kind.lower() not in self._places:
            # Kinds come to be while tests run.
            self._places = dict(self._discover())
        if kind.lower() not in self._places:
            raise ReadFailed(f"the API server has no kind {kind!r}")
        prefix, plural, namespaced = self._places[kind.lower()]
        within = f"/namespaces/{namespace}" if namespaced else ""
        return self._read(f"{prefix}{within}/{plural}/{name}")

    def _discover(self) -> Iterator[tuple[str, tuple[str, str, bool]]]:
        """Yield every name of every kind, of the preferred version, and where its objects are."""
        for root in ("/apis", "/api"):
            for group in self._read(root, accept=GROUPS)["items"]:
                version = group["versions"][0]
                parts = (root, group["metadata"].get("name"), version["version"])
                prefix = "/".join(part for part in parts if part)
                for resource in version["resources"]:
                    place = prefix, resource["resource"], resource["scope"] == "Namespaced"
                    names = (resource["resource"], resource["singularResource"])
                    for name in (*names, *resource.get("shortNames", ())):
                        yield name, place

    def _read(self, path: str, *, accept: str = "application/json") -> JsonObject:
        headers = {"Accept": accept}
        if token := self._configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        url = f"{self._configuration.host}{path}"
        try:
            answer = self._rest.request("GET", url, headers=headers, _request_timeout=READ_SECONDS)
            raw: bytes = answer.read()
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            raise ReadFailed(f"GET {path}: {error}") from error
        if answer.status != HTTPStatus.OK:
            raise ReadFailed(f"GET {path}: {answer.status} {raw.decode(errors='replace')}")
        found: JsonObject = json.loads(raw)
        return found
