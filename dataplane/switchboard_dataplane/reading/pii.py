"""Finds personal data: typed, by shape, check digits and the words that stand next to it.

Names and postal addresses have no shape and are not found.
"""

# ruff: noqa: RUF001

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from switchboard_dataplane.reading.checksums import passes_mod_97
from switchboard_dataplane.reading.digits import Finding, find_numbers
from switchboard_dataplane.reading.identity_codes import CODES, SPACED_CODE
from switchboard_dataplane.reading.texts import Slice, plain_form, start_of

#: Every kind that is found; ``unscanned`` stands for what no scan can read.
PII_KINDS: Final = frozenset(
    {"bank-account", "card", "date-of-birth", "driver-license", "email", "iban", "ip-address"}
    | {"medical-record", "national-id", "passport", "phone", "ssn", "unscanned"}
)

#: Read backwards from the @: what stands before it does not end with a dot.
_LOCAL_TAIL: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~\-][\w.!#$%&'*+/=?^`{|}~\-]{0,63}")
_HOST: Final = re.compile(r"((?:[\w\-]{1,63}\.){1,8})([^\W\d_]{2,24}|xn--[a-zA-Z0-9\-]{2,59})")
_LOCAL_CHARS_MAX: Final = 64
_HOST_CHARS_MAX: Final = 254
#: After an @ these are no mail domains: handles of files and packages.
_NO_TOP_LEVEL: Final = frozenset({"gif", "jpeg", "jpg", "js", "json", "png", "svg", "ts", "webp"})

# A pattern that begins with one class of characters, not with a repeat, is found ten times as fast.
#: The check digits of an IBAN and what follows them: digits are rarer than letters.
_IBAN_DIGITS: Final = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9])[0-9][ \-]?[A-Za-z0-9]{4}")
_IBAN: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ \-]?[A-Za-z0-9]){11,30}+")
_IBAN_SIZES: Final = {
    country: size
    for size, countries in {
        15: "NO",
        16: "BE BI",
        18: "DK FO FI GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "HR LV LI CH",
        22: "BH BG CR GE DE IE ME RS GB VA",
        23: "GI IQ IL OM AE TL SO",
        24: "AD CZ MD PK RO SA SK ES SE TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "FR GR IT MR MC SM DJ",
        28: "AL AZ BY CY DO SV GT HU LB NI PL",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_SPACED: Final = re.compile(r"[0-9](?<=[A-Z] [0-9])[0-9] [0-9]{2} [0-9]{2} [A-D]")
#: Letters and digits in one word, with a separator before the check where ids have one.
_CODE: Final = re.compile(
    r"[A-Z0-9](?<![A-Za-z0-9_][A-Z0-9])[A-Z0-9]{5,17}+(?:[\-+][A-Z0-9]{1,4}+)?"
)

#: Dots or colons that an address has at least.
_MARKS_MIN: Final = 2
_IPV4: Final = re.compile(r"[0-9](?<![\w.\-][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9.])")
_IPV6: Final = re.compile(
    r"[23](?<![\w.\-][23])[0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{0,4}"
)
#: The commonest addresses that are nobody's, without a parser.
_PRIVATE: Final = re.compile(
    r"(?:0|10|127|22[4-9]|2[3-5][0-9]|169\.254|172\.(?:1[6-9]|2[0-9]|3[01])|192\.168)\."
)
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#: Those that begin like no reserved network, without a parser too.
_PUBLIC: Final = re.compile(
    r"(?!(?:0|10|100|127|169|172|192|198|203|22[4-9]|2[3-5][0-9])\.)"
    rf"{_OCTET}(?:\.{_OCTET}){{3}}"
)
_VERSION: Final = re.compile(
    r"(?:\bv|version|release|build|firmware|kernel|section|chapter|clause|oid)[ :=#]{0,3}\Z",
    re.IGNORECASE,
)
_RESOLVERS: Final = frozenset({"1.0.0.1", "1.1.1.1", "8.8.4.4", "8.8.8.8", "9.9.9.9"})

_MONTHS: Final = (
    r"(?:jan|feb|fév|mar|mär|mrz|mär|apr|avr|abr|may|mai|maj|mei|mag|jun|juin|giu|jul|juil|lug|aug"
    r"|août|ago|sep|set|oct|okt|out|ott|nov|dec|déc|dez|dic|янв|фев|мар|апр|мая|июн|июл|авг|сен|окт"
    r"|ноя|дек)[^\W\d_]{0,7}"
)
_FULL_DATE: Final = (
    r"(?:[0-3]?[0-9][./\-][01]?[0-9][./\-](?:[12][0-9])?[0-9]{2}"
    r"|[01]?[0-9][./\-][0-3]?[0-9][./\-](?:[12][0-9])?[0-9]{2}"
    r"|(?:18|19|20)[0-9]{2}[./\-][01]?[0-9][./\-][0-3]?[0-9]"
    rf"|[0-3]?[0-9](?:st|nd|rd|th|er|\.|º)?(?: of| de)?[ \-]{_MONTHS}\.?,?(?: de| del)?[ \-]"
    r"(?:18|19|20)[0-9]{2}"
    rf"|{_MONTHS}\.? [0-3]?[0-9](?:st|nd|rd|th)?,? (?:18|19|20)[0-9]{{2}}"
    r"|(?:18|19|20)[0-9]{2} ?[年년] ?[01]?[0-9] ?[月월] ?[0-3]?[0-9] ?[日일])"
)


#: What is known by the words before it alone: the kind, the value, the words or their beginnings.
_MARKED: Final = tuple(
    (
        kind,
        re.compile(rf"(?<![^\W_])(?:{value})(?![^\W_])"),
        tuple((plain_form(word), start_of(word)) for word in words.split("|")),
    )
    for kind, value, words in (
        (
            "date-of-birth",
            _FULL_DATE,
            "born|birth|dob|d.o.b|geboren|geburt|geb.|naissance|né le|née le|nacid|nacimi|nasciment"
            "|nascid|nato il|nata il|nascita|geboorte|född|født|urodz|рожд|родил|出生|生年月日"
            "|생년월일",
        ),
        (
            "passport",
            r"(?=[a-z]{0,9}[0-9])[a-z0-9]{6,12}|[0-9]{2,3} ?[0-9]{2,3} ?[0-9]{3,6}",
            "passport|reisepass|passeport|pasaporte|passaporto|passaporte|paspoort|paszport|паспорт"
            "|护照|護照|旅券|여권",
        ),
        (
            "driver-license",
            r"(?=[a-z]{0,6}[\- ]?[0-9])[a-z0-9]{1,16}(?:[ \-][a-z0-9]{1,9}){0,4}",
            "driver license|driver licence|drivers license|drivers licence|driver's license"
            "|driver's licence|driver’s license|driver’s licence|driving licence|driving license"
            "|driving permit|drivers licence no|führerschein|permis de conduire"
            "|licencia de conducir|permiso de conducir|patente di guida|cnh|rijbewijs|dl|驾驶证"
            "|運転免許",
        ),
        (
            "bank-account",
            r"[0-9]{2}(?:[ \-]?[0-9]){4,15}",
            "account number|account no|account num|accountnumber|acct|sort code|routing|kontonummer"
            "|kontonr|bankleitzahl|numéro de compte|número de cuenta|numero di conto|aba"
            "|rekeningnummer",
        ),
        (
            "medical-record",
            r"(?=[a-z\-]{0,5}[0-9])[a-z0-9]{1,6}(?:[ \-]?[a-z0-9]{2,7}){0,4}",
            "mrn|medical record|patient id|patient number|patient no|patientennummer"
            "|krankenversichert|medicare number|medicare no|medicare id|medicare card"
            "|health card|health insurance number|health insurance no",
        ),
    )
)
#: Words that are nothing but a beginning of others when a letter follows.
_WHOLE: Final = frozenset({"aba", "born", "cnh", "d o b", "dl", "dob", "geb ", "mrn"})
#: A value has so many digits; a date may have fewer.
_DIGITS_MIN: Final = 5
_DATE_DIGITS_MIN: Final = 4
_DIGIT: Final = re.compile("[0-9]")
#: How far after its words a value may begin.
_MARK_CHARS: Final = 40
_VALUE_CHARS: Final = 40


def find_pii(piece: Slice) -> Iterator[Finding]:
    """Yield what begins in a piece; the text around it is looked at, never searched."""
    text, start, end = piece.text, piece.start, piece.end
    yield from _emails(text, start, end)
    if _DIGIT.search(text, start) is None:
        # All the rest has digits.
        return
    yield from find_numbers(text, start, end)
    yield from _ibans(text, start, end)
    yield from _codes(text, start, end)
    yield from _addresses(text, start, end)
    yield from _marked_values(piece)


def _emails(text: str, start: int, end: int) -> Iterator[Finding]:
    at = text.find("@", start, end)
    while at >= 0:
        host = _HOST.match(text, at + 1, at + 1 + _HOST_CHARS_MAX)
        if host is not None and host[2].lower() not in _NO_TOP_LEVEL:
            before = text[max(0, at - _LOCAL_CHARS_MAX) : at]
            local = _LOCAL_TAIL.match(before[::-1])
            if local is not None:
                yield Finding("email", at - local.end(), host.end())
        at = text.find("@", at + 1, end)


def _ibans(text: str, start: int, end: int) -> Iterator[Finding]:
    for anchor in _IBAN_DIGITS.finditer(text, start):
        first = anchor.start() - 2
        if first >= end:
            break
        size = _IBAN_SIZES.get(text[max(0, first) : anchor.start()].upper())
        if size is None or first < start or _joins(text, first - 1):
            continue
        whole = _IBAN.match(text, first)
        if whole is not None:
            letters = whole[0].replace(" ", "").replace("-", "")[:size]
            if len(letters) == size and passes_mod_97(letters):
                yield Finding("iban", first, whole.end())


def _codes(text: str, start: int, end: int) -> Iterator[Finding]:
    for found in _CODE.finditer(text, start):
        first, last = found.span()
        if first >= end:
            break
        body = found[0]
        if body.isdigit() or body.isalpha() or _joins(text, last):
            continue
        if any(shape.fullmatch(body) is not None and check(body) for shape, check in CODES):
            yield Finding("national-id", first, last)
    for pairs in _SPACED.finditer(text, start):
        first = pairs.start() - len("AB ")
        if first >= end:
            break
        whole = SPACED_CODE.match(text, first) if first >= start else None
        if whole is not None and not (_joins(text, first - 1) or _joins(text, whole.end())):
            yield Finding("national-id", *whole.span())


def _joins(text: str, place: int) -> bool:
    """Whether the character there would make a longer word of what stands next to it."""
    if not 0 <= place < len(text):
        return False
    letter = text[place]
    return letter == "_" or (letter.isascii() and letter.isalnum())


def _addresses(text: str, start: int, end: int) -> Iterator[Finding]:
    for pattern, mark in ((_IPV4, "."), (_IPV6, ":")):
        if text.count(mark, start) < _MARKS_MIN:
            continue
        for found in pattern.finditer(text, start):
            first, last = found.span()
            if first >= end:
                break
            if not _joins(text, last) and _is_somebodys(text, first, found[0].rstrip(":")):
                yield Finding("ip-address", first, last)


def _is_somebodys(text: str, first: int, written: str) -> bool:
    """Whether an address is a machine's on the internet: not private, not a version's number."""
    if _PRIVATE.match(written) is not None:
        return False
    if written in _RESOLVERS or _VERSION.search(text, max(0, first - 16), first) is not None:
        return False
    if _PUBLIC.fullmatch(written) is not None:
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(written)
    except ValueError:
        return False
    documented = written.startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8"))
    return documented or (address.is_global and not address.is_multicast)


def _marked_values(piece: Slice) -> Iterator[Finding]:
    starts = piece.starts
    for kind, value, words in _MARKED:
        for word, begins in words:
            if starts is not None and begins not in starts:
                continue
            plain, last = piece.plain, piece.end + len(word) - 1
            at = plain.find(word, piece.start, last)
            while at >= 0:
                after = at + len(word)
                joined = _joins(plain, at - 1) or (word in _WHOLE and _joins(plain, after))
                least = _DATE_DIGITS_MIN if kind == "date-of-birth" else _DIGITS_MIN
                found = None if joined else _value_after(piece.lower, value, after, least)
                if found is not None:
                    yield Finding(kind, *found.span())
                at = plain.find(word, after, last)


def _value_after(
    lower: str, value: re.Pattern[str], after: int, digits_min: int
) -> re.Match[str] | None:
    farthest = after + _MARK_CHARS
    if _DIGIT.search(lower, after, farthest) is None:
        return None
    found = value.search(lower, after, farthest + _VALUE_CHARS)
    while found is not None and sum(map(str.isdigit, found[0])) < digits_min:
        found = value.search(lower, found.end(), farthest + _VALUE_CHARS)
    return found if found is not None and found.start() <= farthest else None
