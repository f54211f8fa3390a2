"""Identity codes of states that mix letters and digits: their shapes and their check letters."""

# ruff: noqa: PLR2004

import re
from collections.abc import Callable
from typing import Final

from switchboard_dataplane.reading.checksums import is_day, weighted_sum
from switchboard_dataplane.reading.national_ids import is_resident_id

_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_MIXED: Final = "0123456789ABCDEFHJKLMNPRSTUVWXY"


def _dni(body: str) -> bool:
    number = body.replace("-", "").upper()
    number = {"X": "0", "Y": "1", "Z": "2"}.get(number[0], number[0]) + number[1:]
    return _LETTERS[int(number[:8]) % 23] == number[8]


_ODD_VALUES: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21),
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18),
            *(20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        ),
        strict=True,
    )
)


def _codice_fiscale(body: str) -> bool:
    total = 0
    for place, letter in enumerate(body[:15]):
        if place % 2 == 0:
            total += _ODD_VALUES[letter]
        else:
            total += int(letter) if letter.isdigit() else ord(letter) - ord("A")
    return chr(ord("A") + total % 26) == body[15]


def _nric(body: str) -> bool:
    total = weighted_sum(body[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if body[0] in "TG" else 0)
    table = "JZIHGFEDCBA" if body[0] in "ST" else "XWUTRQPNMLK"
    return table[total % 11] == body[8]


_CURP_VALUES: Final = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"


def _curp(body: str) -> bool:
    total = sum(_CURP_VALUES.index(one) * (18 - place) for place, one in enumerate(body[:17]))
    return is_day(0, int(body[6:8]), int(body[8:10])) and (10 - total % 10) % 10 == int(body[17])


def _pps(body: str) -> bool:
    total = weighted_sum(body[:7], (8, 7, 6, 5, 4, 3, 2))
    if len(body) == 9 and body[8] != "W":
        total += (ord(body[8]) - ord("A") + 1) * 9
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == body[7]


def _hetu(body: str) -> bool:
    number = int(body[:6] + body[7:10])
    return is_day(0, int(body[2:4]), int(body[:2])) and _MIXED[number % 31] == body[10]


def _always(body: str) -> bool:
    return bool(body)


#: Codes of letters and digits: the shape and the check. Upper case, as they are printed.
CODES: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = tuple(
    (re.compile(shape), check)
    for shape, check in (
        (r"[0-9XYZ][0-9]{7}-?[A-Z]", _dni),
        (r"[A-Z]{6}[0-9]{2}[A-EHLMPR-T][0-9]{2}[A-Z][0-9]{3}[A-Z]", _codice_fiscale),
        (r"[STFG][0-9]{7}[A-Z]", _nric),
        (r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]", _curp),
        (r"[0-9]{7}[A-W][A-IW]?", _pps),
        (r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]", _hetu),
        (r"[0-9]{17}X", is_resident_id),
        # India's PAN has no public check; its fourth letter names the kind of holder.
        (r"[A-Z]{3}[PCHABGJLFT][A-Z][0-9]{4}[A-Z]", _always),
        # The United Kingdom's national insurance number has none either.
        (r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]", _always),
    )
)

#: The same number as it is printed on letters: in pairs.
SPACED_CODE: Final = re.compile(
    r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]"
)
