"""Requests that a data plane must refuse: what goes over the wire, and what the caller is told.

They are listed by the reason for which they are wrong, at most eight a reason. A reason is a rule
of the API, the JSON, or the HTTP grammar; two fields that are read by the same rule share one.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from fakes.bad_bodies import FIELDS, NOT_JSON
from fakes.wire_requests import (
    BODY_LIMIT_BYTES,
    CHAT,
    CHUNKED,
    DEADLINE,
    EMBED,
    MODELS,
    SESSION,
    TAGS,
    TEXT,
    VALUE,
    WHOLE,
    BadRequest,
    Reason,
    Row,
    chunked,
    hint,
    not_http,
    started,
    wire,
)

HEADERS: Final[Mapping[Reason, list[Row]]] = {
    Reason("a deadline that is no number", VALUE, "a whole number of milliseconds"): [
        (DEADLINE, f"{DEADLINE} is {value!r}", hint(f"{DEADLINE}: {value}"))
        for value in ("soon", "1.5", "-5", "1 0", "+10", "10,20", "", "0x10")
    ],
    Reason("a deadline out of range", VALUE, "in 1..3600000"): [
        (DEADLINE, f"{DEADLINE} is '{value[:40]}'", hint(f"{DEADLINE}: {value}"))
        for value in ("0", "3600001", "9" * 10, "9" * 5000)
    ],
    Reason("two deadlines", VALUE, "a whole number of milliseconds"): [
        (DEADLINE, "is '10, 20'", hint(f"{DEADLINE}: 10", f"{DEADLINE}: 20")),
    ],
    Reason("a tag's characters", VALUE, "letters, digits and . _ / : = -"): [
        (TAGS, "the tag 'a b'", hint(f"{TAGS}: a b")),
        (TAGS, "the tag '$'", hint(f"{TAGS}: ok,$")),
        (TAGS, "the tag '-a'", hint(f"{TAGS}: -a")),
        (TAGS, "the tag 'a-'", hint(f"{TAGS}: a-")),
        (TAGS, "the tag 'caf\ufffd'", hint(b"x-switchboard-tags: caf\xe9")),
        (TAGS, "the tag 'café'", hint(f"{TAGS}: café")),
    ],
    Reason("a long tag", VALUE, "a tag is at most 63"): [
        (TAGS, "t" * 64, hint(f"{TAGS}: {'t' * 64}")),
        (TAGS, "t" * 64, hint(f"{TAGS}: {'t' * 7000}")),
    ],
    Reason("many tags", VALUE, "send at most 32"): [
        (TAGS, "has 33 tags", hint(f"{TAGS}: {','.join('t' * 33)}")),
        (TAGS, "has 40 tags", hint(*[f"{TAGS}: {','.join('t' * 20)}"] * 2)),
    ],
    Reason("a long session", VALUE, "an identifier of at most 256"): [
        (SESSION, "has 257 characters", hint(f"{SESSION}: {'s' * 257}")),
        (SESSION, "has 7000 characters", hint(f"{SESSION}: {'s' * 7000}")),
    ],
    Reason("an encoded body", VALUE, "send it as it is, without that header"): [
        ("content-encoding", f"is {value!r}", hint(f"Content-Encoding: {value}"))
        for value in ("gzip", "br", "deflate", "zstd", "gzip, gzip", "utf-8", "")
    ],
}

PLACES: Final[Mapping[Reason, list[Row]]] = {
    Reason("a method that no API takes", "method_not_allowed", "takes POST", 405): [
        *(
            (None, f"{CHAT} takes POST, not {method}", wire(WHOLE, method=method))
            for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
        ),
        (None, "not GET", wire(path=EMBED, method="GET")),
        (None, "not PROPFIND", wire(path=TEXT, method="PROPFIND")),
    ],
    Reason("a method that models do not take", "method_not_allowed", "takes GET", 405): [
        (None, "not POST", wire(WHOLE, path=MODELS)),
        (None, "not DELETE", wire(path=f"{MODELS}/good", method="DELETE")),
        (None, "not PUT", wire(WHOLE, path=MODELS, method="PUT")),
    ],
    Reason("an unknown path", "unknown_url", f"try {CHAT}", 404): [
        (None, f"{path!r}", wire(WHOLE, path=path))
        for path in (
            "/", f"{CHAT}/", "/V1/CHAT/COMPLETIONS", "/v1/../v1/chat/completions",
            "//v1/chat/completions", "/v1/responses", "/chat/completions", "/metrics",
        )
    ],
    Reason("an odd path", "unknown_url", f"try {CHAT}", 404): [
        (None, "'/v1/%zz'", wire(WHOLE, path="/v1/%zz")),
        (None, "'/%ff%fe'", wire(WHOLE, path="/%ff%fe")),
        (None, r"'/v1/\x00'", wire(WHOLE, path="/v1/%00")),
        (None, "/aaaa", wire(path="/" + "a" * 7000, method="GET")),
        (None, "'/v1/nope'", wire(WHOLE, path="http://x/v1/nope")),
        (None, "'*'", wire(path="*", method="OPTIONS")),
    ],
}  # fmt: skip

NOT_HTTP: Final[Mapping[Reason, list[Row]]] = {
    not_http("a line of the head that is too long"): [
        (None, " 65536 bytes", raw)
        for raw in (
            hint(f"X-Big: {'a' * 70_000}"),
            hint(f"Authorization: Bearer {'a' * 100_000}"),
            wire(path="/" + "a" * 70_000),
        )
    ],
    not_http("too many headers"): [
        (None, "over 128 fields", hint(*(f"X-{one}: a" for one in range(many))))
        for many in (200, 2000)
    ],
    not_http("no method"): [
        (None, "Invalid method", raw)
        for raw in (
            b"nonsense\r\n\r\n",
            wire(method="BREW"),
            wire(method="post"),
            wire(method="P\x01ST"),
            wire(method=" POST"),
            wire(method="A" * 9000),
            b'{"model":"good"}\r\n\r\n',
        )
    ],
    not_http("another version"): [
        (None, why, started(f"POST {CHAT} {version}".encode()))
        for version, why in (
            ("HTTP/9.9", "Invalid HTTP version"),
            ("FTP/1.1", "Expected HTTP/"),
            ("HTTP/1", "Expected dot"),
            ("http/1.1", "Expected HTTP/"),
        )
    ],
    not_http("another protocol"): [
        (None, "HTTPS traffic on an HTTP port", bytes.fromhex("16030100ff010000fb0303") + b"\r\n"),
        (None, "PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
    not_http("no number as a length"): [
        (None, "Content-Length", wire(b"", f"Content-Length: {value}", length=False))
        for value in ("-1", "+1", "ten", "0x10", "9" * 30, "1, 2")
    ],
    not_http("two lengths"): [
        (None, "Content-Length", wire(WHOLE, "Content-Length: 1")),
        (None, "Content-Length", wire(WHOLE, CHUNKED)),
    ],
    not_http("an unknown transfer encoding"): [
        (None, why, wire(b"", f"Transfer-Encoding: {value}", length=False))
        for value, why in (
            ("zip", "transfer-encoding is not chunked"),
            ("chunked, chunked", "Transfer-Encoding"),
            ("chunked, gzip", "Transfer-Encoding"),
        )
    ],
    not_http("a malformed chunk"): [
        (None, "chunk size", chunked(b"zz\r\nx\r\n")),
        (None, "chunk size", chunked(b"-1\r\nx\r\n")),
        (None, "chunk data", chunked(b"5\r\nhelloXX\r\n0\r\n\r\n")),
        (None, "Chunk size overflow", chunked(b"f" * 20 + b"\r\n")),
    ],
    not_http("a malformed header name"): [
        (None, "Invalid header token", hint(line))
        for line in ("X Big: a", ": a", "abc", "X-A : a", "X-é: a", "X-\x00: a", "(x): a")
    ],
    not_http("a malformed header value"): [
        (None, "header value", hint(line))
        for line in (b"X-A: a\x00b", b"X-A: a\rb", b"X-A: a\nX-B: b", b"X-A: a\r\n folded")
    ],
    not_http("not one host"): [
        (None, "just one Host", f"POST {CHAT} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}".encode()),
        (None, "just one Host", hint("Host: y")),
    ],
    not_http("no path"): [
        (None, "url", wire(path="")),
        (None, "url", wire(path="/café")),
        (None, "url", wire(path="chat")),
    ],
    Reason("a huge body", "body_too_large", "send less, or raise --body-limit-bytes", 413): [
        (None, f"exceeds {BODY_LIMIT_BYTES} bytes", raw)
        for raw in (
            wire(b"", f"Content-Length: {BODY_LIMIT_BYTES + 1}", length=False),
            wire(b"", f"Content-Length: {10**12}", length=False),
            chunked(b"%x\r\n" % (BODY_LIMIT_BYTES + 1) + b" " * (BODY_LIMIT_BYTES + 1)),
        )
    ],
}


def bad_requests() -> Iterator[BadRequest]:
    for table in (NOT_JSON, FIELDS, HEADERS, PLACES, NOT_HTTP):
        for reason, rows in table.items():
            for number, (param, value, raw) in enumerate(rows, start=1):
                yield BadRequest(reason, number, param, value, raw)
