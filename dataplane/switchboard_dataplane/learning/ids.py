"""Ids of decisions: nobody can guess one, and every pod of the scope knows one when it sees it.

What a caller says of a decision that nobody made ends there: it reaches neither the store nor the
other pods.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from switchboard_policy.seal import Keyring

#: What is by chance: 20 of the id's 28 characters.
RANDOM_BYTES: Final = 15
_CHECK_BYTES: Final = 6
_CHARS: Final = (RANDOM_BYTES + _CHECK_BYTES) * 4 // 3


def make_id(keyring: Keyring, random: bytes) -> str:
    """Return the id of a decision; ``random`` are RANDOM_BYTES that nobody can foresee."""
    return urlsafe_b64encode(random + _check(keyring, keyring.current, random)).decode()


def is_genuine(keyring: Keyring, decision: str) -> bool:
    """Say whether a holder of one of the scope's keys made this id."""
    if len(decision) != _CHARS:
        return False
    try:
        raw = urlsafe_b64decode(decision.encode("ascii"))
    except ValueError:
        return False
    random, check = raw[:RANDOM_BYTES], raw[RANDOM_BYTES:]
    return any(_check(keyring, key_id, random) == check for key_id in keyring.ids)


def hidden(keyring: Keyring, purpose: str, *said: str) -> int:
    """Return 64 bits that stand for what was said and do not tell it; other keys give others."""
    return keyring.tag(keyring.current, purpose, *said) >> 192


def _check(keyring: Keyring, key_id: str, random: bytes) -> bytes:
    # Part of a tag of a name of its own: it says nothing of any other.
    return keyring.tag(key_id, "decision", random.hex()).to_bytes(32)[:_CHECK_BYTES]
