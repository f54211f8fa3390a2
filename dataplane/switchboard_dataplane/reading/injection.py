"""Finds marks of prompt injection: phrases and tricks that try to override an instruction.

A mark is a reason to look closer or to route with care. It is no proof, and their absence proves
nothing: an attacker who knows the list writes around it.
"""

import re
from collections.abc import Iterator
from typing import Final

from switchboard_dataplane.reading.digits import Finding
from switchboard_dataplane.reading.texts import Slice, is_in_word, start_of

INJECTION_KINDS: Final = frozenset(
    {"exfiltration", "hidden-text", "jailbreak", "override", "prompt-leak", "template"}
)

_GAP: Final = r"[\s\"'*_:,.\-]{1,4}"
_FILL: Final = (
    r"(?:(?:all|any|every|each|of|the|these|those|this|that|your|my|our|previously|previous|prior"
    r"|earlier|above|preceding|former|foregoing|existing|initial|original|given|past|last|other|and"
    rf"|or|what|everything|anything|you|were|was|have|been|has){_GAP}){{0,8}}"
)
_TARGET: Final = (
    r"(?:instruct|prompt|rule|guideline|direction|directive|polic|context|message|command|restrict"
    r"|constraint|training|programming|told|said|filter|safety|guardrail|limitation|above|before)"
)


def _phrases(
    kind: str, *pairs: tuple[str, str]
) -> tuple[tuple[str, str, bytes, re.Pattern[str]], ...]:
    return tuple((kind, anchor, start_of(anchor), re.compile(pattern)) for anchor, pattern in pairs)


