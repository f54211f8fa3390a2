"""The operator's metrics, all of them: names, labels and buckets in one place."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """The metrics of one operator; ``registry`` holds nothing else."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.compile_seconds = self._histogram("compile", "one compilation of all gateways")
        self.publish_seconds = self._histogram("publish", "bringing the store up to date")
        self.propagation_seconds = self._histogram(
            "propagation", "an event of the API server until its entries are in the store"
        )
        self.programmed_seconds = self._histogram(
            "programmed", "a change's being seen until the last pod has it in force"
        )
        self.object_events = self._counter(
            "object_events", "Events about objects by outcome.", "outcome"
        )
        self.events = self._counter("events", "Events taken in.", "kind")
        self.status_patches = self._counter(
            "status_patches", "Status patches by outcome.", "outcome"
        )
        self.store_errors = self._counter("store_errors", "Calls that the store failed.")
        self.watch_failures = self._counter("watch_failures", "Watches that had to be restarted.")
        self.status_patches_waiting = self._gauge(
            "status_patches_waiting", "Status patches that are due."
        )
        self.leader = self._gauge("leader", "1 while this replica leads.")
        self.epoch = self._gauge("epoch", "The epoch of this replica's last leadership.")
        self.synced = self._gauge("synced", "1 once every kind was listed.")
        self.dataplanes = self._gauge("dataplanes", "Data planes by scope.", "scope", "state")
        self.revision = self._gauge("revision", "Newest sequence of the policy channel.", "scope")
        self.scope_keys = self._gauge(
            "scope_keys", "Live scope keys: two while one is rotated.", "scope"
        )
        self.scope_key_created = self._gauge(
            "scope_key_created_timestamp_seconds", "When the key in use was made.", "scope"
        )
        self.scope_key_waits = self._gauge(
            "scope_key_waits_for_pods", "Data planes that a rotation waits for.", "scope"
        )
        self.scope_key_overruled = self._counter(
            "scope_key_overruled", "Steps of a rotation that did not wait any longer.", "scope"
        )
        self.admission_reviews = self._counter(
            "admission_reviews",
            "Reviews of the webhook: allowed, warned, denied, refused (not well-formed), failed.",
            "kind",
            "outcome",
        )
        self.admission_seconds = self._histogram("admission_review", "one review of the webhook")
        self.admission_expiry = self._gauge(
            "admission_certificate_expiry_timestamp_seconds",
            "When the webhook's certificate expires.",
        )
        self.injections = self._counter(
            "injections",
            "Pods at the webhook: injected, unchanged, denied, refused (not well-formed), failed.",
            "outcome",
        )
        self.sidecars = self._gauge(
            "sidecars",
            "Scopes of sidecars, and their data planes by state, over all namespaces.",
            "state",
        )
        self.token_reviews = self._counter(
            "token_reviews",
            "Questions of data planes about tokens: admitted, refused, notAdmitted, unknown "
            "(nobody could say), dropped, forged, unreadable.",
            "outcome",
        )
        self.clients = self._gauge("clients", "Client Secrets by scope.", "scope", "state")
        self.objects = self._gauge(
            "objects", "Objects by kind and condition.", "kind", "condition", "status"
        )

    def render(self, objects: Mapping[tuple[str, str, str], int]) -> bytes:
        """Return the exposition, with these numbers of objects (kind, condition, status)."""
        self.objects.clear()
        for labels, count in objects.items():
            self.objects.labels(*labels).set(count)
        return generate_latest(self.registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(
            f"switchboard_operator_{name}_seconds",
            f"Seconds for {what}.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"switchboard_operator_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"switchboard_operator_{name}", what, labels, registry=self.registry)
