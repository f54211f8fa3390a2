"""The check digits of cards, accounts and identity numbers. All take digits as a string."""

# ruff: noqa: PLR2004

from typing import Final

_ODD_SUM: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_DIHEDRAL: Final = (
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
_PERMUTED: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)


def passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1: payment cards, Canada's SIN, Sweden's and South Africa's numbers."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _ODD_SUM[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def passes_verhoeff(digits: str) -> bool:
    """Verhoeff's dihedral check: India's Aadhaar."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = _DIHEDRAL[state][_PERMUTED[place % 8][int(digit)]]
    return state == 0


def passes_mod_97(account: str) -> bool:
    """ISO 13616: an IBAN without separators, in any case."""
    turned = account[4:] + account[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def passes_mod_11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10: Germany's tax id."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def weighted_sum(digits: str, weights: tuple[int, ...]) -> int:
    """Return the sum of digits times weights, as far as both go."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def is_day(year: int, month: int, day: int) -> bool:
    """Say whether such a day can be; the 29th of February always can."""
    return (
        1 <= month <= 12
        and 1 <= day <= (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
        and year >= 0
    )
