"""The hints that a caller gives in ``x-switchboard-*`` headers."""

import re
from collections.abc import Mapping
from typing import Final

from switchboard_dataplane.errors import InvalidRequest
from switchboard_policy.names import (
    HEADER_DEADLINE_MS,
    HEADER_PRIORITY,
    HEADER_SESSION,
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

_TAG: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/:=-]*[A-Za-z0-9])?")
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
_SIGNED: Final = re.compile(r"[-+]?[0-9]{1,3}")


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
