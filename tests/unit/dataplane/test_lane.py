"""The public port's fast form, without sockets: its limits, and the life of a connection."""

import asyncio

import pytest

from fakes.lane_wire import BODY_LIMIT_BYTES, PlainLane, split_answers
from fakes.plain_transport import cut, turns
from switchboard_dataplane.front.lane import (
    AHEAD_BYTES_MAX,
    FRAMING_BYTES_MAX,
)
from switchboard_dataplane.front.lane_caller import UNWANTED_BYTES_MAX
from switchboard_dataplane.front.routes import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    PATIENCE,
)

LINE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
POST = LINE + b"Content-Length: 2\r\n\r\nhi"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
ELSEWHERE = b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE_BYTES = [1_000, HEAD_BYTES_MAX, 1_000_000]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return cut(data, range(0, len(data), size))


async def statuses(*pieces: bytes) -> list[int]:
    """Send these on a new connection; return what is answered."""
    lane = PlainLane()
    answers = split_answers(await lane.send(*pieces))
    await lane.leave()
    return [answer.status for answer in answers]


# --- limits --------------------------------------------------------------------------------------


def head_of(size: int) -> bytes:
    """A request's head of that many bytes."""
    end = b"Content-Length: 2\r\n\r\n"
    head = LINE + b"x-one: " + b"a" * (size - len(LINE) - len(end) - 9) + b"\r\n" + end
    assert len(head) == size
    return head


@pytest.mark.parametrize("piece_bytes", PIECE_BYTES)
async def test_a_head_has_the_same_limit_in_whatever_pieces(piece_bytes: int) -> None:
    assert await statuses(*in_pieces(head_of(HEAD_BYTES_MAX) + b"hi", piece_bytes)) == [200]
    assert await statuses(*in_pieces(head_of(HEAD_BYTES_MAX + 1) + b"hi", piece_bytes)) == [400]


@pytest.mark.parametrize("piece_bytes", PIECE_BYTES)
async def test_a_second_head_has_that_limit_too(piece_bytes: int) -> None:
    for size, status in ((HEAD_BYTES_MAX, 200), (HEAD_BYTES_MAX + 1, 400)):
        second = in_pieces(head_of(size) + b"hi", piece_bytes)
        assert await statuses(POST, *second) == [200, status]


