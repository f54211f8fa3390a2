"""An event loop whose clock jumps to the next timer when nothing else is to do.

Code under test sleeps and times out as ever, and the test takes no time. What goes to a thread
(``asyncio.to_thread``) is done at once instead, so a test is the same each time.

Over sockets between parts of one process it works as well: what was written has arrived when there
is nothing else to do, or does within the blink that ``SocketTimeLoop`` really waits for it: the
longer, the further its clock is to jump.
"""

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

#: How long a loop with sockets really waits for them before its clock jumps, at least and at most,
#: and for each second that it jumps.
BLINK_S: Final = 0.0001
BLINK_MAX_S: Final = 0.02
BLINK_SHARE: Final = 0.005


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, blink_s: float) -> None:
        super().__init__()
        self.now_s = 1000.0
        self._blink_s = blink_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(timeout)
        ready = super().select(0)
        if not ready and self._blink_s:
            # Not the selector's own waiting: it knows no less than a millisecond.
            time.sleep(self._blink_s)
            ready = super().select(min(timeout * BLINK_SHARE, BLINK_MAX_S) // 0.001 * 0.001)
        if not ready and timeout > 0:
            # A little more, or rounding may leave the timer a hair's breadth away for ever.
            self.now_s += timeout + 1e-9
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop of its own time; ``time()`` is the clock to hand to the code under test."""

    def __init__(self, blink_s: float = 0.0) -> None:
        self._jumping = _JumpingSelector(blink_s)
        super().__init__(self._jumping)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future

    def time(self) -> float:
        return self._jumping.now_s


class SocketTimeLoop(VirtualTimeLoop):
    """A loop of its own time for parts that talk to each other over sockets."""

    def __init__(self) -> None:
        super().__init__(BLINK_S)


def now_s() -> float:
    """The time of the loop that runs, which may be one whose clock jumps."""
    return asyncio.get_running_loop().time()


async def eventually(
    there: Callable[[], object], *, within_s: float = 30.0, every_s: float = 0.005
) -> None:
    """Wait until ``there`` is true; fails after ``within_s`` of the loop's time."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not there():
        assert loop.time() < until_s, f"not within {within_s} s"
        await asyncio.sleep(every_s)


async def until(
    there: Callable[[], Awaitable[object]], *, within_s: float = 30.0, every_s: float = 0.005
) -> None:
    """Wait until what ``there`` returns, awaited, is true; as ``eventually``."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not await there():
        assert loop.time() < until_s, f"not within {within_s} s"
        await asyncio.sleep(every_s)
