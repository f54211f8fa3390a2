"""Asks a data plane of this pod how it is: for exec probes, where its ports are on the loopback.

It is begun anew every few seconds beside an application: it imports nothing that takes time.
"""

import socket
import sys
from collections.abc import Sequence
from typing import Final

USAGE: Final = """\
usage: switchboard-dataplane probe [--admin HOST:PORT] [--timeout-s SECONDS] [PATH]

Asks the admin port of a data plane for PATH; exit status 0 if it answers 200, 1 if not, 2 for
wrong words. Says on stderr what it answered instead.

  --admin HOST:PORT    where the admin port is (default: 127.0.0.1:9090)
  --timeout-s SECONDS  how long the answer may take (default: 1)
  PATH                 /readyz (default): policy is here, and it does not go away; /livez: it runs
"""
_ANSWER_BYTES_MAX: Final = 64 * 1024
_SHOWN_BYTES: Final = 500


def probe(argv: Sequence[str]) -> int:
    """Ask once; return the exit status."""
    said = {"--admin": "127.0.0.1:9090", "--timeout-s": "1"}
    path, rest = "/readyz", list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        if name in said and (equals or rest):
            said[name] = value if equals else rest.pop(0)
        elif word.startswith("/") and word.isprintable() and " " not in word:
            path = word
        else:
            return _wrong(f"not understood: {word!r}")
    host, _, port = said["--admin"].rpartition(":")
    if not port.isdecimal():
        return _wrong(f"--admin: {said['--admin']!r} is no HOST:PORT")
    try:
        timeout_s = float(said["--timeout-s"])
    except ValueError:
        return _wrong(f"--timeout-s: {said['--timeout-s']!r} is no number")
    return _ask(host.strip("[]") or "127.0.0.1", int(port), path, timeout_s)


def _ask(host: str, port: int, path: str, timeout_s: float) -> int:
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    answer = b""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(request.encode())
            while len(answer) < _ANSWER_BYTES_MAX and (piece := connection.recv(4096)):
                answer += piece
    except (OSError, ValueError, OverflowError) as error:
        return _unwell(f"no answer of {host}:{port}: {error}")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")[1:2]
    if status == [b"200"]:
        return 0
    told = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
    return _unwell(f"{path} answered {b''.join(status).decode('ascii', 'replace')}: {told}")


def _unwell(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


def _wrong(why: str) -> int:
    sys.stderr.write(f"{why}\n{USAGE}")
    return 2
