"""What is remembered, and what ratings come to: ids, ratings, decisions, turns. Pure."""

from datetime import UTC, datetime

import msgspec
import pytest

from fakes.policies import keyring
from fakes.stores import keyring as keys_of
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.learning.decisions import Decided, rated, read_rated
from switchboard_dataplane.learning.early import EARLY_S, Early
from switchboard_dataplane.learning.gathering import Gathering, Repeats
from switchboard_dataplane.learning.ids import RANDOM_BYTES, is_genuine, make_id
from switchboard_dataplane.learning.ratings import Rating, Source, quality_of
from switchboard_dataplane.learning.recent import AGE_MAX_S, Recent
from switchboard_dataplane.learning.regenerations import (
    WITHIN_S,
    Regenerations,
    last_turn,
    turn_before,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS = keyring()


def decision(number: int, **fields: object) -> Decided:
    return Decided(id=f"d{number}", at=AT, **fields)  # type: ignore[arg-type]


def rating(value: float, source: Source = "feedback", **fields: str) -> Rating:
    said = {"decision": "d1", **fields}
    return Rating(value=value, source=source, at=AT, **said)


# --- ids ------------------------------------------------------------------------------------


def test_an_id_is_known_to_all_who_have_the_key_and_to_nobody_else() -> None:
    made = make_id(OURS, b"r" * RANDOM_BYTES)
    assert is_genuine(OURS, made)
    assert not is_genuine(keyring("gw/other"), made)
    assert not is_genuine(keys_of(666), made)


def test_an_id_outlives_a_change_of_keys_as_long_as_its_key_is_there() -> None:
    made = make_id(keys_of(1), b"r" * RANDOM_BYTES)
    assert is_genuine(keys_of(1, 2), made)
    assert not is_genuine(keys_of(2), made)


def test_no_other_text_is_an_id() -> None:
    made = make_id(OURS, b"r" * RANDOM_BYTES)
    for place in range(len(made)):
        other = "A" if made[place] != "A" else "B"
        assert not is_genuine(OURS, made[:place] + other + made[place + 1 :])
    for text in ("", "x", made + "A", made[:-1], "é" * len(made), "=" * len(made), "\0" * 28):
        assert not is_genuine(OURS, text)


def test_ids_say_nothing_but_what_is_drawn_for_them() -> None:
    made = {make_id(OURS, bytes([number]) * RANDOM_BYTES) for number in range(50)}
    assert len(made) == 50
    assert {len(one) for one in made} == {28}
    assert all(one.replace("-", "").replace("_", "").isalnum() for one in made)


# --- ratings --------------------------------------------------------------------------------


def test_a_caller_is_believed_before_a_judge_and_a_judge_before_what_came_of_it() -> None:
    said: list[Rating] = []
    for source, value in (
        ("acceptance", 0.03),
        ("continuation", 0.06),
        ("regeneration", 0.1),
        ("escalation", 0.2),
        ("error", 0.3),
        ("mirror", 0.4),
        ("judge", 0.5),
        ("feedback", 0.6),
    ):
        said.insert(0, rating(value, source))  # type: ignore[arg-type]
        assert quality_of(said) == value


def test_the_last_word_of_a_source_counts() -> None:
    assert quality_of([rating(0.0), rating(1.0)]) == 1.0


def test_what_is_said_of_another_model_is_no_rating_of_the_answer() -> None:
    assert quality_of([]) is None
    assert quality_of([rating(0.0, "escalation", tier="small")]) is None
    assert quality_of([rating(1.0, "mirror", backend="ai/next")]) is None


# --- decisions ------------------------------------------------------------------------------


def test_a_line_of_an_export_is_read_again_whatever_a_newer_version_added() -> None:
    line = rated(decision(1, context=(1.0, 0.5), tier="small"), [rating(0.5)])
    raw = msgspec.json.encode(line)
    assert read_rated(raw) == line
    assert line.quality == 0.5
    newer = msgspec.json.encode({**msgspec.json.decode(raw), "invented": [1]})
    assert read_rated(newer) == line
    with pytest.raises(ValueError, match="kind"):
        read_rated(b'{"kind":"rating","decision":"d1","value":1,"source":"judge"}')


# --- recent ---------------------------------------------------------------------------------


def test_the_oldest_decisions_are_forgotten_by_number_and_by_age() -> None:
    recent = Recent(decisions_max=3)
    for number in range(5):
        recent.remember(decision(number), {}, now=float(number))
    assert [one.decision.id for one in recent.after("", limit=9)] == ["d2", "d3", "d4"]
    assert recent.find("d2", now=AGE_MAX_S + 1.9) is not None
    assert recent.find("d2", now=AGE_MAX_S + 2.1) is None
    assert len(recent) == 2


def test_texts_are_not_remembered() -> None:
    recent = Recent()
    recent.remember(decision(1, prompt="why", answer="because"), {}, now=0.0, texts=True)
    known = recent.find("d1", now=0.0)
    assert known is not None
    assert (known.decision.prompt, known.decision.answer, known.texts) == ("", "", True)


def test_who_reads_on_gets_what_came_after_and_all_where_its_place_is_forgotten() -> None:
    recent = Recent()
    for number in range(4):
        recent.remember(decision(number), {}, now=0.0)

    def after(place: str, limit: int = 9) -> list[str]:
        return [one.decision.id for one in recent.after(place, limit=limit)]

    assert after("d1") == ["d2", "d3"]
    assert after("d3") == []
    assert after("gone") == after("") == ["d0", "d1", "d2", "d3"]
    assert after("", limit=2) == ["d0", "d1"]


# --- turns ----------------------------------------------------------------------------------


def test_a_turn_that_is_asked_again_after_its_answer_is_a_regeneration_once() -> None:
    turns = Regenerations()
    turns.answered(7, "d1", at=10.0)
    assert turns.asked(7, at=12.0) == "d1"
    assert turns.asked(7, at=13.0) == ""


def test_what_began_before_the_answer_ended_is_another_sample() -> None:
    turns = Regenerations()
    turns.answered(7, "d1", at=10.0)
    assert turns.asked(7, at=9.9) == ""
    assert turns.asked(7, at=10.0) == ""
    assert turns.asked(7, at=10.1) == "d1"


def test_who_asks_again_much_later_has_another_reason() -> None:
    turns = Regenerations()
    turns.answered(7, "d1", at=10.0)
    assert turns.asked(7, at=10.1 + WITHIN_S) == ""
    assert turns.asked(7, at=10.0 + WITHIN_S) == "d1"


def test_turns_are_bounded_and_no_turn_is_none() -> None:
    turns = Regenerations(turns_max=3)
    for turn in range(6):
        turns.answered(turn, f"d{turn}", at=1.0)
    assert len(turns) == 3
    assert turns.asked(0, at=2.0) == ""
    assert turns.asked(2, at=2.0) == ""
    assert turns.asked(5, at=2.0) == "d5"


def view(api: str = "chat", **payload: object) -> RequestView:
    return RequestView(api, "m", payload, {})  # type: ignore[arg-type]


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def test_the_same_last_message_of_as_many_messages_is_the_same_turn() -> None:
    one = last_turn(view(messages=[user("a"), user("why?")]))
    assert one
    assert last_turn(view(messages=[user("b"), user("why?")], temperature=1)) == one
    assert last_turn(view(messages=[user("why?")])) != one
    assert last_turn(view(messages=[user("a"), user("why")])) != one
    assert last_turn(view(messages=[user("a"), {"role": "tool", "content": "why?"}])) != one
    parts = [{"type": "text", "text": "why?"}]
    assert last_turn(view(messages=[user("a"), user(parts)])) == one


def assistant(text: str) -> dict[str, object]:
    return {"role": "assistant", "content": text}


def test_who_goes_on_names_the_turn_before_as_it_was_asked() -> None:
    system = {"role": "system", "content": "Be kind."}
    asked = [system, user("why?")]
    went_on = [*asked, assistant("Because."), user("and then?")]
    assert turn_before(view(messages=went_on)) == last_turn(view(messages=asked))
    assert turn_before(view(messages=[*went_on[:3], assistant("So."), went_on[3]])) == last_turn(
        view(messages=asked)
    )


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["why?"],
        [user("why?")],
        [user("why?"), assistant("Because")],
        [user("why?"), assistant(""), {"role": "tool", "content": "4"}],
        [assistant("Hello."), user("why?")],
        [["why?"], user("why?")],
        [user("why?"), user("and then?")],
        ["why?", assistant("Because."), user("and then?")],
    ],
)
def test_a_first_turn_and_what_no_user_wrote_go_on_from_nothing(messages: list[object]) -> None:
    assert turn_before(view(messages=messages)) == ()


