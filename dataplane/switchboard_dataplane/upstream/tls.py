"""What connections to upstreams are verified by."""

import ssl


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Return what connections are verified by; raises OSError where the file is no PEM."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def without_port(netloc: str) -> str:
    """Return the host of ``host:port``, which is the name that a certificate must have."""
    host, _, port = netloc.rpartition(":")
    return (host if host and port.isdecimal() else netloc).strip("[]")
