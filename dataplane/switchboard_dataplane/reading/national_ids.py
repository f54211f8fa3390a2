"""Identity numbers of states: their shapes, their check digits, the words that stand before them.

A number whose check is weak (one in ten passes) counts only after one of its words, or in its
written shape.
"""

# ruff: noqa: PLR2004

import re
from collections.abc import Callable, Mapping
from typing import Final

from switchboard_dataplane.reading.checksums import (
    is_day,
    passes_luhn,
    passes_mod_11_10,
    passes_verhoeff,
    weighted_sum,
)


class NumberId:
    """An identity number made of digits.

    ``words``: what must stand before it where ``solid_needs_words`` (written without separators)
    or ``shape_needs_words`` (written in its own shape) say so.
    """

    def __init__(
        self,
        kind: str,
        check: Callable[[str], bool],
        *,
        words: str = "",
        solid_needs_words: bool = False,
        shape: str = "",
        shape_needs_words: bool = False,
    ) -> None:
        self.kind: Final = kind
        self.check: Final = check
        self.words: Final = re.compile(words) if words else None
        self.solid_needs_words: Final = solid_needs_words
        self.shape: Final = shape
        self.shape_needs_words: Final = shape_needs_words


def _social_security(digits: str) -> bool:
    """The United States' SSN (no 000, 666 or 9xx) or ITIN (9xx with a group of 50 and more)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if "0" * len(group) == group or serial == "0000" or digits in _ADVERTISED:
        return False
    if area[0] == "9":
        return group >= "50"
    return area not in {"000", "666"}


#: Printed in advertisements, and so nobody's.
_ADVERTISED: Final = frozenset({"078051120", "219099999"})


def _nhs(digits: str) -> bool:
    check = 11 - weighted_sum(digits[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return len(set(digits)) > 1 and (0 if check == 11 else check) == int(digits[9])


def _tfn(digits: str) -> bool:
    return weighted_sum(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0 and int(digits) > 0


def _bsn(digits: str) -> bool:
    return weighted_sum(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(digits) > 0


def _nif(digits: str) -> bool:
    rest = weighted_sum(digits[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return digits[0] != "0" and (0 if rest < 2 else 11 - rest) == int(digits[8])


def _luhn(digits: str) -> bool:
    return passes_luhn(digits) and len(set(digits)) > 1


def _steuer_id(digits: str) -> bool:
    # One digit of the first ten is there twice or three times, the others at most once.
    counts = max(map(digits[:10].count, digits[:10])), len(set(digits[:10]))
    return digits[0] != "0" and counts in {(2, 9), (3, 8)} and passes_mod_11_10(digits)


def _pesel(digits: str) -> bool:
    month = int(digits[2:4]) % 20
    if not is_day(0, month, int(digits[4:6])):
        return False
    total = weighted_sum(digits[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3))
    return (10 - total % 10) % 10 == int(digits[10])


def _rijksregister(digits: str) -> bool:
    if int(digits[2:4]) > 12 or int(digits[4:6]) > 31 or digits[6:9] in {"000", "999"}:
        return False
    number, check = int(digits[:9]), int(digits[9:])
    return check in {97 - number % 97, 97 - (2_000_000_000 + number) % 97}


def _fodselsnummer(digits: str) -> bool:
    if not is_day(0, int(digits[2:4]), int(digits[:2]) % 40):
        return False
    first = weighted_sum(digits[:10], (3, 7, 6, 1, 8, 9, 4, 5, 2, 1))
    second = weighted_sum(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1))
    return first % 11 == 0 and second % 11 == 0


def _cpf(digits: str) -> bool:
    if len(set(digits)) == 1:
        return False
    for size in (9, 10):
        rest = weighted_sum(digits[:size], tuple(range(size + 1, 1, -1))) * 10 % 11 % 10
        if rest != int(digits[size]):
            return False
    return True


def _kimlik(digits: str) -> bool:
    if digits[0] == "0":
        return False
    odd, even = sum(map(int, digits[0:9:2])), sum(map(int, digits[1:8:2]))
    return (odd * 7 - even) % 10 == int(digits[9]) and sum(map(int, digits[:10])) % 10 == int(
        digits[10]
    )


def _aadhaar(digits: str) -> bool:
    return digits[0] not in "01" and passes_verhoeff(digits)


def _my_number(digits: str) -> bool:
    rest = weighted_sum(digits, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest < 2 else 11 - rest) == int(digits[11]) and len(set(digits)) > 1


def _personnummer(digits: str) -> bool:
    short = digits[-10:]
    if len(digits) == 12 and digits[:2] not in {"18", "19", "20"}:
        return False
    day = int(short[4:6])
    return is_day(0, int(short[2:4]), day - 60 if day > 60 else day) and _luhn(short)


def _cpr(digits: str) -> bool:
    return is_day(0, int(digits[2:4]), int(digits[:2]))


def _rodne_cislo(digits: str) -> bool:
    month = int(digits[2:4]) % 50 % 20
    return is_day(0, month, int(digits[4:6])) and int(digits[:9]) % 11 % 10 == int(digits[9])


def _south_africa(digits: str) -> bool:
    return is_day(0, int(digits[2:4]), int(digits[4:6])) and digits[10] in "012" and _luhn(digits)


def _cnp(digits: str) -> bool:
    rest = weighted_sum(digits, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (
        is_day(0, int(digits[3:5]), int(digits[5:7]))
        and digits[0] != "0"
        and ((1 if rest == 10 else rest) == int(digits[12]))
    )


def _korea(digits: str) -> bool:
    if not is_day(0, int(digits[2:4]), int(digits[4:6])):
        return False
    total = weighted_sum(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5))
    return (11 - total % 11) % 10 == int(digits[12])


def _ahv(digits: str) -> bool:
    total = weighted_sum(digits, (1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3))
    return digits.startswith("756") and (10 - total % 10) % 10 == int(digits[12])


def _nir(digits: str) -> bool:
    month = int(digits[3:5])
    return (
        digits[0] in "1234"
        and (1 <= month <= 12 or 20 <= month <= 42)
        and (97 - int(digits[:13]) % 97 == int(digits[13:]))
    )


def is_resident_id(body: str) -> bool:
    """China's: seventeen digits and a check that may be an X."""
    if not is_day(int(body[6:10]), int(body[10:12]), int(body[12:14])):
        return False
    total = weighted_sum(body[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    return body[6:8] in {"18", "19", "20"} and "10X98765432"[total % 11] == body[17].upper()


_THREES: Final = r"[0-9]{3}([ -])[0-9]{3}\1[0-9]{3}"

#: By the count of digits.
NUMBERS: Final[Mapping[int, tuple[NumberId, ...]]] = {
    9: (
        NumberId(
            "ssn",
            _social_security,
            words=r"\bssn\b|social security|\bitin\b|\bss ?[#n]|taxpayer",
            solid_needs_words=True,
            shape=r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
        ),
        NumberId(
            "ssn",
            _social_security,
            words=r"\bssn\b|social security|\bitin\b|\bss ?[#n]|taxpayer",
            solid_needs_words=True,
            shape=r"[0-9]{3}([ .])[0-9]{2}\1[0-9]{4}",
            shape_needs_words=True,
        ),
        NumberId(
            "national-id",
            _luhn,
            words=r"\bsin\b|social insurance|assurance sociale|\bnas\b|zehut|israel\w* id",
            solid_needs_words=True,
            shape=_THREES,
            shape_needs_words=True,
        ),
        NumberId(
            "national-id",
            _bsn,
            words=r"\bbsn\b|burgerservice|sofinummer",
            solid_needs_words=True,
            shape=r"[0-9]{4}([ .])[0-9]{2}\1[0-9]{3}",
        ),
        NumberId(
            "national-id",
            _nif,
            words=r"\bnif\b|contribuinte",
            solid_needs_words=True,
            shape=_THREES,
            shape_needs_words=True,
        ),
        NumberId(
            "national-id",
            _tfn,
            words=r"\btfn\b|tax file",
            solid_needs_words=True,
            shape=_THREES,
            shape_needs_words=True,
        ),
    ),
    10: (
        NumberId(
            "national-id",
            _nhs,
            words=r"\bnhs\b|national health",
            solid_needs_words=True,
            shape=r"[0-9]{3}([ -])[0-9]{3}\1[0-9]{4}",
            shape_needs_words=True,
        ),
        NumberId(
            "national-id",
            _personnummer,
            words=r"person(?:nummer|nr)|samordningsnummer",
            solid_needs_words=True,
            shape=r"[0-9]{6}[-+][0-9]{4}",
        ),
        NumberId(
            "national-id",
            _cpr,
            words=r"\bcpr\b|personnummer",
            solid_needs_words=True,
            shape=r"[0-9]{6}-[0-9]{4}",
            shape_needs_words=True,
        ),
        NumberId(
            "national-id",
            _rodne_cislo,
            words=r"rodn[eé]",
            solid_needs_words=True,
            shape=r"[0-9]{6}/[0-9]{4}",
        ),
    ),
    11: (
        NumberId(
            "national-id",
            _steuer_id,
            words=r"steuer|\bidnr\b|tax id",
            solid_needs_words=True,
            shape=r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}",
        ),
        NumberId("national-id", _pesel),
        NumberId(
            "national-id", _rijksregister, shape=r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}"
        ),
        NumberId("national-id", _fodselsnummer, shape=r"[0-9]{6} [0-9]{5}"),
        NumberId("national-id", _cpf, shape=r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"),
        NumberId("national-id", _kimlik),
    ),
    12: (
        NumberId(
            "national-id",
            _aadhaar,
            words=r"aadha+r|uidai|आधार",
            solid_needs_words=True,
            shape=r"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}",
        ),
        NumberId(
            "national-id",
            _my_number,
            words=r"my ?number|マイナンバー|個人番号",
            solid_needs_words=True,
            shape=r"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}",
            shape_needs_words=True,
        ),
        NumberId("national-id", _personnummer, shape=r"[0-9]{8}[-+][0-9]{4}"),
    ),
    13: (
        NumberId("national-id", _south_africa, shape=r"[0-9]{6} [0-9]{4} [0-9]{3}"),
        NumberId("national-id", _cnp, words=r"\bcnp\b|cod numeric", solid_needs_words=True),
        NumberId(
            "national-id",
            _korea,
            words=r"주민|resident registration",
            solid_needs_words=True,
            shape=r"[0-9]{6}-[0-9]{7}",
        ),
        NumberId("national-id", _ahv, shape=r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}"),
    ),
    15: (
        NumberId(
            "national-id",
            _nir,
            shape=r"[1-4] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3} [0-9]{2}",
        ),
    ),
    18: (NumberId("national-id", is_resident_id),),
}
