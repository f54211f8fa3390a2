"""A store's URL in a file that is replaced while the process runs: a mounted Secret."""

import logging
from pathlib import Path

from switchboard_policy.store.address import check_files, parse_address

log = logging.getLogger(__name__)


class UrlFile:
    """Reads the file at every look; one that cannot be used leaves the last good URL.

    Raises ValueError where there is none from the start. What is said never has any of the URL.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._url = _checked(path, _read(path))
        self._told = ""

    def url(self) -> str:
        """Return the URL of this moment."""
        try:
            url = _read(self.path)
            if url != self._url:
                _checked(self.path, url)
        except ValueError as error:
            if self._told != str(error):
                self._told = str(error)
                log.warning("the way to the store stays as it was: %s", error)
            return self._url
        if url != self._url:
            log.info("the way to the store was read anew: %s", self.path)
        elif self._told:
            log.info("the way to the store can be read again: %s", self.path)
        self._url, self._told = url, ""
        return url


def url_of(store: str | UrlFile) -> str:
    """Return the URL of this moment, from wherever it comes."""
    return store if isinstance(store, str) else store.url()


def _read(path: Path) -> str:
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): name a file with the store's URL, such as "
            "a mounted Secret"
        ) from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds no text: write the store's URL into it") from None
    if len(words) != 1:
        what = "several words" if words else "nothing"
        raise ValueError(
            f"{path} holds {what}: write the store's URL into it, one line such as "
            "redis://USER:PASSWORD@HOST:6379/0"
        )
    return words[0]


def _checked(path: Path, url: str) -> str:
    try:
        parse_address(url)
        check_files(url)
    except ValueError as error:
        raise ValueError(f"{path} holds no URL of a store: {error}") from error
    return url
