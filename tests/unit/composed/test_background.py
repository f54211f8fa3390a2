"""What is done after an answer is bounded, and does not outlive the data plane."""

import asyncio
import logging

import pytest

from switchboard_dataplane.composed.background import Background


async def test_what_finds_no_room_is_dropped_and_counted() -> None:
    background, go = Background(tasks_max=2), asyncio.Event()

    async def wait() -> None:
        await go.wait()

    assert [background.begin(wait) for _ in range(4)] == [True, True, False, False]
    assert (len(background), background.dropped) == (2, 2)
    go.set()
    await asyncio.sleep(1)
    assert len(background) == 0
    assert background.begin(wait)


async def test_the_end_waits_a_while_and_then_for_no_more() -> None:
    background, ended = Background(), list[str]()

    async def work(name: str, takes_s: float) -> None:
        try:
            await asyncio.sleep(takes_s)
            ended.append(name)
        except asyncio.CancelledError:
            ended.append(f"{name} cancelled")
            raise

    background.begin(lambda: work("quick", 1.0))
    background.begin(lambda: work("slow", 100.0))
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    await background.close(2.0)
    assert ended == ["quick", "slow cancelled"]
    assert loop.time() - began_at == pytest.approx(2.0)
    assert len(background) == 0


async def test_a_task_that_fails_is_logged_and_nobody_elses_loss(
    caplog: pytest.LogCaptureFixture,
) -> None:
    background = Background()

    async def fail() -> None:
        raise ZeroDivisionError("a defect")

    with caplog.at_level(logging.ERROR):
        background.begin(fail)
        await asyncio.sleep(1)
    assert "a defect" in caplog.text
    assert len(background) == 0


async def test_a_place_is_kept_for_what_begins_later_and_given_back_once() -> None:
    background, ended = Background(tasks_max=1), list[str]()

    async def work() -> None:
        ended.append("done")

    place = background.reserve()
    assert place is not None
    assert (background.reserve(), background.begin(work), background.dropped) == (None, False, 2)
    assert place.begin(work)
    await asyncio.sleep(1)
    place.leave()
    assert ended == ["done"]
    assert [background.begin(work), background.begin(work)] == [True, False]
    await background.close(1.0)


async def test_a_place_is_worth_nothing_when_all_is_over() -> None:
    background = Background()
    place = background.reserve()
    await background.close(1.0)
    assert place is not None

    async def never() -> None:
        raise AssertionError("nobody runs it")

    assert (place.begin(never), background.dropped) == (False, 1)
