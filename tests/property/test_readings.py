"""Readings of any text at all: they never raise, seams change nothing, time grows with length."""

# ruff: noqa: RUF001

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.personal_data import PERSONAL
from fakes.policies import view
from fakes.secret_texts import CREDENTIALS
from switchboard_dataplane.reading import digits, pii
from switchboard_dataplane.reading.code import has_code
from switchboard_dataplane.reading.digits import Finding
from switchboard_dataplane.reading.domains import DOMAINS, read_domain
from switchboard_dataplane.reading.identity_codes import CODES
from switchboard_dataplane.reading.injection import INJECTION_KINDS, find_injection
from switchboard_dataplane.reading.language import LANGUAGES, UNKNOWN, read_language
from switchboard_dataplane.reading.mood import is_urgent, read_sentiment
from switchboard_dataplane.reading.pii import PII_KINDS, find_pii
from switchboard_dataplane.reading.readings import READINGS, read
from switchboard_dataplane.reading.secrets import SECRET_KINDS, find_secrets
from switchboard_dataplane.reading.tasks import TASKS, read_task
from switchboard_dataplane.reading.texts import fold, slices, whole
from switchboard_dataplane.reading.turns import Turn

#: Text that is more likely to mean something to a scanner than chance is.
PIECES = st.sampled_from(
    [text for _, text in (*PERSONAL, *CREDENTIALS)]
    + [
        "@",
        ":",
        "1",
        " ",
        "-",
        ".",
        "\n",
        "AB",
        "eyJ",
        "sk-",
        "born ",
        "İ",
        "\u200b",
        "１",
        "{",
        "(",
    ]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=12).map("".join))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "messages", "data", "url", "audio"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _written(shape: re.Pattern[str]) -> st.SearchStrategy[str]:
    return st.from_regex(shape, fullmatch=True)


@given(text=TEXTS)
@settings(max_examples=200, deadline=None)
def test_no_text_makes_a_reading_raise(text: str) -> None:
    turn = Turn(text)

    assert read_task(turn) in TASKS
    assert read_domain(turn) in DOMAINS
    assert read_language(turn) in {*LANGUAGES, UNKNOWN}
    assert -1 <= read_sentiment(turn) <= 1
    assert has_code(turn) in {True, False}
    assert is_urgent(turn) in {True, False}
    for piece in (whole(text), *slices(text)):
        assert {finding.kind for finding in find_pii(piece)} <= PII_KINDS
        assert {finding.kind for finding in find_secrets(piece)} <= SECRET_KINDS
        assert {finding.kind for finding in find_injection(piece)} <= INJECTION_KINDS


@given(payload=st.dictionaries(st.sampled_from(["messages", "prompt", "tools", "x"]), VALUES))
@settings(max_examples=150, deadline=None)
def test_no_body_makes_a_reading_raise(payload: dict[str, Any]) -> None:
    assert set(read(READINGS, view(payload=payload))) == set(READINGS)


@given(system=TEXTS, asked=TEXTS, tools=TEXTS | st.none())
@settings(max_examples=150, deadline=None)
def test_asked_for_together_readings_say_what_each_says_alone(
    system: str, asked: str, tools: str | None
) -> None:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
    request = view(payload={"messages": messages, "tools": tools})
    scans = ("pii", "secrets", "injection")

    alone = {name: read([name], request)[name] for name in scans}
    assert read(scans, request) == alone


@given(code=st.sampled_from([shape for shape, _ in CODES]).flatmap(_written))
@settings(deadline=None)
def test_no_code_is_passed_over_for_its_outline(code: str) -> None:
    assert pii._CODE_OUTLINE.search(whole(f"x {code}").outline) is not None


@given(number=st.sampled_from([shape for shape, _ in digits._SHAPES]).flatmap(_written))
@settings(deadline=None)
def test_no_number_is_passed_over_for_its_outline(number: str) -> None:
    shapes = digits._Outlook(whole(number).outline).shapes

    assert all(one in shapes for one in digits._SHAPES if one[0].fullmatch(number))


@given(number=st.sampled_from([digits._CARD, digits._PHONE_SHAPES, digits._DATE]).flatmap(_written))
@settings(deadline=None)
def test_no_card_phone_or_date_is_passed_over_for_its_outline(number: str) -> None:
    outlook = digits._Outlook(whole(number).outline)

    assert outlook.card >= (digits._CARD.search(number) is not None)
    assert outlook.phone >= (digits._PHONE_SHAPES.search(number) is not None)
    assert outlook.date >= (digits._DATE.match(number) is not None)


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_findings_lie_in_their_text(text: str) -> None:
    for find in (find_pii, find_secrets, find_injection):
        for finding in find(whole(text)):
            assert 0 <= finding.start < finding.end <= len(text)


