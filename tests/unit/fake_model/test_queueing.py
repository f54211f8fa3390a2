"""The gate: who runs, who waits, and what happens to those who give up."""

import asyncio

import pytest

from switchboard_cli.fake_model.queueing import Gate


async def _enter_all(gate: Gate, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(gate.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_no_limit_lets_everyone_in() -> None:
    gate = Gate(0)
    await _enter_all(gate, 5)
    assert (gate.running, gate.waiting) == (5, 0)


async def test_those_over_the_limit_get_in_in_order() -> None:
    gate = Gate(1)
    first, second, third = await _enter_all(gate, 3)
    assert [task.done() for task in (first, second, third)] == [True, False, False]
    gate.leave()
    await asyncio.sleep(0)
    assert [task.done() for task in (first, second, third)] == [True, True, False]
    assert (gate.running, gate.waiting) == (1, 1)
    gate.leave()
    await third


async def test_one_who_gives_up_leaves_the_line() -> None:
    gate = Gate(1)
    _, second, third = await _enter_all(gate, 3)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.leave()
    await third
    assert (gate.running, gate.waiting) == (1, 0)


async def test_one_who_gives_up_as_it_is_let_in_passes_the_place_on() -> None:
    gate = Gate(1)
    _, second, third = await _enter_all(gate, 3)
    gate.leave()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await third
    assert (gate.running, gate.waiting) == (1, 0)


async def test_a_higher_limit_lets_waiters_in_at_once() -> None:
    gate = Gate(1)
    tasks = await _enter_all(gate, 4)
    gate.set_limit(3)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, True, False]
    gate.set_limit(0)
    await tasks[3]
