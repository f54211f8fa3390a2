"""Every error that a caller can get: its status, its body, the event that ends a stream with it."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

from switchboard_dataplane.errors import RouterError, Unauthenticated
from switchboard_dataplane.wire.answers import error_answer, error_event

FOLDER = Path(__file__).parent / "errors"


def leaves(kind: type[RouterError]) -> Iterator[type[RouterError]]:
    """The kinds that are raised: those without kinds of their own, and those that have both."""
    for one in kind.__subclasses__():
        if not one.__subclasses__() or one.__name__ == "NoCandidate":
            yield one
        yield from leaves(one)


def test_every_error_has_its_body(golden: Callable[[Path, str], None]) -> None:
    lines = ["status  error                     body"]
    for kind in sorted(leaves(RouterError), key=lambda one: (one.status, one.__name__)):
        error = Unauthenticated("why", why="unknown") if kind is Unauthenticated else kind("why")
        answer = error_answer(error)
        assert error_event(error) == b"data: " + answer.body + b"\n\n"
        asked = {"www-authenticate": "Bearer"} if answer.status == HTTPStatus.UNAUTHORIZED else {}
        assert dict(answer.headers) == {"content-type": "application/json"} | asked
        lines.append(f"{answer.status}     {kind.__name__:<24}  {answer.body.decode()}")
    golden(FOLDER / "errors.txt", "\n".join(lines) + "\n")


def test_codes_are_one_a_kind() -> None:
    codes = [kind.code for kind in leaves(RouterError)]
    assert len(set(codes)) == len(codes)
