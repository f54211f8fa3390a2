"""The check digits of cards, accounts and identity numbers. All take digits as a string."""

from operator import mul
from typing import Final

#: Sums over bytes are several times as fast as those over what each letter of a text says.
_VALUES: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))

# Tables of no fixed length: compiled code copies others at every use.
_DIHEDRAL: Final[tuple[tuple[int, ...], ...]] = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_PERMUTED: Final[tuple[tuple[int, ...], ...]] = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)
_DAYS: Final[tuple[int, ...]] = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1: payment cards, Canada's SIN, Sweden's and South Africa's numbers."""
    values = _values(digits)
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED))) % 10 == 0


def passes_verhoeff(digits: str) -> bool:
    """Verhoeff's dihedral check: India's Aadhaar."""
    state = 0
    for place, value in enumerate(_values(digits[::-1])):
        state = _DIHEDRAL[state][_PERMUTED[place % 8][value]]
    return state == 0


def passes_mod_97(account: str) -> bool:
    """ISO 13616: an IBAN without separators, in any case."""
    turned = account[4:] + account[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def passes_mod_11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10: Germany's tax id."""
    product = 10
    for value in _values(digits[:-1]):
        total = (value + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def weighted_sum(digits: str, weights: tuple[int, ...]) -> int:
    """Return the sum of digits times weights, as far as both go."""
    return sum(map(mul, _values(digits), weights))


def is_day(year: int, month: int, day: int) -> bool:
    """Say whether such a day can be; the 29th of February always can."""
    return 1 <= month <= len(_DAYS) and 1 <= day <= _DAYS[month - 1] and year >= 0


def _values(digits: str) -> bytes:
    return digits.encode("ascii").translate(_VALUES)
