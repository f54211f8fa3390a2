"""Asks a live pod's admin port, straight: no proxy of the environment is used."""

from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.question import Unreadable

#: A pod that takes longer is not well, in seconds.
TIMEOUT_S: Final = 15.0
#: An explanation of a policy with hundreds of rules has less.
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024


class _Error(msgspec.Struct):
    code: str
    message: str
    param: str = ""


class _Refused(msgspec.Struct):
    error: _Error


def ask_request(admin: str, question: bytes) -> form.Explanation:
    """Ask what would become of a request; raises OSError, Unreadable, DecodeError."""
    request = Request(  # noqa: S310 - the scheme is checked
        _url(admin), data=question, headers={"content-type": "application/json"}, method="POST"
    )
    return msgspec.json.decode(_answer(request), type=form.Explanation)


def ask_decision(admin: str, decision: str) -> form.Remembered:
    """Ask what is remembered of a decision; raises OSError, Unreadable, DecodeError."""
    url = f"{_url(admin)}?decision={quote(decision, safe='')}"
    request = Request(url)  # noqa: S310 - the scheme is checked
    return msgspec.json.decode(_answer(request), type=form.Remembered)


def _url(admin: str) -> str:
    base = admin if "://" in admin else f"http://{admin}"
    try:
        scheme = urlsplit(base).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise Unreadable("write http://HOST:PORT", param="--admin")
    return f"{base.rstrip('/')}/explain"


def _answer(request: Request) -> bytes:
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            body: bytes = answer.read(ANSWER_BYTES_MAX)
            return body
    except HTTPError as error:
        with error:
            raise _refused(error) from None
    except URLError as error:
        raise Unreadable(f"{request.host}: {error.reason}", param="--admin") from None
    except (HTTPException, UnicodeError) as error:
        # No port, no host, or no answer of HTTP.
        raise Unreadable(f"{request.host}: {error!r}", param="--admin") from None


def _refused(error: HTTPError) -> Unreadable:
    try:
        said = msgspec.json.decode(error.read(ANSWER_BYTES_MAX), type=_Refused).error
    except msgspec.DecodeError:
        return Unreadable(f"it answers {error.code}: is this the admin port?", param="--admin")
    return Unreadable(said.message, param=said.param, code=said.code)
