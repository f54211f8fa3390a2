"""Keys of a scope: what signs the store's lines and seals credentials. Pure: no randomness.

A scope key is 32 bytes; signing and sealing use keys derived from it (HKDF-SHA256), so that one
never serves two purposes. A nonce is derived from the plaintext and its context (as in SIV
modes), so sealing the same credential again gives the same bytes: no needless writes, and never
one nonce for two plaintexts.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from switchboard_policy.errors import BadSeal, BadSignature, Malformed

KEY_BYTES = 32
_NONCE_BYTES = 12


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    current: str
    keys: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class ScopeSecrets:
    """What a scope key file says: the id of the key that writes, and every key's 32 bytes by id."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _ScopeKey:
    signing: bytes
    tagging: bytes
    hashing: bytes
    nonces: bytes
    sealing: AESGCM


@dataclass(frozen=True, slots=True)
class Keyring:
    """The live keys of one scope by id; ``current`` writes, every one of them reads.

    ``current`` is the id of the key that signs and seals; the others are accepted while a
    rotation is under way.
    """

    scope: str
    current: str
    _keys: Mapping[str, _ScopeKey] = field(repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the live keys, in order."""
        return tuple(sorted(self._keys))

    def sign(self, *fields: str) -> str:
        """Return ``KEYID:HEX``, an HMAC-SHA256 over the scope and the fields, in order."""
        return f"{self.current}:{self._mac(self._keys[self.current], fields)}"

    def verify(self, mac: str, *fields: str) -> None:
        """Check a signature made by ``sign``; raises BadSignature."""
        key_id, _, digest = mac.partition(":")
        key = self._keys.get(key_id)
        if key is None:
            raise BadSignature(f"scope {self.scope} has no key {key_id!r} here")
        # As bytes: compare_digest raises TypeError on text that is not ASCII.
        if not hmac.compare_digest(
            self._mac(key, fields).encode(), digest.encode(errors="replace")
        ):
            raise BadSignature(f"no signature of scope {self.scope} for {' '.join(fields)}")

    def hash_key(self, key_id: str, secret: bytes) -> str:
        """Return the keyed hash (HMAC-SHA256, hex) by which a client's key is known.

        Raises BadSignature where there is no such scope key.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise BadSignature(f"scope {self.scope} has no key {key_id!r} here")
        return hmac.digest(key.hashing, secret, "sha256").hex()

    def tag(self, key_id: str, *fields: str) -> int:
        """Return a secret 256-bit number for the scope and the fields; raises BadSignature.

        Its key is not the signing key: a published signature says nothing of it.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise BadSignature(f"scope {self.scope} has no key {key_id!r} here")
        return int.from_bytes(hmac.digest(key.tagging, _joined(self.scope, *fields), "sha256"))

    def seal(self, plaintext: bytes, *context: str) -> bytes:
        """Return nonce and AES-256-GCM ciphertext, bound to the scope and the context."""
        key = self._keys[self.current]
        bound = _joined(self.scope, *context)
        nonce = hmac.digest(key.nonces, _joined(bound.hex()) + plaintext, "sha256")[:_NONCE_BYTES]
        return nonce + key.sealing.encrypt(nonce, plaintext, bound)

    def unseal(self, key_id: str, sealed: bytes, *context: str) -> bytes:
        """Open what ``seal`` made; raises BadSeal."""
        key = self._keys.get(key_id)
        if key is None:
            raise BadSeal(f"scope {self.scope} has no key {key_id!r} here")
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return key.sealing.decrypt(nonce, ciphertext, _joined(self.scope, *context))
        except (InvalidTag, ValueError) as error:
            raise BadSeal(f"the credential does not open for {' '.join(context)}") from error

    def _mac(self, key: _ScopeKey, fields: tuple[str, ...]) -> str:
        return hmac.digest(key.signing, _joined(self.scope, *fields), "sha256").hex()


def read_keyring(scope: str, raw: bytes) -> Keyring:
    """Return the keyring of a scope key file; raises Malformed."""
    said = read_key_file(raw)
    return Keyring(scope, said.current, {name: _derive(key) for name, key in said.keys.items()})


def read_key_file(raw: bytes) -> ScopeSecrets:
    """Read a scope key file: ``{"current": ID, "keys": {ID: BASE64 of 32 bytes}}``.

    Raises Malformed, naming what is wrong and never the key.
    """
    try:
        said = msgspec.json.decode(raw, type=_KeyFile)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"scope key file: {error}") from error
    if said.current not in said.keys:
        raise Malformed(f"scope key file: current is {said.current!r}, which is not among keys")
    for key_id, key in said.keys.items():
        if len(key) != KEY_BYTES:
            raise Malformed(f"scope key file: key {key_id!r} has {len(key)} bytes, not {KEY_BYTES}")
        if not key_id or ":" in key_id:
            raise Malformed(f"scope key file: {key_id!r} is no key id (empty, or with a colon)")
    return ScopeSecrets(said.current, said.keys)


def write_key_file(current: str, keys: Mapping[str, bytes]) -> bytes:
    """Return the scope key file that ``read_keyring`` reads."""
    return msgspec.json.encode(_KeyFile(current=current, keys=dict(keys)))


def key_id_of(mac: str) -> str:
    """Return the id of the key that made a signature."""
    return mac.partition(":")[0]


def _derive(key: bytes) -> _ScopeKey:
    def subkey(purpose: bytes) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"switchboard " + purpose).derive(key)

    return _ScopeKey(
        signing=subkey(b"sign"),
        tagging=subkey(b"tag"),
        hashing=subkey(b"client"),
        nonces=subkey(b"nonce"),
        sealing=AESGCM(subkey(b"seal")),
    )


def _joined(*fields: str) -> bytes:
    # Lengths before the fields: ("ab", "c") and ("a", "bc") must differ.
    return b"".join([b"%d:%s" % (len(raw), raw) for raw in [text.encode() for text in fields]])


def fingerprint(raw: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex: the digest that addresses an entry."""
    return hashlib.sha256(raw).hexdigest()
