"""What a call to the API server raises.

KubeError
├─ ApiAway        no answer: the server is down, or the way to it is
└─ ApiRefused     an answer that says no (status, reason)
   ├─ NotFound
   ├─ Forbidden   names the right that is missing
   └─ Conflict    somebody else wrote first, or the object is another one by now
"""


class KubeError(Exception):
    """The root of what a call raises."""


class ApiAway(KubeError):
    """No answer from the API server."""


class ApiRefused(KubeError):
    """The API server said no; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class NotFound(ApiRefused):
    """No such object, or no such kind."""


class Forbidden(ApiRefused):
    """The operator's Role lacks a right; the text names it."""


class Conflict(ApiRefused):
    """The object changed since it was read, exists already, or has another uid."""


class AddressUnfit(ConnectionError):
    """The store's URL has what nobody but the operator may know: no sidecar gets it."""


class UsersRefused(ConnectionError):
    """The store answers, and does not let the operator make users."""
