"""Requests on a connection are answered the same whatever the pieces in which they arrive."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.lane_wire import BODY_LIMIT_BYTES, PlainLane, split_answers
from fakes.plain_transport import cut

BODIES = st.binary(max_size=60) | st.sampled_from(
    [b"\r\n\r\n", b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * (BODY_LIMIT_BYTES + 1)]
)
NAMES = st.sampled_from(["x-one", "x-two", "Accept", "x-switchboard-tags"])
VALUES = st.sampled_from(["a", "", "a, b", "caf\u00e9", "a b\tc"])
PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings?x=1": "embeddings",
    "http://host/v1/embeddings": "embeddings",
    "/v1/models": None,
    "/elsewhere": None,
}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "h2c"}

Request = tuple[bytes, dict[str, Any] | None]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A well-formed request, and what the echo makes of it; None where it is not routed."""
    path = draw(st.sampled_from(sorted(PATHS)))
    api = PATHS[path]
    method = draw(st.sampled_from(["POST", "GET", "PUT"])) if api is None else "POST"
    headers = {"Host": "x", **draw(st.dictionaries(NAMES, VALUES, max_size=3))}
    # What is not routed is answered at its head: whether its body is awaited is no promise.
    body = b"" if api is None else draw(BODIES)
    if draw(st.booleans()) and api is not None:
        headers["Transfer-Encoding"] = "chunked"
        pieces = cut(body, draw(st.lists(st.integers(0, 60), max_size=3)))
        sent = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces if one)
        sent += b"0\r\n" + draw(st.sampled_from([b"", b"x-sum: 1\r\n"])) + b"\r\n"
    else:
        if method != "GET" or draw(st.booleans()):
            headers["Content-Length"] = str(len(body))
        sent = body
    if draw(st.integers(0, 5)) == 0:
        headers |= UPGRADE
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    data = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + sent
    if api is None:
        return data, None
    lower = {name.lower(): value for name, value in headers.items()}
    return data, {"api": api, "headers": lower, "body": body.hex()}


CUTS = st.lists(st.integers(1, 2_000), max_size=10)


def answered(pieces: list[bytes]) -> bytes:
    async def run() -> bytes:
        lane = PlainLane()
        said = await lane.send(*pieces)
        await lane.leave()
        return said

    return asyncio.run(run())


@given(st.lists(requests(), min_size=1, max_size=4), CUTS)
def test_pieces_make_no_difference(wanted: list[Request], cuts: list[int]) -> None:
    """One that is too large is the last: the connection ends with its answer."""
    data = b"".join(one for one, _ in wanted)
    answers = split_answers(answered(cut(data, cuts)))
    assert len(answers) <= len(wanted)
    for answer, (_, expected) in zip(answers, wanted, strict=False):
        if expected is None:
            assert answer.status in (404, 405, 503)
        elif len(expected["body"]) > 2 * BODY_LIMIT_BYTES:
            assert answer.status == 413
        else:
            assert (answer.status, answer.json) == (200, expected)
    if len(answers) < len(wanted):
        assert answers[-1].headers["connection"] == "close"
        assert answers[-1].status == 413


@given(st.lists(requests(), min_size=1, max_size=2))
@settings(max_examples=25)
def test_bytes_one_by_one_make_no_difference(wanted: list[Request]) -> None:
    data = b"".join(one for one, _ in wanted)
    if len(data) < BODY_LIMIT_BYTES:
        assert answered(cut(data, range(len(data)))) == answered([data])


@given(st.lists(requests(), min_size=1, max_size=3), st.data(), CUTS)
@settings(max_examples=300)
def test_what_is_spoilt_is_judged_alike_in_one_piece_and_in_many(
    wanted: list[Request], draws: st.DataObject, cuts: list[int]
) -> None:
    data = bytearray(b"".join(one for one, _ in wanted))
    for _ in range(draws.draw(st.integers(1, 3))):
        place = draws.draw(st.integers(0, len(data) - 1))
        spoilt = draws.draw(st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"9", b"\xff"]))
        data[place : place + draws.draw(st.integers(0, 2))] = spoilt
    if len(data) >= BODY_LIMIT_BYTES:
        return
    whole = split_answers(answered([bytes(data)]))
    in_pieces = split_answers(answered(cut(bytes(data), cuts)))
    for one, other in zip(whole, in_pieces, strict=False):
        assert (one.status, one.body) == (other.status, other.body)
    if len(whole) != len(in_pieces):
        # What is not routed is answered before its body, and ends the connection then.
        assert min(whole, in_pieces, key=len)[-1].status in (404, 405, 503)


@given(st.binary(min_size=1, max_size=300), CUTS)
def test_garbage_is_refused_and_never_an_exception_of_the_parser(
    data: bytes, cuts: list[int]
) -> None:
    said = answered(cut(data, cuts))
    if said:
        assert {answer.status for answer in split_answers(said)} <= {400, 404, 405, 503}