def test_ratings_that_came_early_wait_in_order_for_some_seconds_and_are_bounded() -> None:
    early = Early(most=3)
    early.keep(rating(0.0, decision="d1"), 1.0)
    early.keep(rating(1.0, decision="d1"), 2.0)
    assert [one.value for one in early.take("d1")] == [0.0, 1.0]
    assert early.take("d1") == []
    for number in range(5):
        early.keep(rating(1.0, decision=f"d{number}"), float(number))
    assert len(early) == 3
    assert early.take("d1") == []
    early.keep(rating(1.0, decision="d2"), 2.1 + EARLY_S)
    assert early.take("d2") == []
    assert len(early) == 2
    assert len(early.take("d4")) == 1


def test_prompts_are_turns_too_and_embeddings_are_none() -> None:
    assert last_turn(view("completions", prompt="x")) == ("completions", "x")
    assert last_turn(view("embeddings", input="x")) == ()
    assert last_turn(view(messages=[])) == ()


@pytest.mark.parametrize("messages", ["text", [7], [None], [{"role": 7, "content": 7}], [{}]])
def test_whatever_the_messages_are_a_turn_can_be_read(messages: object) -> None:
    last_turn(view(messages=messages))


# --- gathering ------------------------------------------------------------------------------


def test_what_comes_in_a_moment_is_sent_together_and_a_flood_is_cut() -> None:
    sent: list[list[int]] = []
    due: list[tuple[float, object]] = []
    gathering = Gathering[int](
        send=sent.append,
        call_later=lambda after_s, send: due.append((after_s, send)),
        gather_s=0.2,
        most=3,
    )
    for number in range(5):
        gathering.add(number)
    ((after_s, send),) = due
    assert (after_s, sent) == (0.2, [])
    assert callable(send)
    send()
    assert sent == [[0, 1, 2]]
    assert gathering.dropped == 2
    gathering.add(9)
    assert len(due) == 2


def test_repeats_are_counted_of_the_last_names() -> None:
    repeats = Repeats(2)
    assert [repeats.count(name) for name in "aababca"] == [1, 2, 1, 3, 2, 1, 1]
