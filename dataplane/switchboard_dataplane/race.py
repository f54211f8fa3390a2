"""Attempts of one request that are under way at the same time: the first content wins."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from switchboard_dataplane.decision.verdict import Candidate, Tried
from switchboard_dataplane.signals.endpoints import EndpointSignal
from switchboard_dataplane.upstream.attempt import StreamedAnswer, WholeAnswer

if TYPE_CHECKING:
    from switchboard_dataplane.telemetry.tracing import AttemptSpan
    from switchboard_dataplane.upstream.bound import Bound

#: Attempts of a request that may be under way at a time.
RUNS_MAX: Final = 2

_ANY_OK: Final = range(200, 300)

Answer = WholeAnswer | StreamedAnswer
#: Why an attempt began while another was under way: that one's firstToken was over, or a hedge.
BegunBy = Literal["", "raced", "hedged"]


class Lost(Exception):
    """Another attempt's content came first."""


class Run:
    """One attempt on its way; times are the event loop's.

    ``begun_by`` is "" for one that began alone. ``late`` says that its firstToken is over, ``lost``
    that another's content came first. ``bound`` ends it; ``patience`` is the time of what is done
    next about its silence.
    """

    def __init__(
        self, candidate: Candidate, signal: EndpointSignal, began_at: float, begun_by: BegunBy = ""
    ) -> None:
        self.candidate: Final = candidate
        self.signal: Final = signal
        self.began_at: Final = began_at
        self.begun_by: Final = begun_by
        self.late = False
        self.lost = False
        self.bound: Bound | None = None
        self.patience: Bound | None = None
        self.span: AttemptSpan | None = None

    def give_up(self) -> None:
        """End it at once, its connection too."""
        if self.bound is not None:
            self.bound.expire()

    def stop(self) -> None:
        """It is over: its times are nobody's any more."""
        if self.bound is not None:
            self.bound.stop()
        if self.patience is not None:
            self.patience.stop()


class Race:
    """The attempts of a request that are not over, oldest first.

    ``first`` is the one that another has joined. ``won`` is the one whose content came first, with
    its answer. ``held`` is one that was answered with the caller's own error, which is told if no
    other brings content.
    """

    __slots__ = ("_tasks", "first", "held", "runs", "won")

    def __init__(self, first: Run) -> None:
        self.first = first
        self.runs = [first]
        self.won: tuple[Run, Answer] | None = None
        self.held: tuple[Run, Answer] | None = None
        self._tasks: list[asyncio.Task[Answer | None]] = []

    def join(self, run: Run, task: asyncio.Task[Answer | None]) -> None:
        """Take in an attempt that begins now."""
        self.runs.append(run)
        self._tasks.append(task)

    def leave(self, run: Run) -> None:
        """Take in that an attempt is over."""
        if run in self.runs:
            self.runs.remove(run)

    def finish(self, run: Run, answer: Answer) -> bool:
        """Take in an answer; say whether it counts, which one that came too late does not."""
        if self.won is not None or run.lost:
            return False
        others = self.beside(run)
        if others and self.held is None and answer.status not in _ANY_OK:
            self.held = run, answer
        else:
            self.won = run, answer
            _lose(others)
        return True

    def concede(self) -> None:
        """Those that are under way have had their time: the answer that is held is told."""
        if self.won is None and self.held is not None:
            self.won = self.held
            _lose(self.beside(self.held[0]))

    def beside(self, run: Run) -> list[Run]:
        """Return the other attempts that are still under way."""
        held = None if self.held is None else self.held[0]
        return [one for one in self.runs if one is not run and one is not held]

    async def settled(self) -> tuple[Run, Answer] | None:
        """Wait until all are over but the one that won; return it, None where none did."""
        await self._over()
        won = self.won or self.held
        for task in self._tasks:
            defect = None if task.cancelled() else task.exception()
            if won is None and defect is not None:
                raise defect
        return won

    async def cancel(self) -> None:
        """End all attempts that run in tasks of their own."""
        for task in self._tasks:
            task.cancel()
        await self._over()
        for task in self._tasks:
            if not task.cancelled():
                # The request ends by something else; nobody is left to hear of this.
                task.exception()

    async def _over(self) -> None:
        # One that is over may have begun another.
        while under_way := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)


def tried_so_far(runs: Sequence[Run]) -> list[Tried]:
    """Return attempts that are under way as a decision sees them."""
    return [Tried(run.candidate, failure="timeout" if run.late else "") for run in runs]


def _lose(runs: Sequence[Run]) -> None:
    for run in runs:
        run.lost = True
        run.give_up()
