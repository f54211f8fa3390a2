"""Finds credentials: keys of known vendors, private keys, tokens, passwords in assignments.

A vendor's key is known by its prefix, its alphabet and its length. Anything else must be given a
name that says what it is (``api_key = …``) and look like chance.
"""

import re
from math import log2
from operator import itemgetter
from typing import Final

from switchboard_dataplane.reading.digits import Finding
from switchboard_dataplane.reading.texts import Slice

_WORD: Final = "A-Za-z0-9_"
_DASHED: Final = r"A-Za-z0-9_\-"


def _ready(
    rows: tuple[tuple[str, str, str], ...],
) -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    return tuple(
        (kind, prefix, re.compile(rf"{re.escape(prefix)}(?:{rest})(?![A-Za-z0-9])"))
        for kind, prefix, rest in rows
    )


#: The kind, what it begins with, what follows: most texts hold none of the beginnings, and a
#: search for a plain string is the fastest thing there is.
_VENDORS: Final = _ready(
    (
        ("aws", "AKIA", r"[A-Z2-7]{16}"),
        ("aws", "ASIA", r"[A-Z2-7]{16}"),
        ("aws", "ABIA", r"[A-Z2-7]{16}"),
        ("anthropic", "sk-ant-", rf"[{_DASHED}]{{24,150}}+"),
        ("openai", "sk-proj-", rf"[{_DASHED}]{{40,200}}+"),
        ("openai", "sk-svcacct-", rf"[{_DASHED}]{{40,200}}+"),
        ("openai", "sk-admin-", rf"[{_DASHED}]{{40,200}}+"),
        ("openai", "sk-", r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[A-Za-z0-9]{48}"),
        ("openrouter", "sk-or-v1-", r"[a-f0-9]{64}"),
        ("llm-provider", "sk-", r"[a-f0-9]{32}"),
        ("google", "AIza", rf"[{_DASHED}]{{35}}"),
        ("google", "ya29.", rf"[{_DASHED}.]{{20,300}}+"),
        ("google", "GOCSPX-", rf"[{_DASHED}]{{28}}"),
        ("azure", "AccountKey=", r"[A-Za-z0-9+/]{86}=="),
        ("azure", "SharedAccessKey=", r"[A-Za-z0-9+/]{43}="),
        ("azure", "8Q~", rf"[{_DASHED}.~]{{31,37}}+"),
        ("github", "ghp_", r"[A-Za-z0-9]{36}"),
        ("github", "gho_", r"[A-Za-z0-9]{36}"),
        ("github", "ghu_", r"[A-Za-z0-9]{36}"),
        ("github", "ghs_", r"[A-Za-z0-9]{36}"),
        ("github", "ghr_", r"[A-Za-z0-9]{36,76}+"),
        ("github", "github_pat_", rf"[{_WORD}]{{82}}"),
        ("gitlab", "glpat-", rf"[{_DASHED}]{{20,60}}+"),
        ("gitlab", "gldt-", rf"[{_DASHED}]{{20,60}}+"),
        ("gitlab", "glrt-", rf"[{_DASHED}]{{20,60}}+"),
        ("bitbucket", "ATBB", r"[A-Za-z0-9]{32}"),
        ("atlassian", "ATATT3", rf"[{_DASHED}=]{{180,200}}+"),
        ("slack", "xox", rf"[abeoprs]-[{_DASHED}]{{10,250}}+"),
        ("slack", "xapp-", rf"[0-9]-[{_DASHED}]{{20,200}}+"),
        ("slack", "hooks.slack.com/services/", r"T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{24}"),
        ("discord", "discord.com/api/webhooks/", rf"[0-9]{{17,20}}/[{_DASHED}]{{60,80}}+"),
        ("stripe", "sk_live_", r"[A-Za-z0-9]{24,110}+"),
        ("stripe", "sk_test_", r"[A-Za-z0-9]{24,110}+"),
        ("stripe", "rk_live_", r"[A-Za-z0-9]{24,110}+"),
        ("stripe", "rk_test_", r"[A-Za-z0-9]{24,110}+"),
        ("stripe", "whsec_", r"[A-Za-z0-9+/=]{32,80}+"),
        ("square", "sq0", rf"(?:atp|csp|idp)-[{_DASHED}]{{22,43}}+"),
        ("square", "EAAA", rf"[{_DASHED}]{{60}}"),
        ("paypal", "access_token$", r"production\$[a-z0-9]{16}\$[a-f0-9]{32}"),
        ("shopify", "shp", r"(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
        ("huggingface", "hf_", r"[A-Za-z]{34}|[A-Za-z0-9]{34}"),
        ("replicate", "r8_", r"[A-Za-z0-9]{37}"),
        ("groq", "gsk_", r"[A-Za-z0-9]{52}"),
        ("xai", "xai-", r"[A-Za-z0-9]{80}"),
        ("perplexity", "pplx-", r"[A-Za-z0-9]{40,56}+"),
        ("nvidia", "nvapi-", rf"[{_DASHED}]{{60,70}}+"),
        ("fireworks", "fw_", r"[A-Za-z0-9]{22,24}+"),
        ("cohere", "co-", r"[A-Za-z0-9]{40}"),
        ("langsmith", "lsv2_", r"(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
        ("pinecone", "pcsk_", rf"[{_WORD}]{{60,75}}+"),
        ("wandb", "wandb_v1_", rf"[{_DASHED}]{{40,90}}+"),
        ("npm", "npm_", r"[A-Za-z0-9]{36}"),
        ("pypi", "pypi-AgEIcHlwaS5vcmc", rf"[{_DASHED}]{{50,250}}+"),
        ("rubygems", "rubygems_", r"[a-f0-9]{48}"),
        ("docker", "dckr_pat_", rf"[{_DASHED}]{{27}}"),
        ("sendgrid", "SG.", rf"[{_DASHED}]{{22}}\.[{_DASHED}]{{43}}"),
        ("mailgun", "key-", r"[a-f0-9]{32}"),
        ("mailchimp", "-us", r"(?<=[a-f0-9]{32}-us)[0-9]{1,2}"),
        ("twilio", "SK", r"[a-f0-9]{32}"),
        ("telegram", ":AA", rf"(?<=[0-9]{{8}}:AA)[{_DASHED}]{{33}}"),
        ("digitalocean", "dop_v1_", r"[a-f0-9]{64}"),
        ("digitalocean", "doo_v1_", r"[a-f0-9]{64}"),
        ("digitalocean", "dor_v1_", r"[a-f0-9]{64}"),
        ("databricks", "dapi", r"[a-f0-9]{32}(?:-[0-9])?"),
        ("hashicorp", "hvs.", rf"[{_DASHED}]{{24,120}}+"),
        ("hashicorp", "hvb.", rf"[{_DASHED}]{{90,300}}+"),
        ("hashicorp", ".atlasv1.", rf"[{_DASHED}=]{{60,70}}+"),
        ("grafana", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
        ("grafana", "glc_", r"[A-Za-z0-9+/]{32,400}+={0,2}"),
        ("newrelic", "NRAK-", r"[A-Z0-9]{27}"),
        ("sentry", "sntry", r"[su]_[A-Za-z0-9+/=_]{40,260}+"),
        ("postman", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),
        ("doppler", "dp.", r"(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._]{40,60}+"),
        ("planetscale", "pscale_", rf"(?:tkn|pw|oauth)_[{_DASHED}.=]{{32,64}}+"),
        ("supabase", "sbp_", r"[a-f0-9]{40}"),
        ("linear", "lin_", r"(?:api|oauth)_[A-Za-z0-9]{32,64}+"),
        ("notion", "ntn_", r"[A-Za-z0-9]{40,50}+"),
        ("airtable", "pat", r"[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
        ("figma", "figd_", rf"[{_DASHED}]{{40}}"),
        ("dropbox", "sl.", rf"(?=[A-Za-z_\-]{{0,60}}[0-9])[{_DASHED}]{{130,1400}}+"),
        ("tailscale", "tskey-", r"(?:auth|api|client)-[A-Za-z0-9]{8,20}-[A-Za-z0-9]{16,48}+"),
        ("pulumi", "pul-", r"[a-f0-9]{40}"),
        ("age", "AGE-SECRET-KEY-1", r"[0-9A-Z]{58}"),
        ("jwt", "eyJ", rf"[{_DASHED}]{{8,400}}+\.eyJ[{_DASHED}]{{8,400}}+(?:[{_DASHED}.]*+)"),
    )
)
#: What is no single word.
_WITH_SPACES: Final = _ready(
    (
        ("private-key", "-----BEGIN ", r"(?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        ("private-key", "PuTTY-User-Key-File-", r"[23]: "),
        ("flyio", "FlyV1 ", r"fm[12][a-z]?_[A-Za-z0-9+/=,_]{40,600}+"),
    )
)
#: What a match of a short prefix must not be glued to.
_GLUE: Final = re.compile(r"[A-Za-z0-9]")
#: No key is shorter, with its prefix.
_KEY_WORD_CHARS_MIN: Final = 20
_LONG_WORD: Final = b"x" * _KEY_WORD_CHARS_MIN
#: What is no space becomes an x.
_TO_X: Final = bytes(ord(" " if chr(code).isspace() else "x") for code in range(128)) + bytes(128)
_SUFFIX_FORMS: Final = frozenset({"-us", ":AA", "8Q~", ".atlasv1."})

#: What is neither letter nor digit becomes a space.
_TO_TOKENS: Final = bytes(code if chr(code).isalnum() else ord(" ") for code in range(128)) + bytes(
    128
)
_TOKEN_START: Final = itemgetter(slice(2))


def _start_of(prefix: str) -> bytes:
    """Return how the token begins that has a prefix; b"" where it may be inside of one."""
    return b"" if prefix in _SUFFIX_FORMS else prefix[:2].encode()


#: The vendors by how their keys begin: few texts have many of the beginnings.
_BY_START: Final = {
    begins: tuple(vendor for vendor in _VENDORS if _start_of(vendor[1]) == begins)
    for begins in dict.fromkeys(_start_of(prefix) for _, prefix, _ in _VENDORS)
}

_URL_LOGIN: Final = re.compile(
    r"://[^\s/:@'\"<>{}$]{0,128}:([^\s/@'\"<>]{3,256})@[A-Za-z0-9\[]", re.IGNORECASE
)
_HEADER: Final = re.compile(
    r"(?:bearer|basic)[ ]{1,2}([A-Za-z0-9+/_\-.~]{20,2000}+={0,2})", re.IGNORECASE
)
#: The word of a name that says: a secret follows. ``key`` needs another before it.
_NAMES: Final[tuple[str, ...]] = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "contraseña",
)
_KEY_OF: Final = re.compile(
    r"(?:api|access|auth|private|encryption|secret|signing|account|shared|master)[_\- ]?\Z"
)
_ASSIGNED: Final = re.compile(
    r"[a-zñ]{0,20}(?:[_\-][a-z0-9]{1,16}){0,2}[\"'`\\]{0,3}"
    r"[ \t]{0,3}(?::=|=>|[:=]|is(?= ))[ \t]{0,3}(?:[a-z]{1,6}(?=[\"']))?[\"'`\\]{0,3}"
    r"([^\s\"'`,;<>(){}\[\]\\&]{6,256})"
)
_ASSIGNS: Final = re.compile(r"[:=]| is ")
_PLACEHOLDER: Final = re.compile(
    r"^(?:\$|%|\*{3}|x{4}|\.{3}|<|env|os\.|process\.|config|settings|self\.|this\.|args|null|none"
    r"|true|false|string|str\b|undefined|optional|required|your|my[_\-]|example|change[_\-]?me"
    r"|placeholder|redacted|hidden|todo|insert|replace|dummy|sample|getpass|input|request|vault"
    r"|arn:|file:|https?:)|(?:example|placeholder|redacted|changeme|your[_\-])",
    re.IGNORECASE,
)
_PASSWORDS: Final = frozenset({"contraseña", "pass", "pwd"})
#: Bits a character: English words lie below 3, random letters and digits above 3.5.
_CHANCE_BITS: Final = 3.0
_KEY_CHARS_MIN: Final = 16
#: A password mixes digits, capitals, small letters and marks: at least two of them.
_KINDS_MIN: Final = 2

SECRET_KINDS: Final = frozenset(
    {kind for kind, _, _ in (*_VENDORS, *_WITH_SPACES)}
    | {"assignment", "authorization", "connection-string"}
    | {"unscanned"}
)


def find_secrets(piece: Slice) -> list[Finding]:
    """Return what begins in a piece of a text."""
    found: list[Finding] = []
    words = _long_words(piece)
    if words:
        tokens = words.encode("ascii", "replace").translate(_TO_TOKENS).split()
        starts = frozenset([b"", *map(_TOKEN_START, tokens)])
        for begins, vendors in _BY_START.items():
            if begins in starts:
                for vendor in vendors:
                    if vendor[1] in words:
                        _find_keys(vendor, piece, found)
        _find_headers(piece, found)
    for spaced in _WITH_SPACES:
        _find_keys(spaced, piece, found)
    _find_logins(piece, found)
    _find_assignments(piece, found)
    return found


def _long_words(piece: Slice) -> str:
    """Return the words that are long enough for a key, with spaces between them."""
    text = piece.text
    marks = piece.outline.translate(_TO_X)
    words: list[str] = []
    at = marks.find(_LONG_WORD)
    while at >= 0:
        end = marks.find(b" ", at)
        end = end if end >= 0 else len(text)
        words.append(text[at:end])
        at = marks.find(_LONG_WORD, end)
    if not piece.ascii:
        # What is a space, but not in ASCII, is still in them.
        words = [word for word in " ".join(words).split() if len(word) >= _KEY_WORD_CHARS_MIN]
    return " ".join(words)


def chance_bits(text: str) -> float:
    """Return the entropy of a text's characters, in bits a character."""
    size = len(text)
    if size == 0:
        return 0.0
    return -sum(count / size * log2(count / size) for count in map(text.count, set(text)))


def _find_keys(
    vendor: tuple[str, str, re.Pattern[str]], piece: Slice, found: list[Finding]
) -> None:
    kind, prefix, whole = vendor
    text, last = piece.text, piece.end + len(prefix) - 1
    at = text.find(prefix, piece.start, last)
    while at >= 0:
        after = at + len(prefix)
        key = whole.match(text, at)
        if key is not None and _stands_alone(text, at, prefix):
            found.append(Finding(kind, at, key.end()))
            after = key.end()
        at = text.find(prefix, after, last)


def _stands_alone(text: str, at: int, prefix: str) -> bool:
    if at == 0 or prefix in _SUFFIX_FORMS or not prefix[0].isalnum():
        return True
    return _GLUE.match(text, at - 1) is None


def _find_logins(piece: Slice, found: list[Finding]) -> None:
    text, last = piece.text, piece.end + len("://") - 1
    at = text.find("://", piece.start, last)
    while at >= 0:
        login = _URL_LOGIN.match(text, at)
        if login is not None and _PLACEHOLDER.search(login[1]) is None:
            found.append(Finding("connection-string", at, login.end()))
        at = text.find("://", at + 3, last)


def _find_headers(piece: Slice, found: list[Finding]) -> None:
    lower = piece.lower
    for word in ("bearer ", "basic "):
        last = piece.end + len(word) - 1
        at = lower.find(word, piece.start, last)
        while at >= 0:
            header = _HEADER.match(piece.text, at)
            if header is not None and _looks_random(header[1]):
                found.append(Finding("authorization", at, header.end()))
            at = lower.find(word, at + len(word), last)


def _find_assignments(piece: Slice, found: list[Finding]) -> None:
    lower = piece.lower
    if _ASSIGNS.search(lower, piece.start) is None:
        return
    for name in _NAMES:
        last = piece.end + len(name) - 1
        at = lower.find(name, piece.start, last)
        while at >= 0:
            after = at + len(name)
            said = _ASSIGNED.match(lower, after)
            if said is not None:
                after = said.end()
                if name != "key" or _KEY_OF.search(lower, max(0, at - 12), at) is not None:
                    value = piece.text[said.start(1) : said.end(1)]
                    if _is_secret(value, is_password=name in _PASSWORDS):
                        found.append(Finding("assignment", at, after))
            at = lower.find(name, after, last)


def _is_secret(value: str, *, is_password: bool) -> bool:
    if _PLACEHOLDER.search(value) is not None:
        return False
    return _looks_like_password(value) if is_password else _looks_random(value)


def _looks_random(value: str) -> bool:
    if len(value) < _KEY_CHARS_MIN or chance_bits(value) < _CHANCE_BITS:
        return False
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _looks_like_password(value: str) -> bool:
    """People's passwords are short: two kinds of characters make one."""
    kinds = (str.isdigit, str.islower, str.isupper)
    plain = sum(any(map(kind, value)) for kind in kinds)
    odd = any(not letter.isalnum() and letter not in "._-/:" for letter in value)
    return plain + odd >= _KINDS_MIN and (any(map(str.isdigit, value)) or odd)
