"""What the fake model has seen: counters, and the last requests in full."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

RECORDED_BODY_BYTES_MAX = 1 << 20  # with the ring's length this bounds the memory of the records


@dataclass(slots=True, kw_only=True)
class Record:
    """One request as it came in, and what became of it."""

    number: int
    received_s: float  # since 1970
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""  # its first RECORDED_BODY_BYTES_MAX
    body_bytes: int = 0
    model: str | None = None
    stream: bool = False
    outcome: str = "running"  # then: answered, error, cut, cancelled

    def keep_body(self, body: bytes) -> None:
        """Keep the body, up to a bound."""
        self.body = body[:RECORDED_BODY_BYTES_MAX]
        self.body_bytes = len(body)

    def head_to_json(self) -> dict[str, object]:
        """Return what fits a summary: no body, no key."""
        headers = self._headers()
        authorization = "authorization" in headers
        if authorization:
            headers["authorization"] = "***"
        return {**self._line(), "authorization": authorization, "headers": headers}

    def to_json(self) -> dict[str, object]:
        """Return the whole request: `body` parsed (None if it is not JSON), `body_text` exact."""
        return {
            **self._line(),
            "headers": self._headers(),
            "body": _parse(self.body),
            "body_text": self.body.decode(errors="replace"),
            "body_bytes": self.body_bytes,
        }

    def _line(self) -> dict[str, object]:
        return {
            "number": self.number,
            "received_s": self.received_s,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "stream": self.stream,
            "outcome": self.outcome,
        }

    def _headers(self) -> dict[str, str]:
        """Return the headers by lower-case name; what came several times is joined."""
        joined: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        return joined


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


class Records:
    """Counters since the last reset, and a ring of the last requests."""

    def __init__(self, length: int) -> None:
        """Start empty; `length` requests are kept."""
        self._ring: deque[Record] = deque(maxlen=length)
        self.seen = 0
        self.by_path: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()

    def set_length(self, length: int) -> None:
        """Keep this many requests from now on."""
        if length != self._ring.maxlen:
            self._ring = deque(self._ring, maxlen=length)

    def open(
        self,
        *,
        method: str,
        path: str,
        headers: Mapping[str, str],
        received_s: float,
        known: bool = True,
    ) -> Record:
        """Count and keep a request that comes in; all unknown paths count as one."""
        self.seen += 1
        self.by_path[path if known else "other"] += 1
        record = Record(
            number=self.seen,
            received_s=received_s,
            method=method,
            path=path,
            headers=headers,
        )
        self._ring.append(record)
        return record

    def close(self, record: Record, outcome: str) -> None:
        """Say what became of a request."""
        record.outcome = outcome
        self.outcomes[outcome] += 1

    def last(self, count: int) -> list[Record]:
        """Return up to `count` of the last requests, the oldest first."""
        return list(self._ring)[-count:] if count else []
