"""Lets the faults of one request strike where they are due."""

import asyncio
from collections.abc import Mapping
from email.utils import formatdate

from switchboard_cli.fake_model import errors
from switchboard_cli.fake_model.faults import Fault, Kind, Point, RetryAfterForm

_MS_PER_S = 1000


class CutError(Exception):
    """The connection has to be cut here."""


class Strikes:
    """The faults that strike one request."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        """Hold them in the order in which they were given."""
        self._faults = faults

    def __bool__(self) -> bool:
        """Whether anything goes wrong at all."""
        return bool(self._faults)

    def have(self, kind: Kind) -> bool:
        """Return whether a fault of this kind strikes somewhere."""
        return any(fault.kind is kind for fault in self._faults)

    def due(self, point: Point) -> list[Fault]:
        """Return the faults that strike at a point."""
        return [fault for fault in self._faults if fault.at is point]

    def due_after(self, sent: int, *, of: int) -> list[Fault]:
        """Return the faults that strike after `sent` of all the tokens.

        One that is due after more tokens than there are strikes after the last.
        """
        return [
            fault for fault in self.due(Point.AFTER_TOKENS) if min(fault.after_tokens, of) == sent
        ]

    async def before_headers(self, now_s: float) -> None:
        """Strike before anything is sent; `now_s` is the time since 1970.

        Raises RefusedError with the error answer, or CutError.
        """
        for fault in self.due(Point.BEFORE_HEADERS):
            if fault.kind is Kind.STATUS:
                answer = errors.from_status(fault.status)
                raise errors.RefusedError(answer, _retry_after(fault, now_s))
            await hold_or_cut(fault)


async def hold_or_cut(fault: Fault) -> None:
    """Wait out a stall, raise CutError for a cut; other kinds do nothing here."""
    if fault.kind is Kind.CUT:
        raise CutError
    if fault.kind is Kind.STALL:
        if fault.stall_ms is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(fault.stall_ms / _MS_PER_S)


def _retry_after(fault: Fault, now_s: float) -> Mapping[str, str]:
    wait_s = fault.retry_after_s
    if wait_s is None:
        return {}
    match fault.retry_after_form:
        case RetryAfterForm.SECONDS:
            return {"Retry-After": f"{wait_s:g}"}
        case RetryAfterForm.DATE:
            return {"Retry-After": formatdate(now_s + wait_s, usegmt=True)}
        case RetryAfterForm.MILLISECONDS:
            return {"Retry-After-Ms": f"{wait_s * _MS_PER_S:.0f}"}
