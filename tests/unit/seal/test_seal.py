"""Signing and sealing: what a key opens, and what it does not."""

import pytest

from fakes.stores import keyring
from switchboard_policy.errors import BadSeal, BadSignature, Malformed
from switchboard_policy.seal import (
    KEY_BYTES,
    fingerprint,
    key_id_of,
    read_key_file,
    read_keyring,
    write_key_file,
)

CONTEXT = ("uid-1", "https://api.example")


def test_a_signature_is_checked_against_scope_key_and_every_field() -> None:
    ours = keyring(1)
    mac = ours.sign("line", "a", "b")
    ours.verify(mac, "line", "a", "b")
    assert key_id_of(mac) == "k1"
    for fields in (("line", "a"), ("line", "ab", ""), ("line", "b", "a"), ("line", "a", "b", "")):
        with pytest.raises(BadSignature):
            ours.verify(mac, *fields)
    for stranger in (keyring(2), keyring(1, scope="gw/other")):
        with pytest.raises(BadSignature):
            stranger.verify(mac, "line", "a", "b")


@pytest.mark.parametrize("mac", ["", ":", "k1", "k1:", "k1:00", "k9:00", "k1:é", "k1:\udcff"])
def test_what_is_no_signature_is_refused(mac: str) -> None:
    with pytest.raises(BadSignature):
        keyring(1).verify(mac, "line")


def test_both_keys_read_during_a_rotation_and_the_current_one_writes() -> None:
    old, both, new = keyring(1), keyring(1, 2), keyring(2)
    both.verify(old.sign("x"), "x")
    new.verify(both.sign("x"), "x")
    with pytest.raises(BadSignature):
        old.verify(both.sign("x"), "x")


def test_a_tag_is_another_number_for_other_fields_keys_and_scopes() -> None:
    tags = {
        keyring(1).tag("k1", "a", "b"),
        keyring(1).tag("k1", "ab"),
        keyring(1, 2).tag("k2", "a", "b"),
        keyring(1, scope="gw/other").tag("k1", "a", "b"),
    }
    assert len(tags) == 4
    assert keyring(1, 2).tag("k1", "a", "b") in tags
    with pytest.raises(BadSignature):
        keyring(1).tag("k2", "a")


def test_a_seal_opens_for_its_context_alone() -> None:
    ours = keyring(1)
    sealed = ours.seal(b"secret", *CONTEXT)
    assert ours.unseal("k1", sealed, *CONTEXT) == b"secret"
    assert b"secret" not in sealed
    with pytest.raises(BadSeal):
        ours.unseal("k1", sealed, "uid-2", CONTEXT[1])
    with pytest.raises(BadSeal):
        keyring(1, scope="gw/other").unseal("k1", sealed, *CONTEXT)
    with pytest.raises(BadSeal):
        ours.unseal("k2", sealed, *CONTEXT)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for broken in (flipped, sealed[:20], sealed[:3], b""):
        with pytest.raises(BadSeal):
            ours.unseal("k1", broken, *CONTEXT)


def test_the_same_credential_has_the_same_seal_and_another_one_another_nonce() -> None:
    ours = keyring(1)
    sealed = ours.seal(b"secret", *CONTEXT)
    assert ours.seal(b"secret", *CONTEXT) == sealed
    nonces = {
        ours.seal(b"secret", *CONTEXT)[:12],
        ours.seal(b"Secret", *CONTEXT)[:12],
        ours.seal(b"secret", "uid-2", CONTEXT[1])[:12],
        keyring(2).seal(b"secret", *CONTEXT)[:12],
    }
    assert len(nonces) == 4


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "scope key file"),
        (b"[]", "scope key file"),
        (b'{"current": "a", "keys": {}}', "not among keys"),
        (b'{"current": "a", "keys": {"a": "AAAA"}}', "has 3 bytes, not 32"),
        (write_key_file("a:b", {"a:b": bytes(KEY_BYTES)}), "no key id"),
        (write_key_file("", {"": bytes(KEY_BYTES)}), "no key id"),
        (b'{"current": "a", "keys": {}, "more": 1}', "more"),
    ],
)
def test_a_bad_key_file_says_what_is_wrong(raw: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        read_keyring("gw/x", raw)


def test_a_keyring_does_not_show_its_keys() -> None:
    raw = write_key_file("a", {"a": b"K" * KEY_BYTES})
    assert "KKK" not in repr(read_keyring("gw/x", raw))


def test_a_fingerprint_is_sha_256() -> None:
    assert fingerprint(b"").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_a_missing_key_is_named() -> None:
    mac = keyring(2).sign("a")
    with pytest.raises(BadSignature, match="scope gw/test has no key 'k2' here"):
        keyring(1).verify(mac, "a")


def test_a_key_file_gives_its_keys_back_and_never_shows_them() -> None:
    keys = {"k1": bytes(KEY_BYTES), "k2": b"x" * KEY_BYTES}
    raw = write_key_file("k2", keys)
    said = read_key_file(raw)
    assert (said.current, said.keys) == ("k2", keys)
    assert "xxx" not in repr(said)
    assert read_keyring("gw/test", raw).ids == ("k1", "k2")
