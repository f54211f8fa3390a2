"""The words, openings and phrases by which a task is known: what ``tasks`` adds up."""

# ruff: noqa: RUF001

import re
from collections.abc import Mapping
from typing import Final

#: What a word says, once however often it is there: (task, weight, words).
_SAYINGS: Final = (
    ("code", 3.0, "python javascript typescript java rust golang kotlin c# c++ sql regex html css"),
    ("code", 3.0, "react django flask numpy pandas kubernetes dockerfile bash stacktrace unittest"),
    (
        "code",
        2.0,
        "refactor debug compile compiler api function functions method class code script",
    ),
    ("code", 2.0, "programme program algorithm bug exception endpoint query codebase repository"),
    (
        "code",
        1.0,
        "string strings array tuple tuples list lists dictionary loop recursion variable",
    ),
    ("code", 1.0, "implement parameter returns import json yaml git linux server database"),
    ("math", 3.0, "equation equations integral derivative polynomial theorem probability triangle"),
    ("math", 3.0, "matrix eigenvalue logarithm quadratic factorial integer integers perimeter"),
    ("math", 2.0, "solve calculate compute evaluate simplify arithmetic algebra geometry fraction"),
    (
        "math",
        2.0,
        "sum product difference ratio percent percentage average angle radius area prime",
    ),
    ("math", 2.0, "sqrt frac boxed cos sin tan log sphere circle parabola divisor multiple cubic"),
    ("math", 2.0, "gleichung berechne berechnen équation calculer calcule ecuación calcular"),
    (
        "math",
        1.0,
        "total cost costs dollars each twice half times more less than value real number",
    ),
    (
        "reasoning",
        3.0,
        "clue clues premise premises deduce infer syllogism puzzle riddle logically",
    ),
    ("reasoning", 2.0, "therefore conclude conclusion argument hypothesis implies contradiction"),
    ("reasoning", 2.0, "logic reasoning reason likely cause fallacy assume suppose consistent"),
    ("reasoning", 1.0, "because if then why must best most except compare strategy tradeoff plan"),
    ("extraction", 4.0, "extract extrahiere extraire extrae estrai extraia извлеки 提取 抽出"),
    ("extraction", 2.0, "entities fields mentioned parse pull identify names dates key-value"),
    ("translation", 5.0, "translate translation translated übersetze übersetzen übersetzung"),
    ("translation", 5.0, "traduire traduis traduction traducir traduce traducción traduzir"),
    ("translation", 5.0, "traduza traduci tradurre traduzione vertaal översätt переведи перевод"),
    ("summarisation", 5.0, "summarize summarise summary summarizing tldr tl;dr zusammenfassung"),
    ("summarisation", 5.0, "zusammenfassen résume résumer résumé resume resumen resumir riassumi"),
    ("summarisation", 5.0, "riassunto resumo samenvatting condense recap abridge кратко"),
    ("summarisation", 1.5, "takeaways gist shorten bullet bullets abstract highlights minutes"),
    ("creative", 4.0, "poem haiku sonnet limerick lyrics screenplay fanfiction gedicht poème"),
    ("creative", 4.0, "poema slogan slogans tagline taglines ballad rap fable fairytale"),
    ("creative", 2.5, "story stories song novel fictional fiction imagine character dialogue"),
    ("creative", 2.5, "geschichte histoire historia cuento conte storia joke creative rhyme"),
    ("creative", 1.5, "write blog essay speech toast brainstorm ideas caption captions advert"),
    ("classification", 4.0, "classify classification categorize categorise klassifiziere"),
    ("classification", 4.0, "classifier clasifica classifica categorisation kategorisiere"),
    ("classification", 2.0, "category categories label labels sentiment spam toxic positive"),
    ("classification", 2.0, "negative neutral tag"),
    ("tools", 1.5, "search book schedule send remind fetch lookup weather calendar tool tools"),
    ("chat", 2.5, "hi hello hey hallo bonjour hola ciao olá thanks thank danke merci gracias"),
    ("chat", 1.5, "feel feeling lonely bored talk chat yourself you're friend advice"),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _with_first_words(
    *rows: tuple[str, float, tuple[str, ...]],
) -> tuple[tuple[str, float, tuple[tuple[str, str], ...]], ...]:
    """Put before each phrase the whole word that it begins with, where it does: quick to miss."""
    return tuple(
        (task, weight, tuple((_first_word(phrase), phrase) for phrase in phrases))
        for task, weight, phrases in rows
    )


def _first_word(phrase: str) -> str:
    first, space, _ = phrase.partition(" ")
    return first if space and first.isascii() and first.isalpha() else ""


#: What a turn begins with: the request itself, most often.
OPENINGS: Final = tuple(
    (task, weight, re.compile(pattern))
    for task, weight, pattern in (
        ("factual", 3.0, r"(?:in|on|at|for|from|to|of) (?:which|what|whose|whom)\b"),
        ("factual", 3.0, r"(?:who|whom|whose|when|where|which|what)(?:'s|’s)?\b"),
        ("factual", 2.0, r"(?:name|define|is|are|was|were|did|does|do|has|have)\b"),
        ("factual", 2.0, r"how (?:long|tall|old|far|big|large|high|often|deep)\b"),
        ("factual", 2.0, r"(?:wer|wann|wo|qui|quand|où|quién|cuándo|dónde|chi|quando|dove)\b"),
        ("math", 3.0, r"(?:find|compute|calculate|evaluate|simplify|solve|determine) "),
        ("math", 2.5, r"(?:let|given|if|for) (?:\$|[b-z]\b)"),
        (
            "code",
            4.0,
            r"write a (?:\w+ ){0,3}(?:function|program|script|query|class|method|test)\b",
        ),
        ("code", 2.5, r"(?:fix|debug|refactor|implement|optimi[sz]e|port)\b"),
        ("reasoning", 2.0, r"(?:why|explain why|should|suppose|assume|compare)\b"),
        ("reasoning", 2.5, r"q: there are \w+ (?:houses|people|friends)"),
        (
            "summarisation",
            4.0,
            r"(?:please )?(?:summari[sz]e|sum up|tl;?dr|give (?:me )?a summary)",
        ),
        (
            "translation",
            4.0,
            r"(?:please )?(?:translate|how do you say|what is .{1,60} in (?:french"
            r"|german|spanish|italian|portuguese|japanese|chinese|korean|russian|arabic|hindi))",
        ),
        (
            "extraction",
            3.0,
            r"(?:please )?(?:extract|list all|find all|pull (?:out )?(?:all )?the)",
        ),
        ("classification", 4.0, r"(?:please )?(?:classify|categori[sz]e|label|tag)\b"),
        (
            "classification",
            3.0,
            r"(?:is|are) (?:this|the following|these) .{0,60}(?:spam|positive"
            r"|negative|toxic|offensive|sarcastic|urgent)\b",
        ),
        (
            "creative",
            3.5,
            r"(?:please )?(?:write|compose|create|tell|make up|invent|come up with)"
            r" (?:me )?(?:a|an|some|the|ten|five|three|\d+) (?:\w+ ){0,3}(?:story|poem|song|haiku"
            r"|joke|limerick|slogan|lyrics|tale|essay|scene|name|names|blog|speech|letter|plot|dialogue)",
        ),
        (
            "chat",
            4.0,
            r"(?:hi|hello|hey|yo|good (?:morning|evening|night)|thanks|thank you|how are"
            r" you|hallo|bonjour|hola|ciao|olá|ok|okay|sure|yes|no|lol|cool)\b",
        ),
        (
            "chat",
            3.0,
            r"(?:i feel|i'm (?:so|feeling|sad|bored|tired)|what's up|tell me about your"
            r"|do you (?:like|think|have|feel)|can you (?:hear|talk)|who are you)",
        ),
        (
            "tools",
            3.0,
            r"(?:please )?(?:book|schedule|remind|send|search|look up|call|open|turn"
            r"|set|check|cancel|order|fetch|play|add)\b",
        ),
    )
)

#: What is said anywhere; plain strings.
PHRASES: Final = _with_first_words(
    (
        "translation",
        4.0,
        (
            "into french",
            "into german",
            "into spanish",
            "into english",
            "to english",
            "into italian",
            "into portuguese",
            "into japanese",
            "into chinese",
            "to french",
            "to german",
            "to spanish",
            "auf deutsch",
            "ins deutsche",
            "ins englische",
            "en français",
            "en anglais",
            "al español",
            "al inglés",
            "翻译",
            "翻訳",
            "訳して",
            "번역",
        ),
    ),
    (
        "summarisation",
        4.0,
        (
            "tl;dr",
            "key points",
            "main points",
            "in one sentence:",
            "in a nutshell",
            "fasse ",
            "总结",
            "摘要",
            "要約",
            "요약",
        ),
    ),
    (
        "extraction",
        3.0,
        (
            "from the following",
            "from this text",
            "from the text",
            "as json with",
            "return a json",
            "fill in the fields",
            "list all the",
            "key-value",
        ),
    ),
    (
        "classification",
        3.0,
        (
            "one of the following categories",
            "positive or negative",
            "spam or",
            "which category",
            "true or false:",
            "positive, negative",
            "yes or no:",
            "分类",
            "分類",
        ),
    ),
    (
        "creative",
        3.0,
        (
            "once upon a time",
            "short story",
            "write a story",
            "write a poem",
            "bedtime story",
            "in the style of",
            "写一首",
            "写一个故事",
            "物語を",
        ),
    ),
    (
        "reasoning",
        2.0,
        (
            "which of the following",
            "step by step",
            "best explains",
            "most likely",
            "must be true",
            "if and only if",
            "pros and cons",
            "why does",
            "why do ",
            "what would happen",
            "would you",
            "can be inferred",
            "each person",
        ),
    ),
    (
        "code",
        3.0,
        (
            "write a function",
            "write a python",
            "unit test",
            "time complexity",
            "stack trace",
            "pull request",
            "error message",
            "null pointer",
            "command line",
            "data structure",
        ),
    ),
    (
        "math",
        3.0,
        (
            "$x",
            "x^2",
            "\\frac",
            "\\sqrt",
            "\\boxed",
            "\\text",
            "what is the value",
            "percent of",
            "what is the sum",
            "greatest common",
        ),
    ),
    ("chat", 2.0, ("how are you", "how's it going", "what do you think", "nice to meet", "my day")),
)

#: Words of somebody who talks of himself or to somebody.
PERSONAL: Final = _words(
    "i i'm i've i'd i'll me my mine you your you're we us our let's ich du sie je tu vous yo tú"
)
#: What a question is asked with.
QUESTION_WORDS: Final = _words(
    "who whom whose when where which what wer wann wo welche welcher qui quand où quel quelle "
    "quién cuándo dónde cuál chi quando dove quale onde qual кто когда где"
)


def _by_word() -> Mapping[str, tuple[str, float]]:
    return {word: (task, weight) for task, weight, words in _SAYINGS for word in words.split()}


#: What each word says: (task, weight).
BY_WORD: Final = _by_word()
