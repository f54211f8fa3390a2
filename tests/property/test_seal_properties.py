"""Whatever the fields: a signature, a tag or a seal speaks for exactly them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.stores import OURS
from switchboard_policy.errors import BadSeal, BadSignature

FIELDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4)


@given(FIELDS, FIELDS)
def test_a_signature_fits_its_own_fields_only(one: list[str], other: list[str]) -> None:
    mac = OURS.sign(*one)
    OURS.verify(mac, *one)
    assert (OURS.tag("k1", *one) == OURS.tag("k1", *other)) == (one == other)
    if one != other:
        with pytest.raises(BadSignature):
            OURS.verify(mac, *other)


@given(FIELDS, st.text(max_size=20))
def test_no_text_passes_for_a_signature(fields: list[str], mac: str) -> None:
    with pytest.raises(BadSignature):
        OURS.verify(mac, *fields)


@given(FIELDS, FIELDS, st.binary(max_size=60))
def test_a_seal_opens_in_its_own_context_only(
    one: list[str], other: list[str], secret: bytes
) -> None:
    sealed = OURS.seal(secret, *one)
    assert OURS.unseal("k1", sealed, *one) == secret
    if one != other:
        with pytest.raises(BadSeal):
            OURS.unseal("k1", sealed, *other)


@given(FIELDS, st.binary(max_size=80))
def test_no_bytes_pass_for_a_seal(context: list[str], sealed: bytes) -> None:
    with pytest.raises(BadSeal):
        OURS.unseal("k1", sealed, *context)