@pytest.mark.parametrize("piece_bytes", PIECE_BYTES)
async def test_headers_have_a_limit(piece_bytes: int) -> None:
    def request(count: int) -> list[bytes]:
        lines = b"".join(b"x-%d: a\r\n" % number for number in range(count - 2))
        return in_pieces(LINE + lines + b"Content-Length: 2\r\n\r\nhi", piece_bytes)

    assert await statuses(*request(HEADERS_MAX)) == [200]
    assert await statuses(*request(HEADERS_MAX + 1)) == [400]


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"POST /" + b"a" * 1_000_000, id="target"),
        pytest.param(LINE + b"x: " + b"a" * 1_000_000, id="header"),
        pytest.param(LINE + b"x: y\r\n" * 200_000, id="headers"),
        pytest.param(b"\r\n" * 500_000, id="line-breaks"),
        pytest.param(CHUNKED + b"0\r\nx: " + b"a" * 1_000_000, id="trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"x: y\r\n" * 200_000, id="trailers"),
        pytest.param(CHUNKED + b"2;" + b"a" * 1_000_000, id="extension"),
        pytest.param(CHUNKED + b"0" * 1_000_000, id="chunk-size"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [5_000, 256 * 1024])
async def test_what_never_ends_is_refused(endless: bytes, piece_bytes: int) -> None:
    lane = PlainLane()
    taken = 0
    for piece in in_pieces(POST + endless, piece_bytes):
        await lane.send(piece)
        taken += len(piece)
        if lane.transport.ended:
            break
    assert taken <= FRAMING_BYTES_MAX + 2 * piece_bytes
    first, second = split_answers(bytes(lane.transport.written))
    assert (first.status, second.status) == (200, 400)
    assert second.json["error"]["code"] == "malformed_http"
    await lane.leave()


async def test_trailers_are_dropped_and_do_not_count_for_the_next_head() -> None:
    trailers = b"x: " + b"a" * (HEAD_BYTES_MAX - 1_000) + b"\r\n\r\n"
    request = CHUNKED + b"2\r\nhi\r\n0\r\n" + trailers
    lane = PlainLane()
    answers = split_answers(await lane.send(*in_pieces(request * 3, 9_000)))
    assert [answer.json["body"] for answer in answers] == [b"hi".hex()] * 3
    assert answers[0].json["headers"] == {"host": "x", "transfer-encoding": "chunked"}
    await lane.leave()


async def test_a_body_of_single_bytes_is_put_together() -> None:
    body = bytes(range(256)) * 3
    chunks = b"".join(b"1;%b\r\n%c\r\n" % (b"e" * 200, byte) for byte in body)
    lane = PlainLane()
    (answer,) = split_answers(await lane.send(*in_pieces(CHUNKED + chunks + b"0\r\n\r\n", 7_000)))
    assert answer.json["body"] == body.hex()
    await lane.leave()


async def test_a_body_beyond_the_limit_is_not_kept() -> None:
    lane = PlainLane()
    big = BODY_LIMIT_BYTES + 1
    sent = [CHUNKED, *[b"64\r\n" + b"x" * 100 + b"\r\n"] * (big // 100 + 1)]
    (answer,) = split_answers(await lane.send(*sent))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert lane.transport.ended
    await lane.leave()


async def test_a_body_that_is_not_here_is_counted_and_leaves_nothing_when_its_caller_does() -> None:
    lane = PlainLane()
    await lane.send(LINE + b"Content-Length: 900\r\n\r\n", b"x" * 500, b"x" * 200)
    bodies = lane.shared.routes.bodies
    assert (bodies.held_bytes, len(bodies)) == (700, 1)
    await lane.leave()
    assert (bodies.held_bytes, len(bodies)) == (0, 0)
    # What the connection holds waits for the garbage collector.
    assert lane.lane._receiving is None


@pytest.mark.parametrize("sent", [POST, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"])
async def test_a_body_that_comes_at_once_is_not_counted(sent: bytes) -> None:
    lane = PlainLane()
    lane.shared.routes.bodies.limit_bytes = 0
    assert [one.status for one in split_answers(await lane.send(sent))] == [200]
    await lane.leave()


async def test_a_body_behind_a_request_that_is_served_may_give_way_too() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    lane.shared.routes.bodies.limit_bytes = 400
    await lane.send(POST + LINE + b"Content-Length: 900\r\n\r\n", b"x" * 300, b"x" * 200, b"x")
    assert lane.shared.routes.bodies.held_bytes == 0
    lane.echo.waits.set()
    answers = split_answers(await lane.send())
    assert [one.status for one in answers] == [200, 408]
    await lane.leave()


# --- what the caller asks for --------------------------------------------------------------------


async def test_a_request_for_an_upgrade_is_served_with_its_body_and_no_other() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    inner = b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    sized = LINE + upgrade + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    chunked = LINE + upgrade + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\nx-sum: 1\r\n\r\n" % (len(inner), inner)
    bare = LINE + upgrade + b"\r\n"
    for piece_bytes in (1, 7, 1_000):
        lane = PlainLane()
        data = sized + bare + chunked + POST
        answers = split_answers(await lane.send(*in_pieces(data, piece_bytes)))
        bodies = [bytes.fromhex(answer.json["body"]) for answer in answers]
        assert bodies == [inner, b"", inner, b"hi"]
        assert {answer.json["api"] for answer in answers} == {"chat"}
        await lane.leave()


async def test_ever_so_many_requests_for_an_upgrade_are_no_recursion() -> None:
    one = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    assert await statuses(POST, one * 3_000) == [200] + [404] * 3_000


async def test_nothing_is_connected_to() -> None:
    connect = b"CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\n\r\n"
    assert await statuses(POST, connect + POST) == [200, 400]


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"9.9"])
async def test_another_version_is_refused(version: bytes) -> None:
    assert await statuses(POST, POST.replace(b"1.1", version)) == [200, 400]


async def test_http_1_0_has_no_chunks() -> None:
    old = CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n"
    assert await statuses(old) == [400]


async def test_http_1_0_is_kept_only_where_it_asks() -> None:
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0")
    lane = PlainLane()
    (answer,) = split_answers(await lane.send(old))
    assert (answer.headers["connection"], lane.transport.is_closing()) == ("close", True)
    lane = PlainLane()
    asking = old.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    answers = split_answers(await lane.send(asking, asking))
    assert [answer.headers["connection"] for answer in answers] == ["keep-alive"] * 2
    await lane.leave()


async def test_who_waits_to_be_asked_for_its_body_is_asked() -> None:
    head = LINE + b"Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    lane = PlainLane()
    assert await lane.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    said = (await lane.send(b"hi")).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert split_answers(said)[0].status == 200
    await lane.leave()


async def test_who_does_not_wait_or_speaks_http_1_0_is_not_asked() -> None:
    expect = b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert await statuses(LINE + expect + b"hi") == [200]
    lane = PlainLane()
    assert await lane.send(LINE.replace(b"1.1", b"1.0") + expect) == b""
    await lane.leave()


async def test_who_waits_is_refused_before_it_sends() -> None:
    head = LINE + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (BODY_LIMIT_BYTES + 1)
    lane = PlainLane()
    (answer,) = split_answers(await lane.send(head))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    await lane.leave()


# --- pipelining ----------------------------------------------------------------------------------


async def test_requests_are_answered_in_their_order_and_one_at_a_time() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    numbered = [LINE + b"Content-Length: 1\r\n\r\n%d" % number for number in range(5)]
    assert await lane.send(b"".join(numbered) + ELSEWHERE + b"nonsense\r\n\r\n") == b""
    assert lane.echo.served == 1
    lane.echo.waits.set()
    *answers, elsewhere, refused = split_answers(await lane.send())
    assert [bytes.fromhex(one.json["body"]) for one in answers] == [b"0", b"1", b"2", b"3", b"4"]
    assert (elsewhere.status, refused.status) == (404, 400)
    assert lane.transport.ended
    await lane.leave()


async def test_what_comes_ahead_is_bounded_and_goes_on_when_it_is_its_turn() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    count = 4 * AHEAD_BYTES_MAX // len(POST)
    pieces = in_pieces(POST * count, 1_000)
    await lane.send(*pieces)
    assert lane.transport.paused
    ahead = len(lane.lane._ahead)
    assert ahead * len(POST) <= AHEAD_BYTES_MAX + 2_000
    lane.echo.waits.set()
    assert len(split_answers(await lane.send())) == count
    await lane.leave()


async def test_reading_goes_on_for_a_request_of_which_the_rest_has_to_come() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    big = POST.replace(b"\r\n\r\n", b"\r\nx: " + b"a" * (AHEAD_BYTES_MAX - 500) + b"\r\n\r\n")
    await lane.send(POST, big, LINE + b"Content-Length: 900\r\n\r\n" + b"x" * 899)
    assert lane.transport.paused
    await lane.send(b"x" + POST)
    lane.echo.waits.set()
    answers = split_answers(await lane.send())
    assert [len(one.json["body"]) for one in answers] == [4, 4, 1_800, 4]
    await lane.leave()


async def test_a_caller_that_leaves_is_noticed_though_it_has_sent_ahead() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    await lane.send(POST * 3)
    lane.transport.feed(None)
    await turns(5)
    assert (lane.echo.left, lane.echo.served) == (1, 1)
    await lane.leave()


async def test_answers_do_not_pile_up_for_a_caller_that_does_not_read() -> None:
    lane = PlainLane(stuck=True)
    await lane.send(POST + ELSEWHERE * 1_000)
    assert len(split_answers(bytes(lane.transport.written))) == 1
    lane.transport.take_all()
    await lane.send()
    assert len(split_answers(bytes(lane.transport.written))) == 2
    await lane.leave()


# --- deadlines and the end -----------------------------------------------------------------------


async def sweep(lane: PlainLane, now: float) -> bool:
    """Look at the deadline at that time; return whether the connection is closed."""
    lane.now = now
    lane.lane.close_if_overdue(now)
    await turns(5)
    return lane.transport.is_closing()


async def test_a_head_has_to_come_in_time_and_an_idle_connection_is_kept_for_longer() -> None:
    lane = PlainLane()
    await lane.send(POST[:10])
    assert not await sweep(lane, PATIENCE.head_s - 1)
    assert await sweep(lane, PATIENCE.head_s)
    lane = PlainLane()
    await lane.send(POST)
    assert not await sweep(lane, PATIENCE.idle_s - 1)
    await lane.send(POST[:10])
    assert not await sweep(lane, PATIENCE.idle_s + PATIENCE.head_s - 2)
    assert await sweep(lane, PATIENCE.idle_s + PATIENCE.head_s - 1)


async def test_a_request_that_is_served_has_no_deadline_of_the_connections() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    await lane.send(POST)
    assert not await sweep(lane, 10_000)
    await lane.leave()


async def test_a_caller_that_takes_nothing_of_its_answer_is_given_up() -> None:
    lane = PlainLane(stuck=True)
    await lane.send(POST)
    assert len(lane.live) == 1
    assert not await sweep(lane, PATIENCE.stall_s - 1)
    lane.transport.take(10)
    assert not await sweep(lane, PATIENCE.stall_s)
    assert not await sweep(lane, 2 * PATIENCE.stall_s - 1)
    assert await sweep(lane, 2 * PATIENCE.stall_s)
    assert (len(lane.live), lane.echo.left) == (0, 1)


async def test_a_refused_caller_has_a_moment_to_read_why() -> None:
    lane = PlainLane()
    await lane.send(CHUNKED + b"x\r\n", b"more of it" * 100)
    assert lane.transport.ended
    assert not lane.transport.paused
    assert not await sweep(lane, PATIENCE.linger_s - 0.1)
    assert await sweep(lane, PATIENCE.linger_s)


async def test_a_caller_that_said_close_and_sent_more_can_read_its_answer() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    closing = POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    await lane.send(POST + closing)
    lane.echo.waits.set()
    answers = split_answers(await lane.send())
    assert [one.headers.get("connection") for one in answers] == [None, "close"]
    assert lane.transport.is_closing()


async def test_a_port_that_closes_says_so_and_drops_what_is_ahead() -> None:
    lane = PlainLane()
    lane.echo.waits = asyncio.Event()
    await lane.send(POST * 3)
    lane.live.closing = True
    lane.lane.close_idle()
    lane.echo.waits.set()
    (answer,) = split_answers(await lane.send())
    assert answer.headers["connection"] == "close"
    # It may have been sending: a reset must not destroy the answer.
    assert lane.transport.ended
    assert not lane.transport.is_closing()
    lane.lane.close_idle()
    assert lane.transport.is_closing()


# --- bodies that are not wanted yet --------------------------------------------------------------


def upload(size: int) -> bytes:
    return LINE + b"Content-Length: %d\r\n\r\n" % size


async def test_what_is_sent_before_the_caller_is_known_waits_in_the_socket() -> None:
    lane = PlainLane(body_limit_bytes=10_000_000)
    lane.echo.admits = asyncio.Event()
    piece = b"x" * 50_000
    await lane.send(upload(5_000_000), *[piece] * 100)
    assert lane.transport.paused
    held_bytes = lane.shared.routes.bodies.held_bytes
    assert UNWANTED_BYTES_MAX < held_bytes <= UNWANTED_BYTES_MAX + len(piece)
    lane.echo.admits.set()
    (answer,) = split_answers(await lane.send(b""))
    assert len(answer.json["body"]) == 2 * 5_000_000
    await lane.leave()


async def test_a_body_that_comes_at_once_leaves_the_connection_open_to_the_next() -> None:
    lane = PlainLane(body_limit_bytes=10_000_000)
    size = 2 * UNWANTED_BYTES_MAX
    answers = split_answers(await lane.send(upload(size) + b"x" * size, POST))
    assert [answer.status for answer in answers] == [200, 200]
    assert not lane.transport.paused
    await lane.leave()
