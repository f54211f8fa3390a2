"""What fields of a tier go by in a backend: whether it is there, not how much of it."""

from dataclasses import dataclass

from switchboard_policy.v1alpha1.common import duration_ms
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a backend has: a limit in flight, a queue, its engine's word, a price, a place.

    ``placed`` is a Service too: its endpoints may know their zones. ``hold_ms`` is how long
    requests wait for a first endpoint, 0 where they do not.
    """

    external: bool = False
    limited: bool = False
    queues: bool = False
    telemetry: bool = False
    priced: bool = False
    placed: bool = False
    streams: bool = True
    hold_ms: int = 0


def traits_of(spec: ModelBackendSpec) -> Traits:
    """Return the traits of a backend."""
    capacity, place, apis = spec.capacity, spec.locality, spec.capabilities.apis
    return Traits(
        external=spec.external is not None,
        limited=capacity is not None,
        queues=capacity is not None and capacity.queue is not None,
        telemetry=spec.telemetry is not None,
        priced=spec.pricing is not None,
        placed=spec.external is None or bool(place.zone or place.region),
        streams=apis is None or any(api != "embeddings" for api in apis),
        hold_ms=duration_ms(spec.wake.hold) if spec.wake is not None else 0,
    )