@given(text=TEXTS)
def test_folding_is_done_once(text: str) -> None:
    folded = fold(text)

    assert len(folded) <= len(text)
    assert fold(folded) == folded


@given(sample=st.sampled_from([*PERSONAL, *CREDENTIALS]), before=st.integers(16_300, 16_400))
@settings(max_examples=600, deadline=None)
def test_a_seam_hides_nothing(sample: tuple[str, str], before: int) -> None:
    kind, said = sample
    text = "." * (before - 1) + "\n" + said + "\n" + "." * 600
    find = find_pii if kind in PII_KINDS else find_secrets
    kinds = {finding.kind for piece in slices(text) for finding in find(piece)}

    assert kinds == {finding.kind for finding in find(whole(fold(said)))}


ADVERSARIAL = (
    "1",
    "1 ",
    "1-",
    "12.",
    "1.1.1.1 ",
    "4111 1111 1111 1111 ",
    "+1 555 ",
    "06 12 ",
    "AB12 ",
    "A1",
    "DE89 3704 0044 ",
    "ABCDEF",
    "@",
    "a@",
    "a.",
    "a@a.",
    "2001:",
    ":",
    "passport ",
    "born 1",
    "dob ",
    "account number 12 ",
    "sk-",
    "AKIA",
    "eyJ",
    "eyJa.",
    "password=",
    "key: ",
    "api_key",
    "token is ",
    "://:",
    "://a:",
    "bearer ",
    "-----BEGIN RSA ",
    "ignore ",
    "ignore all ",
    "ignore the of the ",
    "send a ",
    "](http",
    "repeat ",
    "<|",
    "select a,",
    "select ",
    "if (",
    "f(",
    "a.b(",
    "$",
    "\\x{",
    "\n",
    "\n    ",
    " ",
    "a, ",
    "a1",
    "不",
    "é",
    "１",
    "\u200b",
    "İ",
    "\U000e0041",
    "not bad ",
)


def _drain(find: Callable[[Any], Any]) -> Callable[[str], None]:
    def scan(text: str) -> None:
        for _ in find(whole(text)):
            pass

    return scan


def _turn(reader: Callable[[Turn], object]) -> Callable[[str], None]:
    def scan(text: str) -> None:
        reader(Turn(text, chars_max=len(text)))

    return scan


SCANNERS: dict[str, Callable[[str], None]] = {
    "pii": _drain(find_pii),
    "secrets": _drain(find_secrets),
    "injection": _drain(find_injection),
    "task": _turn(read_task),
    "domain": _turn(read_domain),
    "language": _turn(read_language),
    "sentiment": _turn(read_sentiment),
    "urgent": _turn(is_urgent),
    "code": _turn(has_code),
    "fold": lambda text: void(fold(text)),
}


def void(_: object) -> None:
    """Take a value and do nothing with it."""


def _took_ns(scan: Callable[[str], None], text: str) -> int:
    start = time.thread_time_ns()
    scan(text)
    return time.thread_time_ns() - start


def _growth(scan: Callable[[str], None], text: str, longer: str, tries: int) -> float:
    once = min(_took_ns(scan, text) for _ in range(tries))
    return min(_took_ns(scan, longer) for _ in range(tries)) / max(once, 1)


CHARS = 8_000
GROWTH_MAX = 8.0
"""Between that of a line, 4, and that of a square, 16."""
#: Below this the clock and the caches are what is measured.
MEASURABLE_NS = 300_000


@pytest.mark.parametrize("name", SCANNERS)
def test_four_times_the_text_takes_four_times_the_time(name: str) -> None:
    scan = SCANNERS[name]
    for unit in ADVERSARIAL:
        text = (unit * (CHARS // len(unit) + 1))[:CHARS]
        longer = (unit * (4 * CHARS // len(unit) + 1))[: 4 * CHARS]
        if _took_ns(scan, longer) < MEASURABLE_NS:
            continue
        # A neighbour on the machine can slow one measurement, hardly a row of them.
        growth = _growth(scan, text, longer, 2)
        if growth > GROWTH_MAX:
            growth = min(growth, _growth(scan, text, longer, 15))
        assert growth <= GROWTH_MAX, f"{unit!r} takes {growth:.1f} times as long"


def test_a_finding_is_a_place_and_a_kind() -> None:
    assert Finding._fields == ("kind", "start", "end")
