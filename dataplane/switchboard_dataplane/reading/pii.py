"""Finds personal data: typed, by shape, check digits and the words that stand next to it.

Names and postal addresses have no shape and are not found.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from switchboard_dataplane.reading.checksums import passes_mod_97
from switchboard_dataplane.reading.digits import Finding, find_numbers
from switchboard_dataplane.reading.identity_codes import CODES, SPACED_CODE
from switchboard_dataplane.reading.texts import Slice, is_in_word, plain_form, start_of

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

# What most texts do not have is looked for in the outline first: a search that begins with plain
# characters is several times as fast as one that begins with a class of them.
#: The check digits of an IBAN and what follows them: digits are rarer than letters.
_IBAN_DIGITS: Final = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9])[0-9][ \-]?[A-Za-z0-9]{4}")
_IBAN_OUTLINE: Final = re.compile(rb"00(?<=[Aa][Aa]00)(?<![Aa0_]..00)[ \-]?[Aa0]{4}")
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

_SPACED_OUTLINE: Final = b"A 00 00 00 A"
_SPACED: Final = re.compile(r"[0-9](?<=[A-Z] [0-9])[0-9] [0-9]{2} [0-9]{2} [A-D]")
#: Six digits before a letter, or before a sign and three digits; or three after a letter.
_CODE_OUTLINE: Final = re.compile(rb"000(?<!0000)(?:(?<=A000)0?A|0000*+[\-+]?(?:A|000))")
#: Letters and digits in one word, with a separator before the check where ids have one.
_CODE: Final = re.compile(
    r"[A-Z0-9](?<![A-Za-z0-9_][A-Z0-9])[A-Z0-9]{5,17}+(?:[\-+][A-Z0-9]{1,4}+)?"
)

#: From the last digit before the first dot on.
_IPV4_OUTLINE: Final = re.compile(rb"0\.00?0?\.00?0?\.00?0?(?![0.])")
_IPV4: Final = re.compile(r"(?<![\w.\-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])")
_OCTET_CHARS_MAX: Final = 3
_ZERO: Final = ord("0")
_IPV6_OUTLINE: Final = re.compile(rb":(?<=0[Aa0]{3}:)[Aa0]{0,4}:")
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
#: What those words end with, and what may follow them.
_VERSION_ENDS: Final = frozenset("vnedlrVNEDLR")
_VERSION_MARKS: Final = " :=#"
_VERSION_CHARS: Final = 16
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


class _Value(NamedTuple):
    """What is known by the words before it alone; it has so many digits at least."""

    kind: str
    written: re.Pattern[str]
    digits_min: int


#: A date may have fewer digits than others.
_DIGITS_MIN: Final = 5
_DATE_DIGITS_MIN: Final = 4
#: Each value, and the words or their beginnings that stand before it.
_MARKED: Final = tuple(
    (
        _Value(
            kind,
            re.compile(rf"(?<![^\W_])(?:{value})(?![^\W_])"),
            _DATE_DIGITS_MIN if kind == "date-of-birth" else _DIGITS_MIN,
        ),
        words.split("|"),
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
            "|driver's licence|driving licence|driving license|driving permit|drivers licence no"
            "|führerschein|permis de conduire"
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
_WHOLE: Final = frozenset({b"aba", b"born", b"cnh", b"d o b", b"dl", b"dob", b"geb ", b"mrn"})
#: How far after its words a value may begin.
_MARK_CHARS: Final = 40
_VALUE_CHARS: Final = 40


def _plain_words() -> dict[bytes, tuple[tuple[bytes, _Value], ...]]:
    """Return words of ASCII as they stand in ``Slice.plain``, by what they begin with."""
    words: dict[bytes, tuple[tuple[bytes, _Value], ...]] = {}
    for value, marks in _MARKED:
        for mark in filter(str.isascii, marks):
            start = start_of(mark)
            words[start] = (*words.get(start, ()), (plain_form(mark), value))
    return words


_PLAIN_WORDS: Final = _plain_words()
#: Words of other letters: what they begin with, their first word, their pattern in lower case.
_FOREIGN_WORDS: Final = tuple(
    (
        start_of(mark),
        mark.split(" ")[0],
        re.compile(r"[ !-/:-@\[-`{-~]".join(map(re.escape, mark.split(" ")))),
        value,
    )
    for value, marks in _MARKED
    for mark in marks
    if not mark.isascii()
)


def find_pii(piece: Slice) -> list[Finding]:
    """Return what begins in a piece; the text around it is looked at, never searched."""
    found: list[Finding] = []
    _find_emails(piece, found)
    if piece.outline.find(b"0", piece.start) < 0:
        # All the rest has digits.
        return found
    find_numbers(piece, found)
    _find_ibans(piece, found)
    _find_codes(piece, found)
    _find_ipv4(piece, found)
    _find_ipv6(piece, found)
    _find_marked_values(piece, found)
    return found


def _find_emails(piece: Slice, found: list[Finding]) -> None:
    text, end = piece.text, piece.end
    at = text.find("@", piece.start, end)
    while at >= 0:
        host = _HOST.match(text, at + 1, at + 1 + _HOST_CHARS_MAX)
        if host is not None and host[2].lower() not in _NO_TOP_LEVEL:
            before = text[max(0, at - _LOCAL_CHARS_MAX) : at]
            local = _LOCAL_TAIL.match(before[::-1])
            if local is not None:
                found.append(Finding("email", at - local.end(), host.end()))
        at = text.find("@", at + 1, end)


def _find_ibans(piece: Slice, found: list[Finding]) -> None:
    text, start = piece.text, piece.start
    if _IBAN_OUTLINE.search(piece.outline, start) is None:
        return
    for anchor in _IBAN_DIGITS.finditer(text, start):
        first = anchor.start() - 2
        if first >= piece.end:
            break
        size = _IBAN_SIZES.get(text[max(0, first) : anchor.start()].upper())
        if size is None or first < start or _joins(text, first - 1):
            continue
        whole = _IBAN.match(text, first)
        if whole is not None:
            letters = whole[0].replace(" ", "").replace("-", "")[:size]
            if len(letters) == size and passes_mod_97(letters):
                found.append(Finding("iban", first, whole.end()))


def _find_codes(piece: Slice, found: list[Finding]) -> None:
    text, start = piece.text, piece.start
    if _CODE_OUTLINE.search(piece.outline, start) is not None:
        for code in _CODE.finditer(text, start):
            first, last = code.span()
            if first >= piece.end:
                break
            if not _joins(text, last) and _is_code(code[0]):
                found.append(Finding("national-id", first, last))
    if piece.outline.find(_SPACED_OUTLINE, start) >= 0:
        for pairs in _SPACED.finditer(text, start):
            first = pairs.start() - len("AB ")
            if first >= piece.end:
                break
            whole = SPACED_CODE.match(text, first) if first >= start else None
            if whole is not None and not (_joins(text, first - 1) or _joins(text, whole.end())):
                found.append(Finding("national-id", *whole.span()))


def _is_code(body: str) -> bool:
    if body.isdigit() or body.isalpha():
        return False
    return any(shape.fullmatch(body) is not None and check(body) for shape, check in CODES)


def _joins(text: str, place: int) -> bool:
    """Whether the character there would make a longer word of what stands next to it."""
    if not 0 <= place < len(text):
        return False
    letter = text[place]
    return letter == "_" or (letter.isascii() and letter.isalnum())


def _find_ipv4(piece: Slice, found: list[Finding]) -> None:
    text, outline = piece.text, piece.outline
    for dotted in _IPV4_OUTLINE.finditer(outline, piece.start):
        first = last = dotted.start()
        while first > 0 and last - first < _OCTET_CHARS_MAX and outline[first - 1] == _ZERO:
            first -= 1
        if first >= piece.end:
            break
        address = _IPV4.match(text, first) if first >= piece.start else None
        if address is None or _joins(text, address.end()):
            continue
        if _is_somebodys(text, first, address[0]):
            found.append(Finding("ip-address", first, address.end()))


def _find_ipv6(piece: Slice, found: list[Finding]) -> None:
    text, start = piece.text, piece.start
    if _IPV6_OUTLINE.search(piece.outline, start) is None:
        return
    for address in _IPV6.finditer(text, start):
        first, last = address.span()
        if first >= piece.end:
            break
        if not _joins(text, last) and _is_somebodys(text, first, address[0].rstrip(":")):
            found.append(Finding("ip-address", first, last))


def _is_somebodys(text: str, first: int, written: str) -> bool:
    """Whether an address is a machine's on the internet: not private, not a version's number."""
    if _PRIVATE.match(written) is not None:
        return False
    if written in _RESOLVERS or _is_version(text, first):
        return False
    if _PUBLIC.fullmatch(written) is not None:
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(written)
    except ValueError:
        return False
    documented = written.startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8"))
    return documented or (address.is_global and not address.is_multicast)


def _is_version(text: str, first: int) -> bool:
    begin = max(0, first - _VERSION_CHARS)
    word = text[begin:first].rstrip(_VERSION_MARKS)
    return word[-1:] in _VERSION_ENDS and _VERSION.search(text, begin, first) is not None


def _find_marked_values(piece: Slice, found: list[Finding]) -> None:
    starts, plain = piece.starts, piece.plain
    for begins, words in _PLAIN_WORDS.items():
        if begins not in starts:
            continue
        for word, value in words:
            last = piece.end + len(word) - 1
            at = plain.find(word, piece.start, last)
            while at >= 0:
                after = at + len(word)
                longer = word in _WHOLE and is_in_word(plain, after)
                if not (longer or is_in_word(plain, at - 1)):
                    _find_value_after(piece, value, after, found)
                at = plain.find(word, after, last)
    if not piece.ascii:
        _find_foreign_values(piece, found)


def _find_foreign_values(piece: Slice, found: list[Finding]) -> None:
    starts, plain, lower = piece.starts, piece.plain, piece.lower
    for begins, stem, phrase, value in _FOREIGN_WORDS:
        last = piece.end + len(stem) - 1
        at = lower.find(stem, piece.start, last) if begins in starts else -1
        while at >= 0:
            said = phrase.match(lower, at)
            if said is not None and not is_in_word(plain, at - 1):
                _find_value_after(piece, value, said.end(), found)
            at = lower.find(stem, at + len(stem), last)


def _find_value_after(piece: Slice, value: _Value, after: int, found: list[Finding]) -> None:
    farthest = after + _MARK_CHARS
    if piece.outline.find(b"0", after, farthest) < 0:
        return
    lower = piece.lower
    said = value.written.search(lower, after, farthest + _VALUE_CHARS)
    while said is not None and sum(map(str.isdigit, said[0])) < value.digits_min:
        said = value.written.search(lower, said.end(), farthest + _VALUE_CHARS)
    if said is not None and said.start() <= farthest:
        found.append(Finding(value.kind, said.start(), said.end()))
