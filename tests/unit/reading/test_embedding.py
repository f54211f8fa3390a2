"""Where a text stands among others by what it is about."""

import msgspec
import numpy as np
import pytest

from switchboard_dataplane.reading.embedding import (
    FORMAT,
    Embedder,
    Table,
    TableRefused,
    decode_table,
    shipped_embedder,
)


def table(**changes: object) -> Table:
    vectors = np.array([[10, 0], [0, 10], [10, 10]], np.int8).tobytes()
    return msgspec.structs.replace(
        Table(FORMAT, ("cat", "un"), ("dog",), 2, 0.01, vectors), **changes
    )


def test_a_text_stands_in_the_middle_of_its_words() -> None:
    embedder = Embedder(table())
    assert embedder.embed("cat un").tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_capitals_do_not_move_a_text() -> None:
    embedder = Embedder(table())
    assert embedder.embed("CAT").tolist() == embedder.embed("cat").tolist()


def test_an_unknown_word_is_cut_into_the_pieces_that_are_known() -> None:
    embedder = Embedder(table())
    assert embedder.embed("undog").tolist() == pytest.approx((np.array([1, 2]) / 5**0.5).tolist())


def test_a_piece_that_goes_on_begins_no_word() -> None:
    assert Embedder(table()).embed("dog").tolist() == [0.0, 0.0]


def test_a_text_without_known_words_is_at_the_origin() -> None:
    assert Embedder(table()).embed("??").tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"dimensions": 0},
        {"dimensions": 3},
        {"starts": (), "ends": ()},
        {"vectors": b""},
        {"scale": 0.0},
        {"scale": float("nan")},
    ],
)
def test_a_table_that_does_not_add_up_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TableRefused):
        decode_table(msgspec.msgpack.encode(table(**changes)))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"[]"])
def test_bytes_that_are_no_table_are_refused(data: bytes) -> None:
    with pytest.raises(TableRefused):
        decode_table(data)


def test_the_table_that_ships_knows_what_is_alike() -> None:
    embedder = shipped_embedder()

    def alike(one: str, other: str) -> float:
        return float(embedder.embed(one) @ embedder.embed(other))

    asked = "I want my money back for the purchase"
    assert alike("refund my order please", asked) > 0.4
    assert alike("write a function in python", asked) < 0.2


def test_every_vector_has_length_one() -> None:
    vector = shipped_embedder().embed("How do I cancel my subscription?")
    assert float(vector @ vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "text", ["Cat_dog, un7cat!\n7", "undog\x1funcat\x7fCAT 77", "un-cat's 1_7"]
)
def test_a_text_in_ascii_stands_where_it_would_beside_a_letter_that_is_not(text: str) -> None:
    vectors = np.array([[10, 0], [0, 10], [3, 7], [10, 10]], np.int8).tobytes()
    embedder = Embedder(table(starts=("cat", "un", "7"), vectors=vectors))
    assert embedder.embed(text).tolist() == embedder.embed(f"{text} é").tolist()
