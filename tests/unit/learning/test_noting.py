"""What is kept of a request on its way: what is asked for, while there is room, and no more."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest

from fakes.gateway import event
from fakes.policies import keyring
from switchboard_dataplane.decision.client import ANYBODY, Client
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.learning.ids import is_genuine
from switchboard_dataplane.learning.noting import ANSWER_BYTES_MAX, Noted, Notes, Room
from switchboard_dataplane.wire.answers import Answer
from switchboard_policy import ir
from switchboard_policy.ir import Api

OURS = keyring()
JUDGED = ir.Learning(judge=ir.Asked("ai/judge"), judge_sample_permille=250)


class Plain:
    """A caller that takes everything."""

    api: Api = "chat"
    peer = ""

    def __init__(self) -> None:
        self.headers: MutableMapping[str, str] = {}
        self.got = b""

    async def read_body(self) -> bytes:
        return b""

    async def send(self, answer: Answer) -> None:
        self.got += answer.body

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        pass

    def put(self, data: bytes) -> bool:
        self.got += data
        return True

    async def drained(self) -> None:
        pass

    async def end(self) -> None:
        pass


def notes(chance: float = 0.0) -> Notes:
    return Notes(keyring=lambda: OURS, entropy=lambda size: b"r" * size, chance=lambda: chance)


def view(text: str = "why?", **fields: str) -> RequestView:
    made = RequestView("chat", "m", {"messages": [{"role": "user", "content": text}]}, {})
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def piece(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


def test_a_request_whose_texts_nobody_wants_is_not_overheard() -> None:
    caller = Plain()
    noted = notes().begin(ir.Learning())
    assert noted.listen(caller) is caller
    notes().end(noted, view("my name is x"), None, "primary")
    assert is_genuine(OURS, noted.id)
    assert (noted.prompt, noted.answer, noted.reason) == ("", "", "primary")
    assert (noted.session, noted.turn, noted.view) == ("", 0, None)


@pytest.mark.parametrize(("chance", "judged"), [(0.0, True), (0.249, True), (0.25, False)])
def test_a_share_of_the_answers_is_drawn_for_the_judge(chance: float, *, judged: bool) -> None:
    assert notes(chance).begin(JUDGED).judged is judged
    assert not notes(chance).begin(ir.Learning()).judged


def test_a_judge_sees_what_the_log_does_not_keep() -> None:
    noted, caller = notes().begin(JUDGED), Plain()
    listening = noted.listen(caller)
    listening.put(piece("It is "))
    listening.put(piece("blue."))
    notes().end(noted, view(), None, "primary")
    assert caller.got == piece("It is ") + piece("blue.")
    assert (noted.answer, noted.prompt) == ("It is blue.", "")
    assert noted.view is not None


def test_sessions_and_users_are_hashes_that_tell_nothing_and_stay_the_same() -> None:
    said = []
    for fields in ({"session": "s"}, {"session": "s"}, {"user": "s"}, {"session": "t"}, {}):
        noted = notes().begin(ir.Learning())
        notes().end(noted, view(**fields), None, "")
        said.append((noted.session, noted.turn))
    one, again, user, other, nobody = said
    assert one == again == user
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert nobody == ("", 0)
    assert "s" not in one[0]


@pytest.mark.parametrize("by", ["session", "user"])
def test_clients_that_name_a_session_alike_have_none_in_common(by: str) -> None:
    said = []
    for caller in (ANYBODY, Client("key", "web", "apps"), Client("serviceAccount", "web", "apps")):
        noted = notes().begin(ir.Learning())
        asked: dict[str, Any] = {"client": caller, by: "s"}
        notes().end(noted, view(**asked), None, "")
        said.append((noted.session, noted.turn))
    assert len({session for session, _ in said}) == len({turn for _, turn in said}) == len(said)


def test_who_goes_on_is_known_by_the_hash_of_the_turn_before() -> None:
    said = []
    for texts in (["why?"], ["why?", "Because.", "and then?"]):
        messages = [
            {"role": "assistant" if place % 2 else "user", "content": text}
            for place, text in enumerate(texts)
        ]
        for who in ("s", "t", ""):
            noted = notes().begin(ir.Learning())
            asked = RequestView("chat", "m", {"messages": messages}, {})
            asked.session = who
            notes().end(noted, asked, None, "")
            said.append((noted.turn, noted.continued))
    first, others, _, went_on, others_went_on, nobody = said
    assert first[1] == others[1] == 0
    assert went_on[1] == first[0]
    assert others_went_on[1] == others[0] != first[0]
    assert went_on[0] != first[0]
    assert nobody == (0, 0)


def test_a_long_answer_is_kept_in_part_and_passes_whole() -> None:
    noted, caller = Noted("d", texts=True, judged=False), Plain()
    listening = noted.listen(caller)
    many = 2 * ANSWER_BYTES_MAX // len(piece("x" * 100))
    for _ in range(many):
        listening.put(piece("x" * 100))
    assert len(caller.got) == many * len(piece("x" * 100))
    assert noted.listening is not None
    kept = noted.listening.answer()
    assert 0 < len(kept) < ANSWER_BYTES_MAX


async def test_answers_together_take_no_more_than_there_is_room_and_give_it_back() -> None:
    room, body = Room(left_bytes=150), b'{"choices":[{"index":0,"message":{"content":"blue"}}]}'
    every = [Noted(f"d{number}", texts=True, judged=False) for number in range(4)]
    for noted in every:
        await noted.listen(Plain(), room).send(Answer(200, (), body))
    assert room.left_bytes == 150 - 2 * len(body)
    texts = [noted.listening.answer() for noted in every if noted.listening is not None]
    assert texts == ["blue", "blue", "", ""]
    assert room.left_bytes == 150


def test_a_request_that_cannot_be_read_is_noted_in_part(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> str:
        raise ArithmeticError("no luck")

    monkeypatch.setattr("switchboard_dataplane.learning.noting.last_user_turn", fails)
    noted = notes().begin(ir.Learning(texts=True))
    notes().end(noted, view(), None, "primary")
    assert noted.reason == "primary"
    assert "no luck" in caplog.text
