"""The end: in order, and with a last word for everybody."""

import asyncio
import time

from switchboard_dataplane.lifecycle import GRACE_STEP_S, LiveRequests, shut_down


async def test_nobody_is_waited_for_where_nobody_is() -> None:
    steps: list[str] = []
    live = LiveRequests()

    async def stop_listening() -> None:
        assert live.closing
        steps.append("stopped")

    cut_off = await shut_down(live, stop_listening=stop_listening, grace_s=0, drain_s=60)
    assert (cut_off, steps, live.expired) == (0, ["stopped"], False)


async def test_a_machine_that_stands_still_does_not_use_up_the_grace() -> None:
    loop, stopped_at = asyncio.get_running_loop(), list[float]()

    async def stop_listening() -> None:
        stopped_at.append(loop.time())

    began = loop.time()
    loop.call_soon(time.sleep, 2 * GRACE_STEP_S)
    await shut_down(
        LiveRequests(), stop_listening=stop_listening, grace_s=2 * GRACE_STEP_S, drain_s=60
    )
    # All but the step in which it stood still.
    assert stopped_at[0] - began > 2.9 * GRACE_STEP_S


async def test_live_requests_end_by_themselves_within_the_drain() -> None:
    live, go_on = LiveRequests(), asyncio.Event()

    async def request() -> None:
        live.enter(asyncio.current_task())
        try:
            await go_on.wait()
        finally:
            live.leave(asyncio.current_task())

    running = asyncio.create_task(request())
    await asyncio.sleep(0)
    draining = asyncio.create_task(live.drain(60))
    await asyncio.sleep(0)
    go_on.set()
    assert await draining == 0
    assert not live.expired
    await running


async def test_what_stays_is_cancelled_and_may_say_a_last_word() -> None:
    live, said = LiveRequests(), list[bool]()

    async def request() -> None:
        live.enter(asyncio.current_task())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append(live.expired)
        finally:
            live.leave(asyncio.current_task())

    running = asyncio.create_task(request())
    await asyncio.sleep(0)
    assert await live.drain(0) == 1
    assert said == [True]
    await running
    assert len(live) == 0
