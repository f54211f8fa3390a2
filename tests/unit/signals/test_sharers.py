"""Who reads an endpoint: one live pod, the same for all, and as few changes as can be."""

from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.signals.sharers import Sharers, owner_of

ENDPOINTS = [f"ai/llama@10.0.{number // 250}.{number % 250}:8000" for number in range(600)]
PODS = st.lists(st.text("abc-0123", min_size=1, max_size=12), min_size=2, max_size=8, unique=True)


def sharers_of(*pods: str) -> Sharers:
    """Those of the first pod, who has heard all of them at 100."""
    sharers = Sharers(pods[0])
    for pod in pods:
        sharers.heard(pod, 100.0)
    return sharers


@given(PODS)
def test_each_endpoint_has_one_owner_and_all_agree(pods: list[str]) -> None:
    views = [sharers_of(one, *(other for other in pods if other != one)) for one in pods]
    for endpoint in ENDPOINTS[:40]:
        assert sum(view.is_mine(endpoint) for view in views) == 1


@given(PODS)
def test_a_pod_that_goes_moves_only_its_own(pods: list[str]) -> None:
    for endpoint in ENDPOINTS[:40]:
        before = owner_of(endpoint, pods)
        if before != pods[0]:
            assert owner_of(endpoint, pods[1:]) == before


def test_the_shares_are_about_equal() -> None:
    pods = [f"switchboard-gateway-7d4b9c-{number}" for number in range(6)]
    shares = [sum(owner_of(one, pods) == pod for one in ENDPOINTS) for pod in pods]
    assert min(shares) > 60
    assert max(shares) < 145


def test_alone_a_pod_reads_everything() -> None:
    assert all(Sharers("me").is_mine(one) for one in ENDPOINTS)


def test_one_that_registered_counts_from_the_start() -> None:
    sharers = Sharers("a")
    sharers.registered(["a", "b"], 100.0)
    assert sharers.live == {"a", "b"}
    sharers.heard("a", 100.5)
    assert sharers.live == {"a", "b"}


def test_one_that_should_have_been_heard_and_was_not_is_gone_and_comes_back() -> None:
    sharers = Sharers("a")
    sharers.registered(["a", "b", "old"], 100.0)
    for second in range(5):
        sharers.heard("a", 100.5 + second)
        sharers.heard("b", 100.7 + second)
        sharers.registered(["a", "b", "old"], 100.9 + second)
    assert sharers.live == {"a", "b"}
    for second in range(5, 10):
        sharers.heard("a", 100.5 + second)
    assert sharers.live == {"a"}
    sharers.heard("b", 111.0)
    assert sharers.live == {"a", "b"}


def test_while_nobody_is_heard_not_even_oneself_all_stays_as_it_was() -> None:
    sharers = sharers_of("a", "b", "c")
    for second in range(60):
        sharers.registered(["a", "b", "c"], 100.0 + second)
    assert sharers.live == {"a", "b", "c"}
    sharers.heard("a", 161.0)
    assert sharers.live == {"a", "b", "c"}, "the others have time to be heard again"
    for second in range(5):
        sharers.heard("b", 161.5 + second)
        sharers.heard("a", 162.0 + second)
    assert sharers.live == {"a", "b"}


def test_ownership_follows_who_is_there() -> None:
    sharers = sharers_of("a", "b")
    mine = {one for one in ENDPOINTS if sharers.is_mine(one)}
    assert 0 < len(mine) < len(ENDPOINTS)
    for second in range(5):
        sharers.heard("a", 101.0 + second)
    assert all(sharers.is_mine(one) for one in ENDPOINTS)
    sharers.heard("b", 105.5)
    sharers.keep_only(mine)
    assert {one for one in ENDPOINTS if sharers.is_mine(one)} == mine


def test_pods_that_are_gone_for_good_are_forgotten() -> None:
    sharers = Sharers("a")
    for number in range(50):
        sharers.heard(f"pod-{number}", float(number))
        sharers.heard("a", number + 0.5)
        sharers.registered(["a"], number + 0.6)
    assert len(sharers.live) <= 5
    assert len(sharers._known) <= 6
