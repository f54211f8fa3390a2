"""Certificates of the tests' own, and a TLS door in front of a server that speaks plain text."""

import asyncio
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cluster.processes import LOOPBACK

LIFETIME = timedelta(days=1)
CHUNK_BYTES = 65_536
CLOSING_S = 0.1

_CERTIFICATE_SIGNING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, and the authority that vouches for it, as PEM files."""

    chain: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """What a server with this certificate accepts connections by."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """A certificate authority whose files are in ``folder``; ``file`` is what clients trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(f"test {name}")
        certificate = (
            _builder(self._subject, issuer=self._subject, key=self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_CERTIFICATE_SIGNING, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, SHA256())
        )
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, *names: str, group: str = "", age: timedelta = timedelta()) -> Certificate:
        """Issue a certificate for DNS names and addresses, or for a user of a group.

        One of more than the lifetime's age has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_subject(names[0], group), issuer=self._subject, key=key, age=age)
            .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, SHA256())
        )
        chain = self._folder / f"{self._name}-{names[0]}.crt"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file = chain.with_suffix(".key")
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Certificate(chain=chain, key=key_file, authority=self.file)


class TlsDoor:
    """Accepts TLS at ``host`` and hands the bytes on to a plain-text port of the loopback.

    It runs on a thread of its own, in the network of the thread that makes it.
    """

    def __init__(self, host: str, *, to_port: int, certificate: Certificate) -> None:
        self.port = 0
        self._host, self._to_port = host, to_port
        self._context = certificate.context()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="tls-door")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10), "the door did not open"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass, self._host, 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        async with server:
            await self._stop.wait()
        for writer in self._writers:
            writer.transport.abort()
        # Transports tell of their end in later turns of the loop, those amid a handshake too.
        await asyncio.sleep(CLOSING_S)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, self._to_port)
        self._writers.add(inner_writer)
        # A handler that ends cancelled, as at the door's end, would be logged as a failure.
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, inner_writer))
                both.create_task(_copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        # A peer that is gone ends the other direction too.
        pass
    finally:
        writer.close()


def _builder(
    subject: x509.Name,
    *,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    age: timedelta = timedelta(),
) -> x509.CertificateBuilder:
    begun = datetime.now(UTC) - age
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), begun, begun + LIFETIME
    )


def _subject(name: str, group: str = "") -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    return [
        x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        for name in names
    ]
