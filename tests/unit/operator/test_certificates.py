"""The webhook's certificate: what is made holds, and a renewal takes its steps in order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from switchboard_operator.certificates import (
    Begin,
    Drop,
    Held,
    Issued,
    Pace,
    Pair,
    Renew,
    Step,
    Use,
    issue,
    next_step,
    read_facts,
    service_names,
    split_bundle,
    take,
)
from switchboard_policy.errors import Malformed

START = datetime(2026, 8, 1, tzinfo=UTC)
NAMES = service_names("switchboard-operator", "system")
PACE = Pace(
    lifetime=timedelta(days=90), settle=timedelta(seconds=30), keep_old_for=timedelta(hours=1)
)


def made(at: datetime = START) -> Issued:
    return issue(NAMES, PACE.lifetime, now=at)


def fresh() -> Held:
    return take(None, Begin(), made(), now=START)


def due(
    held: Held | None,
    now: datetime,
    *,
    names: tuple[str, ...] = NAMES,
    request: str = "",
    published_for: timedelta | None = None,
) -> Step | None:
    return next_step(held, PACE, now=now, names=names, request=request, published_for=published_for)


def test_a_certificate_names_the_service_as_the_api_server_calls_it() -> None:
    facts = read_facts(made().pair)
    assert "switchboard-operator.system.svc" in facts.names
    assert "127.0.0.1" in facts.names
    assert (facts.made, facts.expires) == (START, START + PACE.lifetime)


def test_a_certificate_is_signed_by_its_authority_alone() -> None:
    one, other = made(), made()
    leaf = x509.load_pem_x509_certificate(one.pair.certificate)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(one.authority))
    with pytest.raises(ValueError, match="subject"):
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(other.authority))


def test_a_service_of_any_name_gets_a_certificate() -> None:
    names = service_names("s" * 63, "n" * 63)
    assert set(names) <= read_facts(issue(names, PACE.lifetime, now=START).pair).names


@pytest.mark.parametrize("wrong", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_what_is_no_pair_is_refused(wrong: bytes) -> None:
    pair = made().pair
    with pytest.raises(Malformed):
        read_facts(Pair(wrong, pair.key))
    with pytest.raises(Malformed):
        read_facts(Pair(pair.certificate, wrong))


def test_a_key_of_another_certificate_is_refused() -> None:
    with pytest.raises(Malformed, match="not that of the certificate"):
        read_facts(Pair(made().pair.certificate, made().pair.key))


def test_a_key_is_never_shown() -> None:
    pair = made().pair
    assert pair.key.decode() not in repr(pair)
    assert "PRIVATE" not in repr(fresh())


def test_bundles_are_split_whatever_stands_between_their_certificates() -> None:
    one, other = made().authority, made().authority
    assert split_bundle(b"# one\n" + one + b"\n\n# other\n" + other) == (one, other)
    assert split_bundle(b"\n") == ()
    with pytest.raises(Malformed):
        split_bundle(b"no certificate")


def test_without_anything_a_certificate_is_made_and_used() -> None:
    assert due(None, START) == Begin()
    assert due(fresh(), START) is None


def test_a_certificate_is_renewed_at_two_thirds_of_its_life() -> None:
    held = fresh()
    assert due(held, START + timedelta(days=59)) is None
    assert due(held, START + timedelta(days=60)) == Renew("")


def test_a_demand_is_met_once() -> None:
    held = fresh()
    assert due(held, START, request="now") == Renew("now")
    held = take(held, Renew("now"), made(), now=START)
    held = take(held, Use(), made(), now=START)
    held = take(held, Drop(), made(), now=START)
    assert due(held, START, request="now") is None
    assert due(held, START, request="again") == Renew("again")


def test_a_certificate_without_one_of_the_names_is_replaced() -> None:
    assert due(fresh(), START, names=("renamed.system.svc",)) == Renew("")


def test_the_new_authority_is_trusted_before_its_certificate_is_shown() -> None:
    old = fresh()
    held = take(old, Renew(""), made(), now=START)
    assert held.serving == old.serving
    assert held.authorities[:1] == old.authorities
    assert len(held.authorities) == 2
    assert due(held, START, published_for=None) is None
    assert due(held, START, published_for=PACE.settle - timedelta(seconds=1)) is None
    assert due(held, START, published_for=PACE.settle) == Use()
    used = take(held, Use(), made(), now=START)
    assert (used.serving, used.coming) == (held.coming, None)
    assert used.authorities == held.authorities


def test_the_old_authority_goes_once_every_replica_has_followed() -> None:
    held = take(fresh(), Renew(""), made(), now=START)
    held = take(held, Use(), made(), now=START)
    assert due(held, START + PACE.keep_old_for - timedelta(seconds=1)) is None
    assert due(held, START + PACE.keep_old_for) == Drop()
    left = take(held, Drop(), made(), now=START)
    assert left.authorities == held.authorities[1:]
    assert due(left, START + PACE.keep_old_for) is None


def test_an_expired_certificate_is_replaced_at_once() -> None:
    held = take(fresh(), Renew(""), made(), now=START)
    assert due(held, START + PACE.lifetime) == Begin()
    anew = take(held, Begin(), made(), now=START)
    assert len(anew.authorities) == 1
    assert anew.coming is None


def test_a_certificate_that_no_kept_authority_signed_is_replaced_at_once() -> None:
    assert due(replace(fresh(), authorities=()), START) == Begin()
    assert due(replace(fresh(), authorities=(made().authority,)), START) == Begin()
