"""What counts as personal data, and how much of the table of sentences is told right."""

from ipaddress import ip_address

import pytest

from fakes.personal_data import PERSONAL, PLAIN
from switchboard_dataplane.reading.pii import PII_KINDS, find_pii
from switchboard_dataplane.reading.texts import Slice, slices, whole

PRECISION_MIN = 0.97
RECALL_MIN = 0.97


def kinds(text: str) -> set[str]:
    return {finding.kind for piece in slices(text) for finding in find_pii(piece)}


def test_the_table_is_told_right() -> None:
    missed = [text for kind, text in PERSONAL if kind not in kinds(text)]
    false = [text for text in PLAIN if kinds(text)]
    found = len(PERSONAL) - len(missed)

    assert len(PERSONAL) >= 150
    assert len(PLAIN) >= 150
    assert found / len(PERSONAL) >= RECALL_MIN, missed
    assert found / (found + len(false)) >= PRECISION_MIN, false


def test_every_kind_has_sentences_in_the_table() -> None:
    assert {kind for kind, _ in PERSONAL} == PII_KINDS - {"unscanned"}


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("to jane.doe@example.com.", "email", "jane.doe@example.com"),
        ("ring +44 20 7946 0958 now", "phone", "+44 20 7946 0958"),
        ("on 4111 1111 1111 1111 12/26", "card", "4111 1111 1111 1111"),
        ("SSN 123-45-6789!", "ssn", "123-45-6789"),
        ("born 12 May 1985.", "date-of-birth", "12 May 1985"),
        ("at 81.2.69.142:22", "ip-address", "81.2.69.142"),
    ],
)
def test_a_finding_says_where_it_is(text: str, kind: str, found: str) -> None:
    (finding,) = find_pii(whole(text))

    assert (finding.kind, text[finding.start : finding.end]) == (kind, found)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("DE89370400440532013000", "DE89370400440532013001"),
        ("44051401359", "44051401358"),
        ("529.982.247-25", "529.982.247-26"),
        ("12345678Z", "12345678A"),
        ("756.9217.0769.85", "756.9217.0769.86"),
        ("RSSMRA85T10A562S", "RSSMRA85T10A562T"),
        ("BSN 111222333", "BSN 111222334"),
        ("131052-308T", "131052-308U"),
    ],
)
def test_a_wrong_check_digit_is_no_finding(right: str, wrong: str) -> None:
    assert kinds(right)
    assert not kinds(wrong)


@pytest.mark.parametrize("text", ["046454286", "536904399", "943 476 5918", "12345678 views"])
def test_a_number_with_a_weak_check_needs_its_words(text: str) -> None:
    assert "national-id" not in kinds(text)
    assert "ssn" not in kinds(text)


def test_a_finding_across_a_seam_is_found_once() -> None:
    text = "see jane@example.com for more"
    pieces = [Slice(text, 0, 6), Slice(text, 6, 9), Slice(text, 9, len(text))]

    assert [finding.kind for piece in pieces for finding in find_pii(piece)] == ["email"]


@pytest.mark.parametrize("place", range(16_384 - 30, 16_384 + 4))
def test_a_card_is_found_wherever_the_seam_is(place: int) -> None:
    text = "x " * (place // 2) + " 4111 1111 1111 1111 " + "y " * 900

    assert kinds(text) == {"card"}


def test_rows_of_numbers_are_not_personal() -> None:
    rows = "\n".join(f"{row},2024-01-15 10:22:{row % 60:02},{row * 7919},0.5" for row in range(999))

    assert kinds(rows) == set()


def test_an_address_counts_as_somebodys_where_it_is_global() -> None:
    documented = ("192.0.2.", "198.51.100.", "203.0.113.")
    for first in range(300):
        for rest in ("0.0.9", "64.0.9", "2.256.1", "18.7.07", "31.196.3", "168.2.1", "255.255.9"):
            written = f"{first}.{rest}"
            try:
                address = ip_address(written)
            except ValueError:
                expected = False
            else:
                expected = address.is_global and not address.is_multicast
            expected = expected or written.startswith(documented)
            assert ("ip-address" in kinds(f"from {written} at noon")) == expected, written


def test_a_number_of_a_state_is_found_however_its_groups_are_kept_apart() -> None:
    for ssn in ("123-45-6789", "123 45 6789", "123.45.6789"):
        assert "ssn" in kinds(f"my SSN: {ssn}, thanks"), ssn
    assert "ssn" not in kinds("my SSN: 123-456-789, thanks")


@pytest.mark.parametrize("mark", ["'", "\u2019", "\u2018", "\xb4"])
def test_words_are_known_whatever_mark_is_in_them(mark: str) -> None:
    assert "driver-license" in kinds(f"driver{mark}s license: D1234567")


@pytest.mark.parametrize("number", ["52 34 56 78", "5234567"])
def test_a_word_glued_to_a_number_says_what_it_is(number: str) -> None:
    assert kinds(f"{number}phone") <= kinds(f"{number} phone") == {"phone"}
