"""What can go wrong on purpose: the faults, how they are written, and when one strikes."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from random import Random
from typing import Any, Self, cast


class FaultError(ValueError):
    """A fault that cannot be: the message names the field and what it takes."""


class Kind(StrEnum):
    """What goes wrong."""

    STATUS = "status"  # an error answer instead of the real one
    STALL = "stall"  # silence at a point of the answer
    CUT = "cut"  # the connection is closed at a point of the answer
    GARBAGE = "garbage"  # bytes that are not JSON
    ERROR_EVENT = "error-event"  # a 200 whose stream carries an error and ends
    REFUSAL = "refusal"  # finish_reason content_filter and a refusal text
    NO_DONE = "no-done"  # a stream without its [DONE]
    RESET = "reset"  # a new connection is reset before anything is read


class Point(StrEnum):
    """Where in an answer it goes wrong."""

    BEFORE_HEADERS = "before-headers"
    AFTER_HEADERS = "after-headers"
    BEFORE_FIRST_TOKEN = "before-first-token"  # the role chunk is out, no content is  # noqa: S105
    AFTER_TOKENS = "after-tokens"


class RetryAfterForm(StrEnum):
    """How a Retry-After is told."""

    SECONDS = "seconds"
    DATE = "date"
    MILLISECONDS = "milliseconds"  # the header retry-after-ms


# Kinds that strike at a point of the answer, and the point when none is named.
_DEFAULT_POINTS = {
    Kind.STATUS: Point.BEFORE_HEADERS,
    Kind.STALL: Point.BEFORE_HEADERS,
    Kind.CUT: Point.BEFORE_HEADERS,
    Kind.GARBAGE: Point.AFTER_HEADERS,
    Kind.ERROR_EVENT: Point.AFTER_HEADERS,
}
_ERROR_STATUSES = range(400, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, with its chance.

    It strikes a request with `probability`, at most `count` times (None: for ever). Several
    faults may strike the same request; those at the same point do so in the order given.
    """

    kind: Kind
    at: Point | None = None
    probability: float = 1.0
    count: int | None = None
    status: int = 500
    retry_after_s: float | None = None
    retry_after_form: RetryAfterForm = RetryAfterForm.SECONDS
    stall_ms: float | None = None  # None: for ever
    after_tokens: int = 0

    def __post_init__(self) -> None:
        """Fill in the kind's own point; raise FaultError for what cannot be."""
        if self.at is None:
            object.__setattr__(self, "at", _DEFAULT_POINTS.get(self.kind))
        elif self.kind not in _DEFAULT_POINTS:
            raise FaultError(f"at: a {self.kind} fault strikes at no point of the answer")
        if self.at is Point.BEFORE_HEADERS and self.kind in (Kind.GARBAGE, Kind.ERROR_EVENT):
            raise FaultError(f"at: a {self.kind} fault cannot strike before the headers")
        if self.at is not Point.BEFORE_HEADERS and self.kind is Kind.STATUS:
            raise FaultError("at: a status fault strikes before the headers")
        if not 0 <= self.probability <= 1:
            raise FaultError(f"probability: must be in 0..1, not {self.probability:g}")
        if self.status not in _ERROR_STATUSES:
            raise FaultError(f"status: must be in 400..599, not {self.status}")
        for name in ("count", "retry_after_s", "stall_ms", "after_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise FaultError(f"{name}: must be a finite number from 0, not {value:g}")

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read one fault from a JSON object; raise FaultError naming the field."""
        unknown = sorted(set(value) - set(FAULT_FIELDS))
        if unknown:
            raise FaultError(f"{unknown[0]}: no such field; a fault has {', '.join(FAULT_FIELDS)}")
        if "kind" not in value:
            raise FaultError(f"kind: must be given, one of {_choices(Kind)}")
        read = {name: _read_field(name, given) for name, given in value.items()}
        return cls(**cast("dict[str, Any]", read))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `KIND[:field=value,...]`, the form of the flag; raise FaultError."""
        kind, _, rest = text.partition(":")
        value: dict[str, object] = {"kind": kind.strip()}
        for part in filter(None, rest.split(",")):
            name, equals, given = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise FaultError(f"{name}: write field=value")
            value[name] = _number_or_text(given)
        return cls.from_json(value)

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON types."""
        return {name: getattr(self, name) for name in FAULT_FIELDS}


FAULT_FIELDS = tuple(field.name for field in fields(Fault))


def _choices(choice: type[StrEnum]) -> str:
    return ", ".join(choice)


def _number_or_text(text: str) -> object:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _read_field(name: str, given: object) -> object:
    """Read one field's JSON value."""
    enums: dict[str, type[StrEnum]] = {
        "kind": Kind,
        "at": Point,
        "retry_after_form": RetryAfterForm,
    }
    if name in enums:
        if name == "at" and given is None:
            return None
        try:
            return enums[name](str(given))
        except ValueError:
            message = f"{name}: must be one of {_choices(enums[name])}, not {given!r}"
            raise FaultError(message) from None
    if given is None and name in ("count", "retry_after_s", "stall_ms"):
        return None
    whole = name in ("count", "status", "after_tokens")
    if isinstance(given, bool) or not isinstance(given, int if whole else int | float):
        wanted = "a whole number" if whole else "a number"
        raise FaultError(f"{name}: must be {wanted}, not {given!r}")
    return given


class FaultDice:
    """The faults in force and how often each may still strike. Not for use by two threads."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        """Start with every fault at its full count."""
        self._chance = Random(seed)  # noqa: S311 - repeatable on purpose
        self._faults = faults
        self._left = [fault.count for fault in faults]
        self._resets = any(fault.kind is Kind.RESET for fault in faults)
        self.struck: Counter[str] = Counter()

    def roll(self) -> tuple[Fault, ...]:
        """Return the faults that strike the request at hand, and count them off."""
        if not self._faults:
            return ()
        return self._struck(resets=False)

    def roll_reset(self) -> bool:
        """Return whether the connection at hand is reset, and count it off."""
        return self._resets and bool(self._struck(resets=True))

    def to_json(self) -> list[dict[str, object]]:
        """Return the faults with `remaining`, how often each may still strike (None: for ever)."""
        pairs = zip(self._faults, self._left, strict=True)
        return [{**fault.to_json(), "remaining": left} for fault, left in pairs]

    def _struck(self, *, resets: bool) -> tuple[Fault, ...]:
        struck: list[Fault] = []
        for index, fault in enumerate(self._faults):
            left = self._left[index]
            if left == 0 or (fault.kind is Kind.RESET) != resets:
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            if left is not None:
                self._left[index] = left - 1
            self.struck[fault.kind.value] += 1
            struck.append(fault)
        return tuple(struck)
