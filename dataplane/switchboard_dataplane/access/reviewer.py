"""Who vouches for tokens: what ``access`` needs of it."""

from typing import Protocol

from switchboard_dataplane.decision.client import Client


class TokenReviewer(Protocol):
    """Knows whose tokens of Kubernetes are."""

    async def identify(self, token: str) -> Client:
        """Return the ServiceAccount of a bearer token, as it was sent and not yet looked at.

        Raises Unauthenticated where it is none that is good here, Forbidden where its account is
        not admitted, AccessUnavailable where nobody could say in time.
        """
        ...
