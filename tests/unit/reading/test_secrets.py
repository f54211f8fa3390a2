"""What counts as a credential, and what only looks like one."""

import pytest

from fakes.secret_texts import CREDENTIALS, NO_CREDENTIALS
from switchboard_dataplane.reading.secrets import SECRET_KINDS, chance_bits, find_secrets
from switchboard_dataplane.reading.texts import SLICE_CHARS, slices, whole

RECALL_MIN = 0.97
PRECISION_MIN = 0.97


def kinds(text: str) -> set[str]:
    return {finding.kind for piece in slices(text) for finding in find_secrets(piece)}


def test_the_table_is_told_right() -> None:
    missed = [text for kind, text in CREDENTIALS if kind not in kinds(text)]
    false = [text for text in NO_CREDENTIALS if kinds(text)]
    found = len(CREDENTIALS) - len(missed)

    assert found / len(CREDENTIALS) >= RECALL_MIN, missed
    assert found / (found + len(false)) >= PRECISION_MIN, false


def test_the_kinds_of_the_table_are_kinds() -> None:
    assert {kind for kind, _ in CREDENTIALS} <= SECRET_KINDS


@pytest.mark.parametrize("text", [text for _, text in CREDENTIALS if "\n" not in text])
def test_a_credential_is_found_in_the_middle_of_a_text(text: str) -> None:
    assert kinds(f"Here is the file:\n\n{text}\n\nDoes it look right?")


def test_a_prefix_in_the_middle_of_a_word_is_no_key() -> None:
    assert kinds("AKIAQWERTYUIOPASDFGH") == {"aws"}
    assert kinds("xAKIAQWERTYUIOPASDFGH") == set()


def test_a_key_across_a_seam_is_found() -> None:
    key = "gh" + "p_" + "a1B2c3D4e5F6" * 3
    text = "x " * (SLICE_CHARS // 2 - 9) + key + " y" * 900

    assert kinds(text) == {"github"}


def test_a_finding_does_not_hold_what_was_found() -> None:
    (finding,) = find_secrets(whole("password = 'Tr0ub4dor&3'"))

    assert finding._fields == ("kind", "start", "end")


def test_chance_is_measured_in_bits_a_character() -> None:
    assert chance_bits("") == 0.0
    assert chance_bits("aaaa") == 0.0
    assert chance_bits("abababab") == 1.0
    assert chance_bits("0123456789abcdef") == 4.0
