"""Says whether a turn holds program code."""

import re
from typing import Final

from switchboard_dataplane.reading.turns import Turn

#: Enough on its own.
CERTAIN: Final = 3
#: Plain strings first. Before each stands its rarest character: most are missed by that alone.
_STRINGS: Final = (
    ("`", "```", 3),
    ("~", "~~~\n", 2),
    ("#", "#!/", 3),
    ("#", "#include <", 3),
    ("?", "<?php", 3),
    ("b", "public static void", 3),
    ("(", "console.log(", 3),
    ("S", "System.out.", 3),
    (":", "std::", 3),
    ("T", "Traceback (most recent call last)", 3),
    (">", ">>> ", 2),
    ("_", "def __init__", 3),
    (".", "self.", 2),
    ("=", "=> {", 3),
    ("{", ") {\n", 3),
    ("}", "});", 3),
    (";", "();", 2),
    ("<", "</div>", 3),
    ("<", "</html>", 3),
    ("(", "useState(", 3),
    (":", ":= ", 1),
    ("!", " != ", 1),
    ("=", " == ", 1),
    ("&", " && ", 1),
    ("+", " += ", 1),
    ("+", "++", 1),
    (";", ";\n", 1),
    ("{", "{\n", 1),
    ("}", "\n}", 1),
    ("\n", "\n    ", 1),
    ("-", "->", 1),
)
#: What a line begins with, after its indent.
_LINE_START: Final = re.compile(
    r"(?P<certain>(?:async )?def \w{1,80}\("
    r"|(?:export )?(?:default )?(?:async )?function \w{0,80}\("
    r"|(?:const|let|var) \w{1,80} ?=|(?:func|fn|fun) (?:\([^)]{0,80}\) )?\w{1,80}[(<]"
    r"|(?:if|for|while|switch) ?\(.{1,200}\) ?\{|at [\w.$<>]{1,120}\([\w.]{1,80}:[0-9]"
    r"|INSERT INTO |UPDATE \w{1,60} SET |CREATE TABLE |ALTER TABLE |DELETE FROM )"
    r"|(?P<likely>(?:public |private |protected |abstract |export )?class \w{1,80} ?[(:{]"
    r"|import [\w.*{]{1,80}(?: as \w{1,60})?;?$|from [\w.]{1,80} import |apiVersion: "
    r"|(?:FROM|RUN|COPY) [\w./:\-]{1,80}$|(?:if|for|while|elif|with|except)\b.{1,200}:$"
    r"|(?:try|else):$|\$ [a-z]|(?:sudo|kubectl|docker|git|npm|pip|apt-get|curl|cd) [\w\-./])"
    r"|(?P<possible>return\b.{0,200};?$|@\w{1,60}(?:\(|$)|assert .{1,200}==|print\("
    r"|\w{1,60}(?:\.\w{1,60}|\[\w{1,20}\]){0,4} ?[-+*/]?= ?[^=]{1,200};?$"
    r"|\w{1,60}(?:\.\w{1,60}){0,4}\([^()]{0,120}\);?$)"
)
_LINE_WEIGHTS: Final = {"certain": 3, "likely": 2, "possible": 1}
_QUERY: Final = re.compile(
    r"select\s(?:distinct\s)?(?:\*|[\w.\"`(*)]{1,80}(?:,\s?[\w.\"`(*)]{1,80}){0,40})"
    r"(?:\sas\s\w{1,60})?\s{1,8}from\s{1,8}\w"
)
_TAG: Final = re.compile(
    r"</?(?:div|span|script|body|head|html|button|style|ul|li|table|td|tr|form|input)\b[^>]{0,200}>"
)
#: A call in the middle of a sentence: arr.map(f), foo(bar, 1), x[i].
_CALL: Final = re.compile(r"\b[a-z_]\w{1,60}(?:\.\w{1,60}){0,4}\([\w\"', .\[\]]{0,120}\)")
_CALL_CHARS: Final = 1_000
_LINES_MAX: Final = 200


def code_score(turn: Turn) -> int:
    """Return how much speaks for code, 0 to 5; CERTAIN is enough, and more is not looked for."""
    if turn.code_score is None:
        turn.code_score = _score(turn)
    return turn.code_score


def _score(turn: Turn) -> int:
    text = turn.text
    score = 0
    for rare, mark, weight in _STRINGS:
        if rare in text and mark in text:
            score += weight
            if score >= CERTAIN:
                return score
    if _in_a_line(turn):
        return CERTAIN
    for line in text.split("\n", _LINES_MAX)[:_LINES_MAX]:
        score += _weigh_line(line.strip())
        if score >= CERTAIN:
            return score
    return score


def has_code(turn: Turn) -> bool:
    """Say whether there is code in a turn: fenced, indented, or in the middle of a sentence."""
    return code_score(turn) >= CERTAIN


def _weigh_line(line: str) -> int:
    found = _LINE_START.match(line)
    if found is None or found.lastgroup is None:
        return 0
    return _LINE_WEIGHTS[found.lastgroup]


def _in_a_line(turn: Turn) -> bool:
    """Queries, markup and calls, which need no line of their own."""
    lower = turn.lower
    if "select" in lower and " from " in lower and _QUERY.search(lower) is not None:
        return True
    if "<" in lower and _TAG.search(lower) is not None:
        return True
    if not any(part[-1:].isalnum() for part in lower.split("(")[:-1]):
        return False
    calls = sum(len(call) for call in _CALL.findall(turn.text, 0, _CALL_CHARS))
    return calls * 4 > min(len(lower), _CALL_CHARS)
