"""Objects of the API server, read and applied over a connection that stays open.

Tests read an object again and again until it says what they wait for, and apply several a test; a
kubectl for each would take a tenth of a second of a core.
"""

import json
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

ANSWER_SECONDS = 120
KIND_SECONDS = 60
AGAIN_SECONDS = 0.1
GROUPS = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
APPLY = "application/apply-patch+yaml"
YAML = "application/yaml"
"""Of what is JSON, the client would make JSON once more."""
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
APPLIED_BY = {"fieldManager": "kubectl", "fieldValidation": "Strict"}
"""As ``kubectl apply --server-side`` does."""

JsonObject = dict[str, Any]


class ApiFailed(Exception):
    """No such kind or object, a refusal, or no answer; the text says which."""


class Place(NamedTuple):
    """Where the objects of a kind are."""

    api_version: str
    prefix: str
    plural: str
    namespaced: bool

    def path(self, name: str, namespace: str) -> str:
        within = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{self.prefix}{within}/{self.plural}/{name}"


class Objects:
    """Calls the API server as the user of a kubeconfig file."""

    def __init__(self, kubeconfig: Path) -> None:
        # The client is not typed.
        load: Any = config.load_kube_config
        self._configuration = client.Configuration()
        load(str(kubeconfig), client_configuration=self._configuration)
        self._rest: Any = client.ApiClient(self._configuration).rest_client
        self._places: dict[str, Place] = {}

    def get(self, kind: str, name: str, namespace: str) -> JsonObject:
        """Return an object; kinds are named as kubectl takes them. Raises ApiFailed."""
        return self._call("GET", self._place(kind.lower()).path(name, namespace))

    def get_all(self, kind: str, namespace: str) -> JsonObject:
        """Return all objects of a kind in a namespace, as a List. Raises ApiFailed."""
        return self._call("GET", self._place(kind.lower()).path("", namespace).rstrip("/"))

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Apply an object on the server's side. Raises ApiFailed."""
        place = self._place(f"{manifest['apiVersion']} {manifest['kind']}")
        metadata = manifest["metadata"]
        path = place.path(metadata["name"], metadata.get("namespace", "default"))
        self._call("PATCH", f"{path}?{urlencode(APPLIED_BY)}", body=manifest)

    def may(
        self, user: str, verb: str, resource: str, *, name: str = "", namespace: str = ""
    ) -> bool:
        """Say whether a user may do this with ``RESOURCE.GROUP``. Raises ApiFailed."""
        plural, _, group = resource.partition(".")
        asked = {"verb": verb, "group": group, "resource": plural}
        asked |= {"name": name, "namespace": namespace}
        spec = {"user": user, "resourceAttributes": asked}
        about = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        found = self._call("POST", REVIEWS, body={**about, "spec": spec}, content_type=YAML)
        return bool(found["status"]["allowed"])

    def _place(self, kind: str) -> Place:
        # Kinds come to be while tests run, and are told of a moment after they are served.
        until = time.monotonic() + KIND_SECONDS
        while kind not in self._places:
            self._places = dict(self._discover())
            if kind not in self._places:
                if time.monotonic() > until:
                    raise ApiFailed(f"the API server has no kind {kind!r}")
                time.sleep(AGAIN_SECONDS)
        return self._places[kind]

    def _discover(self) -> Iterator[tuple[str, Place]]:
        """Yield every name of every kind, with where its objects are; the core's names win."""
        for root in ("/apis", "/api"):
            for group in self._call("GET", root, accept=GROUPS)["items"]:
                preferred = group["versions"][0]
                parts = (group["metadata"].get("name"), preferred["version"])
                api_version = "/".join(part for part in parts if part)
                for resource in preferred["resources"]:
                    place = Place(
                        api_version,
                        prefix=f"{root}/{api_version}",
                        plural=resource["resource"],
                        namespaced=resource["scope"] == "Namespaced",
                    )
                    names = (resource["resource"], resource["singularResource"])
                    for name in (*names, *resource.get("shortNames", ())):
                        yield name, place
                    yield f"{api_version} {resource['responseKind']['kind']}", place

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        content_type: str = APPLY,
    ) -> JsonObject:
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body else {})
        if token := self._configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        told, said = f"{method} {path}", None if body is None else json.dumps(body)
        until = time.monotonic() + ANSWER_SECONDS
        status, raw = self._answer(method, path, headers, said, told=told)
        # A server that has too much to do, or sets up a kind, asks whoever calls to come again.
        while status == HTTPStatus.TOO_MANY_REQUESTS and time.monotonic() < until:
            time.sleep(AGAIN_SECONDS)
            status, raw = self._answer(method, path, headers, said, told=told)
        if status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            raise ApiFailed(f"{told}: {status} {raw.decode(errors='replace')}")
        found: JsonObject = json.loads(raw)
        return found

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], body: str | None, *, told: str
    ) -> tuple[int, bytes]:
        try:
            answer = self._rest.request(
                method,
                f"{self._configuration.host}{path}",
                headers=headers,
                body=body,
                _request_timeout=ANSWER_SECONDS,
            )
            return answer.status, answer.read()
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            raise ApiFailed(f"{told}: {error}") from error
