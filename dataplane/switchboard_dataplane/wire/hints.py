"""The hints that a caller gives in ``x-switchboard-*`` headers."""

import re
from collections.abc import Mapping
from typing import Final

from switchboard_dataplane.errors import InvalidRequest
from switchboard_policy.names import (
    HEADER_DEADLINE_MS,
    HEADER_LABELS,
    HEADER_LATENCY_CLASS,
    HEADER_MIN_QUALITY,
    HEADER_PRIORITY,
    HEADER_ROLE,
    HEADER_SESSION,
    HEADER_STAGE,
    HEADER_TAGS,
)

#: Bounds what rules and guardrails have to look through.
TAGS_MAX: Final = 32
TAG_CHARS_MAX: Final = 63
SESSION_CHARS_MAX: Final = 256
#: An hour; more is a slip of the pen.
DEADLINE_MS_MAX: Final = 3_600_000
#: Priorities are compared; nobody has more kinds of requests than these tell apart.
PRIORITY_MAX: Final = 100
LABELS_MAX: Final = 16

LATENCY_CLASSES: Final = ("interactive", "batch")

_TAG: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/:=-]*[A-Za-z0-9])?")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_SIGNED: Final = re.compile(r"[-+]?[0-9]{1,3}")
_SHARE: Final = re.compile(r"0?\.[0-9]{1,6}|[01]|1\.0{1,6}")
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,12}(?:\.[0-9]{1,6})?")
_NO_LABELS: Final[Mapping[str, float]] = {}


def read_session(headers: Mapping[str, str]) -> str:
    """Return the session, "" without one; raises InvalidRequest naming the header."""
    session = headers.get(HEADER_SESSION, "")
    if len(session) > SESSION_CHARS_MAX:
        raise InvalidRequest(
            f"{HEADER_SESSION} has {len(session)} characters; "
            f"send an identifier of at most {SESSION_CHARS_MAX}",
            param=HEADER_SESSION,
        )
    return session


def read_tags(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tags; raises InvalidRequest naming the header."""
    value = headers.get(HEADER_TAGS)
    if value is None:
        return ()
    tags = tuple(tag for part in value.split(",") if (tag := part.strip()))
    if len(tags) > TAGS_MAX:
        raise InvalidRequest(
            f"{HEADER_TAGS} has {len(tags)} tags; send at most {TAGS_MAX}", param=HEADER_TAGS
        )
    for tag in tags:
        if len(tag) > TAG_CHARS_MAX or _TAG.fullmatch(tag) is None:
            raise InvalidRequest(
                f"{HEADER_TAGS} has the tag {tag[: 2 * TAG_CHARS_MAX]!r}; a tag is at most "
                f"{TAG_CHARS_MAX} letters, digits and . _ / : = - and begins and ends with a "
                "letter or digit; separate tags by commas",
                param=HEADER_TAGS,
            )
    return tags


def read_deadline(headers: Mapping[str, str]) -> int | None:
    """Return the caller's deadline in ms, None without one; raises InvalidRequest."""
    value = headers.get(HEADER_DEADLINE_MS)
    if value is None:
        return None
    if _DIGITS.fullmatch(value.strip()) is not None:
        deadline_ms = int(value)
        if 1 <= deadline_ms <= DEADLINE_MS_MAX:
            return deadline_ms
    raise InvalidRequest(
        f"{HEADER_DEADLINE_MS} is {value[:40]!r}; send a whole number of milliseconds "
        f"in 1..{DEADLINE_MS_MAX}",
        param=HEADER_DEADLINE_MS,
    )


def read_priority(headers: Mapping[str, str]) -> int:
    """Return the priority, 0 without one; raises InvalidRequest."""
    value = headers.get(HEADER_PRIORITY)
    if value is None:
        return 0
    if _SIGNED.fullmatch(value.strip()) is not None:
        priority = int(value)
        if -PRIORITY_MAX <= priority <= PRIORITY_MAX:
            return priority
    raise InvalidRequest(
        f"{HEADER_PRIORITY} is {value[:40]!r}; send a whole number in {-PRIORITY_MAX}.."
        f"{PRIORITY_MAX}; those below 0 give way first",
        param=HEADER_PRIORITY,
    )


def read_role(headers: Mapping[str, str]) -> str:
    """Return the agent's role, "" without one; raises InvalidRequest."""
    return _read_word(headers, HEADER_ROLE)


def read_stage(headers: Mapping[str, str]) -> str:
    """Return the stage of the agent's work, "" without one; raises InvalidRequest."""
    return _read_word(headers, HEADER_STAGE)


def read_latency_class(headers: Mapping[str, str]) -> str:
    """Return one of LATENCY_CLASSES, the first without one; raises InvalidRequest."""
    value = headers.get(HEADER_LATENCY_CLASS)
    if value is None:
        return LATENCY_CLASSES[0]
    if (said := value.strip()) in LATENCY_CLASSES:
        return said
    raise InvalidRequest(
        f"{HEADER_LATENCY_CLASS} is {value[:40]!r}; send {' or '.join(LATENCY_CLASSES)}",
        param=HEADER_LATENCY_CLASS,
    )


def read_min_quality(headers: Mapping[str, str]) -> float:
    """Return the quality that the caller asks for, 0 without one; raises InvalidRequest."""
    value = headers.get(HEADER_MIN_QUALITY)
    if value is None:
        return 0.0
    if _SHARE.fullmatch(said := value.strip()) is not None:
        return float(said)
    raise InvalidRequest(
        f"{HEADER_MIN_QUALITY} is {value[:40]!r}; send a number from 0 to 1, such as 0.7",
        param=HEADER_MIN_QUALITY,
    )


def read_labels(headers: Mapping[str, str]) -> Mapping[str, float]:
    """Return the caller's numbers by name; raises InvalidRequest."""
    value = headers.get(HEADER_LABELS)
    if value is None:
        return _NO_LABELS
    labels: dict[str, float] = {}
    for part in value.split(","):
        name, _, number = part.strip().partition("=")
        if not name and not number:
            continue
        known = len(name) <= TAG_CHARS_MAX and _TAG.fullmatch(name) is not None
        if not known or _NUMBER.fullmatch(number) is None:
            raise InvalidRequest(
                f"{HEADER_LABELS} has {part.strip()[: 2 * TAG_CHARS_MAX]!r}; write name=number, "
                "such as value=3.5, and separate them by commas",
                param=HEADER_LABELS,
            )
        labels[name] = float(number)
    if len(labels) > LABELS_MAX:
        raise InvalidRequest(
            f"{HEADER_LABELS} has {len(labels)} labels; send at most {LABELS_MAX}",
            param=HEADER_LABELS,
        )
    return labels


def _read_word(headers: Mapping[str, str], header: str) -> str:
    value = headers.get(header)
    if value is None:
        return ""
    word = value.strip()
    if len(word) <= TAG_CHARS_MAX and _TAG.fullmatch(word) is not None:
        return word
    raise InvalidRequest(
        f"{header} is {value[: 2 * TAG_CHARS_MAX]!r}; send one word of at most {TAG_CHARS_MAX} "
        "letters, digits and . _ / : = - that begins and ends with a letter or digit",
        param=header,
    )
