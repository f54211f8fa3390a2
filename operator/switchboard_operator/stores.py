"""The ways to the store: the operator's own, and what sidecars are told of it."""

from pathlib import Path

from switchboard_operator.errors import AddressUnfit
from switchboard_operator.settings import Settings, SettingsInvalid
from switchboard_policy.store.address import unfit_for_users
from switchboard_policy.store.url_file import UrlFile, url_of


class Stores:
    """Each is a URL, or the file of one; ``shared`` is what all sidecars have as it is, or "".

    Raises SettingsInvalid where a file has no URL from the start, or sidecars could have none.
    """

    def __init__(self, settings: Settings) -> None:
        said, of_sidecars = settings.redis, settings.sidecar.redis
        self.own = _store("--redis-url-file", said.url_file, said.url)
        self.shared = _store("--sidecar-redis-url-file", of_sidecars.url_file, of_sidecars.url)
        self._address = of_sidecars.address
        if settings.sidecar.enabled:
            try:
                self.of_sidecars()
            except AddressUnfit as error:
                raise SettingsInvalid(str(error)) from error

    def of_sidecars(self) -> str:
        """Return the URL for sidecars at this moment. Raises AddressUnfit."""
        if given := url_of(self.shared) or self._address:
            return given
        url = url_of(self.own)
        if wrong := unfit_for_users(url):
            raise AddressUnfit(
                f"give sidecar.redis.address: the operator's URL is not for all, {wrong}"
            )
        return url


def _store(flag: str, path: str, url: str) -> str | UrlFile:
    if not path:
        return url
    try:
        return UrlFile(Path(path))
    except ValueError as error:
        raise SettingsInvalid(f"{flag}: {error}") from error
