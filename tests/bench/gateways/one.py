"""One connection, one request after another, on a blocking socket: latency at its purest."""

import socket
from dataclasses import dataclass
from time import perf_counter
from typing import Self

from cluster.processes import LOOPBACK

TIMEOUT_S = 30.0
_PIECE_BYTES = 64 * 1024


class BadAnswer(Exception):
    """A gateway answered with something that was not asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, with the seconds to its first byte of a body and to its last."""

    status: int
    head: bytes
    body: bytes
    first_s: float
    whole_s: float


class Connection:
    """A connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer; raises BadAnswer, OSError."""
        began = perf_counter()
        self._socket.sendall(request)
        data = self._receive()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        head, data = data[:end].lower(), data[end + 4 :]
        while not data:
            data = self._receive()
        first_s = perf_counter() - began
        pieces, size, last = [data], len(data), data[-5:]
        length = _content_length(head)
        while (last != b"0\r\n\r\n") if length is None else (size < length):
            piece = self._receive()
            pieces.append(piece)
            size += len(piece)
            last = (last + piece)[-5:]
        whole_s = perf_counter() - began
        return Answer(int(head.split(b" ", 2)[1]), head, b"".join(pieces), first_s, whole_s)

    def _receive(self) -> bytes:
        data = self._socket.recv(_PIECE_BYTES)
        if not data:
            raise BadAnswer("the connection was closed before the answer was whole")
        return data


def check(port: int, request: bytes, wanted: bytes) -> Answer:
    """Ask once; raises BadAnswer unless the answer is a success with these bytes in it."""
    with Connection(port) as connection:
        answer = connection.ask(request)
    if answer.status != 200 or wanted not in answer.body:
        raise BadAnswer(f"status {answer.status}: {answer.body[:300]!r}")
    return answer


def latencies(port: int, request: bytes, *, count: int, seconds: float) -> list[Answer]:
    """Ask until either is over; return the answers. Raises BadAnswer."""
    answers: list[Answer] = []
    with Connection(port) as connection:
        until = perf_counter() + seconds
        while len(answers) < count and perf_counter() < until:
            answer = connection.ask(request)
            if answer.status != 200:
                raise BadAnswer(f"status {answer.status}: {answer.body[:300]!r}")
            answers.append(answer)
    return answers


def _content_length(head: bytes) -> int | None:
    """The length that a lower-case head tells; None for a chunked body."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else None
