"""Pods keep decisions and ratings: each learns of its own, whichever of them a caller told."""

import asyncio
import logging
from random import Random

import msgspec
import pytest

from fakes.followers import FaultyReader
from fakes.learning_pods import AT, Pod, logged, running
from fakes.stores import OURS, SCOPE, STRANGER, MemoryRig
from switchboard_dataplane.learning import decision_log
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.journal import (
    RATINGS,
    RATINGS_GATHER_S,
    RATINGS_MAX,
    RATINGS_TOLD_MAX,
    TURNS,
)
from switchboard_dataplane.learning.ratings import Rating, quality_of
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_policy.store import Retention


async def test_a_rating_reaches_the_pod_that_decided_whoever_was_told(rig: MemoryRig) -> None:
    one, two, three = (Pod(name, rig.reader()) for name in ("one", "two", "three"))
    async with running(one, two, three):
        one.answer("d1")
        two.hear("d1", 0.25)
        await asyncio.sleep(1)
        assert one.learned == [("d1", "feedback", 0.25)]
        assert two.learned == three.learned == []
        await asyncio.sleep(2)
        kinds = [(type(said), getattr(said, "value", None)) for said in logged(rig)]
        assert kinds == [(Decided, None), (Rating, 0.25)], "each is logged once"


async def test_a_rating_of_a_decision_that_no_pod_remembers_is_logged_all_the_same(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.hear("d9", 1.0, comment="my name")
        await asyncio.sleep(2)
    (said,) = logged(rig)
    assert isinstance(said, Rating)
    assert (said.decision, said.comment) == ("d9", "")
    assert one.learned == two.learned == []


@pytest.mark.parametrize("texts", [False, True])
async def test_what_a_caller_writes_is_kept_by_the_pod_that_knows_whether_it_may(
    rig: MemoryRig, *, texts: bool
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1", texts=texts)
        two.hear("d1", 0.0, comment="my name")
        await asyncio.sleep(2)
    comments = [said.comment for said in logged(rig) if isinstance(said, Rating)]
    assert "".join(comments) == ("my name" if texts else "")


async def test_the_first_word_of_a_source_is_learned_and_all_are_logged(rig: MemoryRig) -> None:
    pod = Pod("one", rig.reader())
    async with running(pod):
        pod.answer("d1")
        for value in (1.0, 0.0):
            pod.hear("d1", value)
            await asyncio.sleep(1)
        pod.journal.rate("d1", 0.5, "judge")
        await asyncio.sleep(2)
    assert pod.learned == [("d1", "feedback", 1.0), ("d1", "judge", 0.5)]
    assert [said.value for said in logged(rig) if isinstance(said, Rating)] == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("told_twice", [False, True])
async def test_what_is_said_before_the_decision_is_taken_in_stays_in_its_order(
    rig: MemoryRig, *, told_twice: bool
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.hear("d1", 0.0)
        if told_twice:
            two.hear("d1", 0.5)
        await asyncio.sleep(0.05)
        one.answer("d1")
        await asyncio.sleep(0.01)
        one.hear("d1", 1.0)
        await asyncio.sleep(2)
        known = one.journal.recent.find("d1", asyncio.get_running_loop().time())
        assert known is not None
        said = [0.0, 0.5, 1.0] if told_twice else [0.0, 1.0]
        assert [rating.value for rating in known.ratings] == said
        assert quality_of(known.ratings) == 1.0
    assert one.learned == [("d1", "feedback", 0.0)]
    assert two.learned == []
    assert sorted(rating.value for rating in logged(rig) if isinstance(rating, Rating)) == said


async def test_a_rating_is_learned_though_its_decision_is_taken_in_after_the_word_of_it(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.hear("d1", 0.25)
        two.hear("d2", 0.5)
        await asyncio.sleep(RATINGS_GATHER_S * 2)
        one.answer("d1")
        one.answer("d2")
        assert one.learned == [("d1", "feedback", 0.25), ("d2", "feedback", 0.5)]
        assert len(one.journal.early) == 0


async def test_a_caller_that_rates_on_and_on_keeps_no_judge_out(rig: MemoryRig) -> None:
    pod = Pod("one", rig.reader())
    pod.answer("d1")
    for _ in range(RATINGS_MAX + 5):
        pod.hear("d1", 0.0)
    pod.journal.rate("d1", 1.0, "judge")
    assert pod.learned == [("d1", "feedback", 0.0), ("d1", "judge", 1.0)]
    assert pod.journal.counts["surplus"] == 5


async def test_a_word_that_is_heard_again_rates_nothing_twice(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1")
        two.hear("d1", 0.25)
        await asyncio.sleep(1)
        (word,) = [said for said in rig.store.pods(SCOPE).words.values() if said.topic == RATINGS]
        await rig.reader().share(word)
        await asyncio.sleep(1)
        known = one.journal.recent.find("d1", asyncio.get_running_loop().time())
        assert known is not None
        assert len(known.ratings) == 1


async def test_a_caller_that_rates_on_and_on_fills_neither_log_nor_words(rig: MemoryRig) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        one.answer("d1")
        for number in range(200):
            one.hear("d1", number / 200)
            two.hear("d1", number / 200)
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
    assert len(logged(rig)) <= 1 + 2 * RATINGS_MAX
    assert two.journal.counts["surplus"] == 200 - RATINGS_MAX
    assert one.journal.counts["surplus"] >= 200 - RATINGS_MAX
    assert rig.store.said < 200


async def test_a_flood_of_ratings_is_one_bounded_word_and_what_is_over_is_counted(
    rig: MemoryRig,
) -> None:
    one, two = Pod("one", rig.reader()), Pod("two", rig.reader())
    async with running(one, two):
        for number in range(RATINGS_TOLD_MAX + 50):
            one.hear(f"d{number}", 1.0)
        await asyncio.sleep(RATINGS_GATHER_S * 2)
        (word,) = [said for said in rig.store.pods(SCOPE).words.values() if said.topic == RATINGS]
        assert len(msgspec.json.decode(word.body)) == RATINGS_TOLD_MAX
        assert one.journal.counts["untold"] == 50


async def test_words_that_cannot_be_read_or_are_not_ours_change_nothing(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = Pod("one", rig.reader())
    loop = asyncio.get_running_loop()
    stranger = Sharing(
        rig.reader(), pod="x", keyring=lambda: STRANGER, clock=loop.time, random=Random(7)
    )
    friend = Sharing(rig.reader(), pod="y", keyring=lambda: OURS, clock=loop.time, random=Random(7))
    async with running(one):
        tasks = [asyncio.create_task(sharing.run()) for sharing in (stranger, friend)]
        one.answer("d1", turn=7)
        await asyncio.sleep(1)
        said = Rating(decision="d1", value=0.0, source="feedback", at=AT)
        stranger.tell(RATINGS, msgspec.json.encode([said]))
        stranger.tell(TURNS, b"\0" * 7 + b"\7" + b"\0" * 4)
        friend.tell(RATINGS, b"[" * 100_000)
        friend.tell(RATINGS, b'[{"kind":"rating"}]')
        friend.tell(TURNS, b"\0" * 13)
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert one.learned == []
    assert "cannot be read" in caplog.text


# --- the log --------------------------------------------------------------------------------


async def test_the_log_is_written_in_portions_and_kept_as_long_as_was_said(
    rig: MemoryRig,
) -> None:
    pod = Pod("one", rig.reader(), keep=Retention(entries=700, age_ms=60_000))
    async with running(pod):
        for number in range(1_200):
            pod.answer(f"d{number}")
        await asyncio.sleep(2)
    assert pod.journal.log.counts == {"written": 1_200, "dropped": 0}
    kept = [said.id for said in logged(rig) if isinstance(said, Decided)]
    assert kept == [f"d{number}" for number in range(500, 1_200)]


async def test_a_store_that_is_away_costs_the_oldest_entries_and_a_count(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "WAITING_MAX", 5)
    source = FaultyReader(rig.reader())
    pod = Pod("one", source)
    async with running(pod):
        source.cut = True
        for number in range(8):
            pod.answer(f"d{number}")
            await asyncio.sleep(1)
        assert pod.journal.log.counts == {"written": 0, "dropped": 3}
        source.cut = False
        await asyncio.sleep(30)
        assert pod.journal.log.counts == {"written": 5, "dropped": 3}
    kept = [said.id for said in logged(rig) if isinstance(said, Decided)]
    assert kept == [f"d{number}" for number in range(3, 8)]
    assert caplog.text.count("decisions are not logged") == 1


async def test_what_waits_is_bounded_in_bytes(
    rig: MemoryRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "WAITING_BYTES_MAX", 20_000)
    pod = Pod("one", rig.reader())
    for number in range(100):
        rating = Rating(
            decision=f"d{number}", value=1.0, source="judge", at=AT, comment="x" * 1_000
        )
        pod.journal.log.put(rating)
    assert 80 < pod.journal.log.counts["dropped"] < 95
    await pod.journal.log.flush(1.0)
    assert pod.journal.log.counts["written"] == 100 - pod.journal.log.counts["dropped"]


async def test_the_end_of_a_process_waits_for_no_store(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    source.cut = True
    pod = Pod("one", source)
    pod.answer("d1")
    await pod.journal.log.flush(1.0)
    assert pod.journal.log.counts == {"written": 0, "dropped": 1}