#: The kind, a plain string that must be there, and the pattern that begins with it.
_PHRASES: Final = (
    *_phrases(
        "override",
        *(
            (verb, rf"{verb}(?:e|es|ed|s|ing|ding)?{_GAP}{_FILL}{_TARGET}")
            for verb in (
                "ignor",
                "disregard",
                "forget",
                "overrid",
                "bypass",
                "discard",
                "neglect",
                "do not follow",
                "don't follow",
                "stop following",
                "do not obey",
            )
        ),
        ("new instructions", rf"new instructions?{_GAP}(?:are|is|follow|from|below|:)?"),
        ("your new", r"your new (?:task|role|job|goal|objective|instruction|purpose)s? (?:is|are)"),
        ("instead of following", r"instead of following"),
        (
            "ignoriere",
            r"ignoriere?n?(?: sie)?(?: alle)?(?: \w{1,12}){0,2} (?:anweisung|vorgabe|regel)",
        ),
        ("ignore", r"ignore[zr]?(?: \w{1,8}){0,3} (?:instructions|consignes|règles)"),
        ("ignora", r"ignora(?: \w{1,12}){0,4} (?:instruc|istruzion|instruç|reglas|regole|regras)"),
        ("忽略", r"忽略.{0,12}(?:指令|指示|提示|规则)"),
        ("無視", r"(?<=を)無視"),
        ("игнорируй", r"игнорируй(?:те)?(?: \w{1,16}){0,4} (?:инструкц|указани|правил)"),
    ),
    *_phrases(
        "prompt-leak",
        ("system prompt", r"system prompt"),
        (
            "your instructions",
            r"(?<=reveal )your instructions|(?<=show me )your instructions"
            r"|(?<=print )your instructions|(?<=repeat )your instructions"
            r"|(?<=what are )your instructions",
        ),
        ("your initial", r"your initial (?:prompt|instructions|message)"),
        ("your original", r"your original (?:prompt|instructions)"),
        ("repeat", r"repeat (?:the |all |every)?(?:words|text|everything) above"),
        ("hidden prompt", r"hidden prompt"),
        ("words above", r"words above starting with"),
    ),
    *_phrases(
        "jailbreak",
        ("do anything now", r"do anything now"),
        ("you are dan", r"you are dan\b"),
        ("dan mode", r"dan mode"),
        ("developer mode", r"developer mode (?:enabled|on|activated|output)"),
        ("jailbr", r"jailbr(?:eak|oken)"),
        ("without any restriction", r"without any restriction"),
        ("no restrictions", r"no restrictions (?:or|and|whatsoever)"),
        ("unfiltered", r"unfiltered (?:ai|response|answer|assistant|mode)"),
        ("no ethical", r"no ethical (?:guideline|limit|restrict|constraint)"),
        ("pretend you", r"pretend (?:that )?you (?:have no|are not|can|aren't)"),
        ("evil", r"evil (?:ai|assistant|confidant|mode|twin)\b"),
        ("god mode", r"god mode"),
        ("stay in character", r"stay in character (?:at all|no matter|even)"),
        ("not bound by", r"not bound by"),
    ),
    *_phrases(
        "exfiltration",
        ("](http", r"\]\(https?://[^\s)]{1,400}[?&=/](?:[a-z_]{1,20}=)?(?:\{|\[|%7b|<|\$\{)"),
        ("send", r"send (?:\w{1,12} ){0,6}(?:to|via) https?://"),
        ("exfiltrat", r"exfiltrat"),
        ("post", r"post (?:\w{1,12} ){0,6}to https?://"),
    ),
    *_phrases(
        "template",
        (
            "<|",
            r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id|end)\|>",
        ),
        ("[inst]", r"\[inst\]"),
        ("[/inst]", r"\[/inst\]"),
        ("<<sys>>", r"<<sys>>"),
        ("<start_of_turn>", r"<start_of_turn>"),
        ("### system", r"### system"),
        ("### instruction", r"### instructions?:"),
        ("</system", r"</system(?:_prompt)?>"),
        ("<system", r"<system(?:_prompt|_message)?>"),
        ("[system](", r"\[system\]\("),
        ("\nsystem:", r"\nsystem:"),
        ("<important>", r"<important>"),
    ),
)
#: Letters that nobody sees: tags, interlinear marks, overrides of direction, variation selectors.
_HIDDEN: Final = re.compile(
    "[\U000e0001-\U000e007f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]++"
    "|[\u2061-\u2064]{3,}+|[\U000e0100-\U000e01ef]{3,}+"
)
#: The same characters in UTF-8: what begins with plain bytes is found ten times as fast.
_HIDDEN_BYTES: Final = tuple(
    map(
        re.compile,
        (
            rb"\xe2\x80[\xaa-\xae]",
            rb"\xe2\x81[\xa1-\xa9]",
            rb"\xef\xbf[\xb9-\xbb]",
            rb"\xf3\xa0[\x80-\x87]",
        ),
    )
)


#: The phrases by what their words begin with: few texts have many of the beginnings.
_BY_START: Final = {
    begins: tuple(
        (kind, anchor, pattern) for kind, anchor, start, pattern in _PHRASES if start == begins
    )
    for begins in dict.fromkeys(start for _, _, start, _ in _PHRASES)
}


def find_injection(piece: Slice) -> Iterator[Finding]:
    """Yield the marks that begin in a piece of a text: phrases at the beginning of a word."""
    lower, plain, starts = piece.lower, piece.plain, piece.starts
    for begins, phrases in _BY_START.items():
        if begins not in starts:
            continue
        for kind, anchor, pattern in phrases:
            last = piece.end + len(anchor) - 1
            at = lower.find(anchor, piece.start, last)
            while at >= 0:
                found = pattern.match(lower, at)
                inside = is_in_word(plain, at - 1) and is_in_word(plain, at)
                if found is not None and not inside:
                    yield Finding(kind, at, found.end())
                at = lower.find(anchor, at + len(anchor), last)
    if not piece.ascii and _may_hide(piece.text):
        for hidden in _HIDDEN.finditer(piece.text, piece.start, piece.end):
            yield Finding("hidden-text", *hidden.span())


def _may_hide(text: str) -> bool:
    said = text.encode("utf-8", "surrogatepass")
    return any(hidden.search(said) is not None for hidden in _HIDDEN_BYTES)
