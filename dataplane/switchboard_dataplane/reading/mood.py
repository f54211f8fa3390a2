"""Reads the mood of a turn: sentiment and urgency, from words, their negations and emphasis.

English first; the commonest words of German, French, Spanish, Portuguese and Italian.
"""

from typing import Final

from switchboard_dataplane.reading.turns import Turn


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_POSITIVE: Final = _words(
    "amazing awesome beautiful best brilliant cheers congrats delighted excellent excited fantastic"
    " glad good great grateful happy helpful impressed incredible kudos like love loved lovely nice"
    " perfect pleasant pleased recommend superb thank thankful thanks thrilled wonderful wow yay"
    " works worked enjoy enjoyed enjoying smooth fast friendly outstanding"
    " danke toll super prima klasse gut perfekt merci génial parfait bravo gracias genial excelente"
    " perfecto obrigado obrigada ótimo grazie ottimo perfetto fantastico"
)
_NEGATIVE: Final = _words(
    "angry annoyed annoying awful bad broken bug buggy cancel complain complaint crap cheated"
    " defective disappointed disappointing disappointment disaster disgusted disgusting dreadful"
    " fail failed failing failure fed frustrated frustrating furious garbage hate hated horrible"
    " hopeless incompetent insulting joke lied lies lousy mad mess miserable mistake nightmare"
    " outrage outraged outrageous pathetic poor refund ridiculous rude rubbish scam scammed shame"
    " sick sucks terrible terribly trash unacceptable unhappy unhelpful upset useless waste wasted"
    " worse worst worthless wrong slow ripped stuck unusable appalling crash crashed crashes"
    " schlecht schrecklich furchtbar kaputt enttäuscht ärgerlich wütend unverschämt inakzeptabel"
    " nul horrible déçu décevant inacceptable furieux cassé malo terrible pésimo roto decepcionado"
    " inaceptable furioso péssimo terrível quebrado inaceitável pessimo terribile rotto deluso"
)
_FELT: Final = _POSITIVE | _NEGATIVE
_NEGATIONS: Final = _words(
    "not no never neither nor hardly isn't wasn't aren't don't doesn't didn't can't cannot won't"
    " couldn't wouldn't isnt dont doesnt didnt cant wont nicht kein keine pas jamais no nunca não"
    " non mai without"
)
#: How many words before a word may deny it.
_REACH: Final = 3
_WORDS_A_FEELING: Final = 50

_URGENT_WORDS: Final = _words(
    "asap urgent urgently immediately emergency critical hurry quickly deadline outage sev1 p0 p1"
    " escalate dringend sofort notfall eilig urgente urgence immédiatement inmediatamente"
    " urgentemente imediatamente subito emergenza emergencia срочно немедленно"
)
_URGENT_PHRASES: Final = (
    "right now",
    "right away",
    "as soon as possible",
    "at once",
    "time sensitive",
    "time-sensitive",
    "by today",
    "end of day",
    "by eod",
    "production is down",
    "prod is down",
    "site is down",
    "system is down",
    "is down!",
    "can't wait",
    "cannot wait",
    "running out of time",
    "need this now",
    "need it now",
    "within the hour",
    "in the next hour",
    "in 5 minutes",
    "so schnell wie möglich",
    "le plus vite possible",
    "dès que possible",
    "tout de suite",
    "lo antes posible",
    "cuanto antes",
    "ahora mismo",
    "o mais rápido possível",
    "il prima possibile",
    "至急",
    "紧急",
    "緊急",
    "马上",
    "立即",
    "すぐに",
    "급합니다",
)
_NOT_URGENT: Final = (
    "not urgent",
    "no rush",
    "no hurry",
    "whenever you have time",
    "non-urgent",
    "nicht dringend",
    "keine eile",
    "pas urgent",
    "sin prisa",
)


def read_sentiment(turn: Turn) -> float:
    """Return how a turn feels, from -1 (all words are unkind) over 0 (nothing tells) to 1."""
    if _FELT.isdisjoint(turn.bag):
        return 0.0
    words = turn.words
    balance = count = 0
    for place, word in enumerate(words):
        weight = (word in _POSITIVE) - (word in _NEGATIVE)
        if weight:
            denied = not _NEGATIONS.isdisjoint(words[max(0, place - _REACH) : place])
            balance += -weight if denied else weight
            count += 1
    # A long text has such words by chance: one of them in fifty says nothing.
    if abs(balance) < 1 + len(words) // _WORDS_A_FEELING:
        return 0.0
    return balance / (count + 1)


def is_urgent(turn: Turn) -> bool:
    """Say whether an answer is wanted at once."""
    if _says(turn, _CALM):
        return False
    return not _URGENT_WORDS.isdisjoint(turn.bag) or _says(turn, _HASTY)


def _says(turn: Turn, phrases: tuple[tuple[str, str], ...]) -> bool:
    lower, bag = turn.lower, turn.bag
    return any(phrase in lower for word, phrase in phrases if not word or word in bag)


def _with_words(phrases: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Put before each phrase a whole word of it, where it has one: quick to miss."""
    return tuple((_word_of(phrase), phrase) for phrase in phrases)


def _word_of(phrase: str) -> str:
    words = phrase.split()
    return max(words[:-1], key=len) if len(words) > 1 and phrase.isascii() else ""


_HASTY: Final = _with_words(_URGENT_PHRASES)
_CALM: Final = _with_words(_NOT_URGENT)
