"""The webhook's certificate: how one is made, and the next step of its renewal. No I/O.

An authority signs one certificate and its key is forgotten, so a renewal makes a new authority.
The API server must trust that before anybody shows what it signed: the new certificate is first
kept beside the one in use while the authorities of both are published; then it is put to use; the
old authority is dropped when every replica must have followed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switchboard_policy.errors import Malformed

CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate holds this long before it was made: other machines' clocks may be behind."""
RENEW_AT: Final = 2 / 3
"""The share of its life at which a certificate is replaced."""
_LOCAL: Final = ("localhost", "127.0.0.1")

#: A certificate, as PEM.
Pem = bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with those that signed it, and its key; both PEM."""

    certificate: Pem
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A pair, and the authority that signed it."""

    pair: Pair
    authority: Pem


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says of itself; ``made`` is without the skew."""

    made: datetime
    expires: datetime
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept: in use, to be trusted, and to be used next.

    ``stepped`` is the time of the last step; ``request`` the demand that was met last.
    """

    serving: Pair
    authorities: tuple[Pem, ...]
    coming: Pair | None
    stepped: datetime
    request: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a renewal goes.

    A certificate holds for ``lifetime``. A new one is used once its authority has been published
    for ``settle``, so that every API server knows; an old authority stays for ``keep_old_for``.
    """

    lifetime: timedelta
    settle: timedelta
    keep_old_for: timedelta


@dataclass(frozen=True, slots=True)
class Begin:
    """Nothing that is kept can be used: make everything anew and use it at once."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Make a certificate to be used next; ``request`` is the demand that this meets."""

    request: str


@dataclass(frozen=True, slots=True)
class Use:
    """Put the coming certificate to use."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No longer trust the authorities of certificates that are gone."""


Step = Begin | Renew | Use | Drop


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Return the names by which a Service is called, and those of the machine itself.

    The latter serve a person who looks through ``kubectl port-forward``.
    """
    short = f"{service}.{namespace}"
    return (f"{short}.svc", f"{short}.svc.cluster.local", short, service, *_LOCAL)


def issue(names: Sequence[str], lifetime: timedelta, *, now: datetime) -> Issued:
    """Make an authority, a key, and a certificate for the names; the authority's key is forgotten.

    The first name is the subject.
    """
    begins, ends = now - CLOCK_SKEW, now + lifetime
    signing, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    serial = x509.random_serial_number()
    # Two authorities of one name would have to be told apart by their keys.
    signer = _subject(f"switchboard admission {serial:x}")
    authority = (
        x509.CertificateBuilder(signer, signer, signing.public_key(), serial, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(signing.public_key()), critical=False
        )
        .sign(signing, SHA256())
    )
    leaf = (
        x509.CertificateBuilder(
            signer,
            _subject(names[0]),
            key.public_key(),
            x509.random_serial_number(),
            begins,
            ends,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(Pair(_pem(leaf), private), _pem(authority))


def read_facts(pair: Pair) -> Facts:
    """Return what a pair's certificate says; raises Malformed, also where the key is another's."""
    try:
        leaf = x509.load_pem_x509_certificate(pair.certificate)
        key = load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise Malformed(f"no certificate with a key, both as PEM: {error}") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise Malformed("the key is not that of the certificate")
    return Facts(leaf.not_valid_before_utc + CLOCK_SKEW, leaf.not_valid_after_utc, _names(leaf))


def split_bundle(bundle: bytes) -> tuple[Pem, ...]:
    """Return the certificates of a bundle, each written in one way; raises Malformed."""
    if not bundle.strip():
        return ()
    try:
        return tuple(_pem(each) for each in x509.load_pem_x509_certificates(bundle))
    except ValueError as error:
        raise Malformed(f"no certificates as PEM: {error}") from error


def authority_of(pair: Pair, authorities: Sequence[Pem]) -> Pem | None:
    """Return the authority that signed a pair's certificate."""
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    for each in authorities:
        try:
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(each))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return each
    return None


def next_step(
    held: Held | None,
    pace: Pace,
    *,
    now: datetime,
    names: Sequence[str],
    request: str,
    published_for: timedelta | None,
) -> Step | None:
    """Return what is due; None if nothing is.

    ``request`` is what a person demands ("" for nothing). For ``published_for`` the API server has
    been given all authorities; None where it has not.
    """
    if held is None:
        return Begin()
    facts = read_facts(held.serving)
    if facts.expires <= now or authority_of(held.serving, held.authorities) is None:
        return Begin()
    if held.coming is not None:
        settled = published_for is not None and published_for >= pace.settle
        return Use() if settled else None
    if _going(held):
        return Drop() if now - held.stepped >= pace.keep_old_for else None
    old = now >= facts.made + (facts.expires - facts.made) * RENEW_AT
    demanded = request not in ("", held.request)
    return Renew(request) if old or demanded or not facts.names >= set(names) else None


def take(held: Held | None, step: Step, issued: Issued, *, now: datetime) -> Held:
    """Return what is kept after a step; ``issued`` is what Begin and Renew add."""
    match step, held:
        case (Begin(), _) | (_, None):
            request = held.request if held is not None else ""
            return Held(issued.pair, (issued.authority,), None, now, request)
        case Renew(request), _:
            both = (*held.authorities, issued.authority)
            return Held(held.serving, both, issued.pair, now, request or held.request)
        case Use(), _:
            return replace(held, serving=held.coming or held.serving, coming=None, stepped=now)
        case Drop(), _:
            left = tuple(each for each in held.authorities if each not in _going(held))
            return replace(held, authorities=left, stepped=now)


def _going(held: Held) -> tuple[Pem, ...]:
    pairs = [held.serving, *([held.coming] if held.coming is not None else [])]
    needed = {authority_of(pair, held.authorities) for pair in pairs}
    return tuple(each for each in held.authorities if each not in needed)


def _names(leaf: x509.Certificate) -> frozenset[str]:
    try:
        said = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(each) for each in said.get_values_for_type(x509.IPAddress))
    return frozenset((*said.get_values_for_type(x509.DNSName), *addresses))


def _general(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


def _subject(name: str) -> x509.Name:
    # A common name has 64 characters at most; what counts are the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> Pem:
    return certificate.public_bytes(Encoding.PEM)
