"""Sends one answer as server-sent events, at its pace and with its faults."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from switchboard_cli.fake_model import answers
from switchboard_cli.fake_model.engine import Pace
from switchboard_cli.fake_model.faults import Fault, Kind, Point
from switchboard_cli.fake_model.striking import Strikes, hold_or_cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The events of one stream as bytes: what comes first, one a token, what comes last."""

    opening: bytes
    tokens: Sequence[bytes]
    ending: bytes
    error: bytes  # what an error-event fault ends the stream with


class StreamOverError(Exception):
    """The stream has said its last, before its ending."""


class EventStream:
    """One stream being sent. Nothing is held back while it waits."""

    def __init__(
        self,
        response: web.StreamResponse,
        *,
        strikes: Strikes,
        pace: Pace,
        on_tokens: Callable[[int], None],
    ) -> None:
        """Send to a prepared response; `on_tokens` hears how many tokens went out."""
        self._response = response
        self._strikes = strikes
        self._pace = pace
        self._on_tokens = on_tokens
        self._pending: list[bytes] = []
        self._pending_tokens = 0

    async def send(self, events: Events, *, ttft_s: float) -> None:
        """Send everything; raise CutError or StreamOverError where a fault ends it."""
        for fault in self._strikes.due(Point.AFTER_HEADERS):
            await self._suffer(fault, events)
        if ttft_s:
            await asyncio.sleep(ttft_s)
        self._pending.append(events.opening)
        for fault in self._strikes.due(Point.BEFORE_FIRST_TOKEN):
            await self._suffer(fault, events)
        await self._send_tokens(events)
        self._pending.append(events.ending)
        await self._flush()

    async def _send_tokens(self, events: Events) -> None:
        """Send the tokens that are due together, and wait for the next.

        Waits go by the clock, so a late timer makes no slower stream.
        """
        count = len(events.tokens)
        clock = asyncio.get_running_loop().time
        now_s = due_s = clock()
        for sent, token in enumerate(events.tokens):
            await self._strike_after(sent, events)
            if due_s > now_s:
                await self._flush()
                await asyncio.sleep(due_s - now_s)
                now_s = clock()
            self._pending.append(token)
            self._pending_tokens += 1
            due_s += self._pace.token_s()
        await self._strike_after(count, events)

    async def _strike_after(self, sent: int, events: Events) -> None:
        if not self._strikes:
            return
        for fault in self._strikes.due_after(sent, of=len(events.tokens)):
            await self._suffer(fault, events)

    async def _suffer(self, fault: Fault, events: Events) -> None:
        await self._flush()
        if fault.kind is Kind.GARBAGE:
            await self._response.write(b"data: %b\n\n" % answers.GARBAGE)
        elif fault.kind is Kind.ERROR_EVENT:
            await self._response.write(events.error)
            raise StreamOverError
        else:
            await hold_or_cut(fault)

    async def _flush(self) -> None:
        """Send what is pending as one write."""
        if self._pending_tokens:
            self._on_tokens(self._pending_tokens)
            self._pending_tokens = 0
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            if data:
                await self._response.write(data)
