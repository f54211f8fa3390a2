"""What data planes and the operator tell each other of callers' tokens: the words and their seals.

A pod asks about a token of Kubernetes with a word about ``ASKED``, the operator that leads answers
with one about ``REVIEWED``. The token is in the first alone, sealed. Pure; why it is like this is
in docs/adr/0015-tokens-over-the-store.md.
"""

import binascii
import hmac
from base64 import urlsafe_b64decode
from typing import Final, Literal

import msgspec

from switchboard_policy.errors import BadSeal, BadSignature, Malformed
from switchboard_policy.seal import Keyring

ASKED: Final = "token"
REVIEWED: Final = "reviewed"

#: A longer token is none: those of ServiceAccounts have some 1,000 bytes.
TOKEN_BYTES_MAX: Final = 8_192
#: Who asks waits for this long, and an older question needs no answer.
PATIENCE_MS: Final = 3_000
#: An admitted token is not reviewed again for this long. The API server remembers it for 10 s more
#: by itself, and within a minute a deleted ServiceAccount is to be refused.
ADMITTED_MS: Final = 45_000
#: A refused one may be good in a moment: its ServiceAccount is made, or a rule is changed.
REFUSED_MS: Final = 5_000

_PARTS: Final = 3

#: ``unknown``: nobody could say.
Verdict = Literal["admitted", "refused", "notAdmitted", "unknown"]


class AskedToken(msgspec.Struct, frozen=True, array_like=True):
    """Whose is this token? ``nonce`` is the question's own; ``hash`` and ``sealed`` are made with
    the scope's key ``key_id``.
    """

    hash: str
    nonce: str
    key_id: str
    sealed: bytes


class ReviewedToken(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the questions of these ``nonces`` about the token of that ``hash``.

    It is good for ``good_for_ms`` from when the word was said: the beginning of the review. The
    facts are those of the first rule for the ServiceAccount; ``labels`` are sorted pairs.
    """

    hash: str
    nonces: tuple[str, ...]
    verdict: Verdict
    good_for_ms: int = 0
    namespace: str = ""
    name: str = ""
    tier: str = ""
    team: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()


class Claims(msgspec.Struct, frozen=True):
    """What a token says of itself; ``exp`` is in seconds of Unix time."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float

    @property
    def audiences(self) -> list[str]:
        """Whom it is meant for."""
        return [self.aud] if isinstance(self.aud, str) else self.aud


_asked: Final = msgspec.msgpack.Decoder(AskedToken)
_reviewed: Final = msgspec.msgpack.Decoder(ReviewedToken)
_claims: Final = msgspec.json.Decoder(Claims)
_header: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE: Final = (ValueError, RecursionError)


def read_claims(token: str) -> Claims:
    """Read what a token says of itself, its signature not looked at; raises Malformed."""
    parts = token.split(".")
    if len(parts) != _PARTS or not parts[-1] or len(token) > TOKEN_BYTES_MAX:
        raise Malformed("no token of three parts")
    try:
        header, claims, _ = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
        _header.decode(header)
        return _claims.decode(claims)
    except (*_UNREADABLE, binascii.Error) as error:
        raise Malformed(f"no token: {error}") from error


def ask(keyring: Keyring, token: bytes, *, nonce: str) -> AskedToken:
    """Return the question about a token, under the key in use."""
    key_id = keyring.current
    digest = keyring.hash_key(key_id, token)
    return AskedToken(digest, nonce, key_id, keyring.seal(token, "token", digest, nonce))


def open_asked(keyring: Keyring, asked: AskedToken) -> str:
    """Return the token that a question is about; raises BadSeal where it is another."""
    token = keyring.unseal(asked.key_id, asked.sealed, "token", asked.hash, asked.nonce)
    try:
        digest = keyring.hash_key(asked.key_id, token)
        said = token.decode("ascii")
    except (BadSignature, UnicodeDecodeError) as error:
        raise BadSeal("what is asked about is no token") from error
    if not hmac.compare_digest(digest.encode(), asked.hash.encode(errors="replace")):
        raise BadSeal("the token is not the one of its hash")
    return said


def read_asked(body: bytes) -> AskedToken:
    """Read a question; raises Malformed."""
    try:
        return _asked.decode(body)
    except _UNREADABLE as error:
        raise Malformed(f"a question about a token: {error}") from error


def read_reviewed(body: bytes) -> ReviewedToken:
    """Read an answer; raises Malformed."""
    try:
        return _reviewed.decode(body)
    except _UNREADABLE as error:
        raise Malformed(f"an answer about a token: {error}") from error


def write_word(said: AskedToken | ReviewedToken) -> bytes:
    """Return the body of a word."""
    return msgspec.msgpack.encode(said)
