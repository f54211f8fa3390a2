"""An upstream's answer reads the same whatever the pieces in which it arrives."""

import asyncio
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes.plain_transport import cut
from fakes.upstream_wire import Read, read_answer
from switchboard_dataplane.errors import UpstreamProtocol, UpstreamReset

BODIES = st.binary(max_size=40) | st.sampled_from(
    [b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 300]
)
NAMES = st.sampled_from(["x-one", "content-type", "retry-after", "x-empty", "x-one"])
VALUES = st.sampled_from(["a", "application/json", "", "7", "a b\tc", "caf\u00e9"])
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, Read]:
    """A well-formed answer, and what is to be read of it; None ends what needs its end."""
    kind = draw(st.sampled_from(["sized", "chunked", "to-eof", "no-content", "old"]))
    status = 204 if kind == "no-content" else draw(st.sampled_from([200, 404, 429, 503]))
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))
    body = b"" if kind == "no-content" else draw(BODIES)
    sent = body
    if kind == "sized":
        headers.append(("content-length", str(len(body))))
    if kind == "chunked":
        headers.insert(0, ("transfer-encoding", "chunked"))
        sent = chunked(cut(body, draw(st.lists(st.integers(0, 300), max_size=4))))
        trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"x: y\r\nz:\r\n"]))
        sent += b"0\r\n" + trailers + b"\r\n"
    version = b"1.0" if kind == "old" else b"1.1"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = b"HTTP/%b %d Said so\r\n%b\r\n" % (version, status, lines.encode())
    data = INTERIM * draw(st.integers(0, 2)) + head + sent
    reusable = kind in ("sized", "chunked", "no-content")
    return data, Read(status=status, headers=tuple(headers), body=body, reusable=reusable)


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)


CUTS = st.lists(st.integers(1, 600), max_size=8)


@given(answers(), CUTS, st.booleans())
def test_pieces_make_no_difference(answer: tuple[bytes, Read], cuts: list[int], pour: bool) -> None:
    data, expected = answer
    pieces: list[bytes | None] = [*cut(data, cuts)]
    if not expected.reusable:
        pieces.append(None)
    assert asyncio.run(read_answer(pieces, pour=pour)) == expected


@given(answers())
@settings(max_examples=30)
def test_bytes_one_by_one_make_no_difference(answer: tuple[bytes, Read]) -> None:
    data, expected = answer
    pieces: list[bytes | None] = [*cut(data, range(len(data)))]
    if not expected.reusable:
        pieces.append(None)
    assert asyncio.run(read_answer(pieces)) == expected


@given(answers(), st.integers(0, 600), CUTS)
def test_an_answer_that_breaks_off_is_never_taken_for_whole(
    answer: tuple[bytes, Read], size: int, cuts: list[int]
) -> None:
    data, expected = answer
    if size >= len(data):
        size = len(data) - 1
    read = asyncio.run(read_answer([*cut(data[:size], cuts), None]))
    if expected.reusable:
        assert read.failure is UpstreamReset
    elif read.failure is None:
        assert data.startswith(INTERIM) or data.endswith(expected.body)
        assert expected.body.startswith(read.body)


@given(answers(), CUTS, st.sampled_from([b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]))
def test_a_connection_that_says_more_than_its_answer_is_not_used_again(
    answer: tuple[bytes, Read], cuts: list[int], more: bytes
) -> None:
    data, expected = answer
    if expected.reusable:
        read = asyncio.run(read_answer(cut(data + more, cuts)))
        assert read == replace(expected, reusable=False)


@given(answers(), st.data(), CUTS)
@example((b"HTTP/1.1 000 No\r\n\r\n", Read()), None, [1])
@settings(max_examples=300)
def test_what_is_spoilt_is_judged_alike_in_one_piece_and_in_many(
    answer: tuple[bytes, Read], draws: st.DataObject | None, cuts: list[int]
) -> None:
    data = bytearray(answer[0])
    if draws is not None:
        for _ in range(draws.draw(st.integers(1, 3))):
            place = draws.draw(st.integers(0, len(data) - 1))
            spoilt = draws.draw(
                st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"9", b"\xff"])
            )
            data[place : place + draws.draw(st.integers(0, 2))] = spoilt
    whole = asyncio.run(read_answer([bytes(data), None]))
    in_pieces = asyncio.run(read_answer([*cut(bytes(data), cuts), None]))
    assert (whole.status, whole.headers) == (in_pieces.status, in_pieces.headers)
    assert whole.failure is in_pieces.failure
    assert whole.failure in (None, UpstreamProtocol, UpstreamReset)
    if whole.failure is None:
        assert whole.body == in_pieces.body


@given(st.binary(min_size=1, max_size=200), CUTS)
def test_garbage_is_a_failure_and_never_an_exception_of_the_parser(
    data: bytes, cuts: list[int]
) -> None:
    read = asyncio.run(read_answer([*cut(data, cuts), None]))
    assert read.failure in (UpstreamProtocol, UpstreamReset)
    assert not read.reusable
