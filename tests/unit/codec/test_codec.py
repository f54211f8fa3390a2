"""Entries and bytes: canonical one way, distrustful the other."""

import pytest

from fakes.stores import backend
from switchboard_policy.codec import ENTRY_BYTES_MAX, decode, encode
from switchboard_policy.errors import DigestMismatch, EntryRefused, Malformed, UnknownFormat
from switchboard_policy.ir import Balance, Member, Policy, Rule, Tier, Timeouts
from switchboard_policy.seal import fingerprint


def policy(**said: object) -> Policy:
    tiers = (Tier(name="t", members=(Member(backend="ai/b", weight=0),)),)
    return Policy(name="ai/p", models=("m",), rules=(Rule(name="r", tiers=tiers),), **said)  # type: ignore[arg-type]


def test_what_was_encoded_is_decoded() -> None:
    for entry in (policy(attempts=5), backend(1).entry):
        encoded = encode(entry)
        assert decode(encoded.body, digest=encoded.digest) == entry


def test_equal_entries_have_equal_bytes_however_their_defaults_were_said() -> None:
    said = policy(deadline_ms=int("120000"), attempts=3, guardrails=())
    tiers = (Tier(name="t", members=said.rules[0].tiers[0].members, balance=Balance()),)
    spelled = Policy(name="ai/p", models=("m",), rules=(Rule(name="r", tiers=tiers),))
    assert spelled == said
    assert encode(spelled) == encode(said) == encode(policy())
    assert b"deadline" not in encode(said).body
    assert b'"weight":0' in encode(said).body


def test_a_struct_that_equals_its_default_is_left_out() -> None:
    entry = backend(1).entry
    assert b"timeouts" not in encode(entry).body
    assert Timeouts() == Timeouts(connect_ms=2000)


def test_other_bytes_than_the_digest_names_are_refused() -> None:
    encoded = encode(policy())
    with pytest.raises(DigestMismatch):
        decode(encoded.body + b" ", digest=encoded.digest)
    with pytest.raises(DigestMismatch):
        decode(encoded.body[:-1], digest=encoded.digest)


@pytest.mark.parametrize("number", [0, 2, -1, 10**30])
def test_another_format_is_refused(number: int) -> None:
    body = b'{"format":%d,"entry":{}}' % number
    with pytest.raises(UnknownFormat):
        decode(body, digest=fingerprint(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"\xff",
        b'{"format":"1","entry":{}}',
        b'{"format":1}',
        b'{"format":1,"entry":{"type":"unheard-of"}}',
        b'{"format":1,"entry":{"type":"policy","name":"a","models":[],"rules":[],"more":1}}',
        b'{"format":1,"entry":{"type":"policy","name":"\xff","models":[],"rules":[]}}',
        b'{"format":1,"entry":' + b"[" * 100_000,
        b'{"more":' + b'{"a":' * 100_000,
    ],
    ids=range(11),
)
def test_what_is_no_entry_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body, digest=fingerprint(body))


def test_an_oversized_entry_is_refused_before_it_is_read() -> None:
    body = b" " * (ENTRY_BYTES_MAX + 1)
    with pytest.raises(EntryRefused, match="the limit is"):
        decode(body, digest=fingerprint(body))
