"""Affinity: what stays where it is, what spreads, and where affinity yields."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from fakes.policies import (
    endpoints,
    keyed,
    keyring,
    policy,
    rule,
    service,
    snapshot,
    tier,
    view,
)
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.request import prompt_prefix
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir

NOW = 1_000.0
BY_SESSION = ir.HashKey("session")
MANY = 200


def addresses(count: int) -> list[str]:
    return [f"10.0.{number // 250}.{number % 250 + 1}:1" for number in range(count)]


def running(*at: str, key: ir.HashKey = BY_SESSION, **fields: Any) -> Snapshot:
    one = tier("t", "a", balance=ir.Balance("Hash", key))
    return snapshot(
        policy("chat", rule("default", one)), service("a", **fields), endpoints("a", *at)
    )


def home(of: Snapshot, signals: SignalTable | None = None, *, seed: int = 1, **fields: Any) -> str:
    verdict = decide(of, view(**fields), signals or SignalTable(), now=NOW, rng=Random(seed))
    assert isinstance(verdict, Decision)
    return verdict.candidate.endpoint.address


@pytest.mark.parametrize("count", [3, 16, 17, 64])
def test_a_session_stays_on_one_endpoint_and_sessions_spread(count: int) -> None:
    of, again = running(*addresses(count)), running(*reversed(addresses(count)))
    homes = Counter[str]()
    for number in range(100 * count):
        homes[home(of, session=f"s{number}")] += 1
    assert len(homes) == count
    # Chance alone is a tenth off; beyond the window the gaps on the ring differ, too.
    assert max(homes.values()) < (140 if count <= 16 else 190)
    sessions = [f"s{number}" for number in range(50)]
    assert [home(of, session=one) for one in sessions] == [
        home(again, session=one, seed=2) for one in sessions
    ]


@pytest.mark.parametrize(("count", "moved_max"), [(3, 0.0), (16, 0.0), (MANY, 0.02)])
def test_hash_moves_few_but_the_sessions_of_an_endpoint_that_left(
    count: int, moved_max: float
) -> None:
    at = addresses(count)
    before, after = running(*at), running(*at[1:])
    sessions = [f"s{number}" for number in range(2_000)]
    homes = {one: home(before, session=one) for one in sessions}
    moved = [one for one in sessions if homes[one] not in (at[0], home(after, session=one))]
    assert len(moved) <= moved_max * len(sessions)


def test_long_sessions_that_differ_at_their_ends_spread_too() -> None:
    of = running(*addresses(3))
    assert len({home(of, session="s" * 80 + tail) for tail in "0123456789"}) > 1


@pytest.mark.parametrize("count", [3, MANY])
def test_nobody_carries_more_than_the_bound(count: int) -> None:
    of, signals = running(*addresses(count)), SignalTable()
    for number in range(4 * count):
        at = home(of, signals, session=f"s{number % 3}")
        signals[f"ai/a@{at}"].dispatched(NOW)
        assert signals[f"ai/a@{at}"].in_flight <= -(-5 * (number + 1) // (4 * count))


def test_a_session_comes_home_when_its_endpoint_has_room_again() -> None:
    of, signals = running(*addresses(3)), SignalTable()
    first = home(of, signals, session="s")
    for _ in range(10):
        signals[f"ai/a@{first}"].dispatched(NOW)
    assert home(of, signals, session="s") != first
    for _ in range(10):
        signals[f"ai/a@{first}"].released(NOW, since=NOW)
    assert home(of, signals, session="s") == first


def test_the_bound_counts_those_that_are_in_alone() -> None:
    at = addresses(4)
    of, signals = running(*at), SignalTable()
    for address in at[2:]:
        signals[f"ai/a@{address}"].breaker.probed(NOW, well=False)
    for address in at[:2]:
        signals[f"ai/a@{address}"].dispatched(NOW)
    # Two requests on two: a third is within 1.25 of the mean of two, not of the mean of four.
    assert len({home(of, signals, session="s", seed=seed) for seed in range(30)}) == 1


def order(of: Snapshot, session: str) -> list[str]:
    """The key's order: its home, where it goes without that one, and so on."""
    signals = SignalTable()
    found: list[str] = []
    for _ in of.backends["ai/a"].endpoints:
        found.append(home(of, signals, session=session))
        signals[f"ai/a@{found[-1]}"].in_flight = 99
    return found


@pytest.mark.parametrize(
    ("state", "rank"),
    [
        pytest.param({}, 0, id="idle"),
        pytest.param({0: 1, 1: 1, 2: 1, 3: 1}, 0, id="all-alike"),
        pytest.param({0: 2, 1: 2, 2: 2, 3: 1}, 0, id="at-the-mean"),
        pytest.param({0: 2}, 1, id="home-above-the-bound"),
        pytest.param({0: 3, 1: 3}, 2, id="two-above-the-bound"),
        pytest.param({0: "out"}, 1, id="home-ejected"),
        pytest.param({0: "out", 1: 3}, 2, id="ejected-and-busy"),
        pytest.param({0: 4, 1: 4, 2: 4, 3: 3}, 3, id="home-full"),
    ],
)
def test_a_key_goes_to_the_first_in_its_order_that_has_room(
    state: dict[int, int | str], rank: int
) -> None:
    of, signals = running(*addresses(4), max_in_flight=4), SignalTable()
    ranked = order(of, "s")
    for at, said in state.items():
        signal = signals[f"ai/a@{ranked[at]}"]
        if said == "out":
            signal.breaker.probed(NOW, well=False)
        for _ in range(said if isinstance(said, int) else 0):
            signal.dispatched(NOW)
    assert home(of, signals, session="s") == ranked[rank]


def test_keys_stay_at_home_while_half_of_the_others_are_out() -> None:
    at = addresses(MANY)
    of, signals = running(*at), SignalTable()
    sessions = [f"s{number}" for number in range(500)]
    homes = {one: home(of, session=one) for one in sessions}
    for address in at[::2]:
        signals[f"ai/a@{address}"].breaker.probed(NOW, well=False)
    for one in sessions:
        there = home(of, signals, session=one)
        assert there in at[1::2]
        assert there == homes[one] or homes[one] in at[::2]


def test_a_swap_places_those_alone_that_are_new() -> None:
    builder, entry = SnapshotBuilder(keyring()), endpoints
    one = tier("t", "a", balance=ir.Balance("Hash", BY_SESSION))
    first: tuple[ir.Entry, ...] = (
        policy("chat", rule("default", one)),
        service("a"),
        entry("a", *addresses(40)),
    )

    def applied(*entries: ir.Entry) -> Snapshot:
        return builder.apply(keyed(entries), (), revision="1-1")[0]

    def placed(of: Snapshot) -> set[str]:
        return {name.removeprefix("ai/a@") for name in of.backends["ai/a"].places}

    of = applied(*first)
    assert placed(of) == set()
    homes = {f"s{number}": home(of, session=f"s{number}") for number in range(50)}
    assert placed(of) == set(addresses(40))
    of = applied(entry("a", *addresses(41)[1:]))
    assert placed(of) == set(addresses(40))
    moved = [one for one, at in homes.items() if home(of, session=one) != at]
    assert len(moved) < 10
    assert placed(of) == set(addresses(41))
    # What is gone is not remembered for ever.
    assert placed(applied(entry("a", *addresses(20)))) == set(addresses(20))


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        (ir.HashKey("user"), {"user": "u1"}),
        (ir.HashKey("header", "x-team"), {"headers": {"x-team": "blue"}}),
        (ir.HashKey("prompt_prefix", prefix_bytes=8), {"text": "You are a cook"}),
    ],
    ids=["user", "header", "prompt-prefix"],
)
def test_hash_goes_by_what_it_names(key: ir.HashKey, fields: dict[str, Any]) -> None:
    of = running(*addresses(3), key=key)
    assert len({home(of, seed=seed, **fields) for seed in range(30)}) == 1


def test_hash_without_its_key_goes_by_latency() -> None:
    of, signals = running(*addresses(3)), SignalTable()
    signals["ai/a@10.0.0.1:1"].waited(9.0, NOW, tokens=0, stream=False)
    signals["ai/a@10.0.0.2:1"].waited(0.1, NOW, tokens=0, stream=False)
    signals["ai/a@10.0.0.3:1"].waited(0.1, NOW, tokens=0, stream=False)
    assert {home(of, signals, seed=seed) for seed in range(30)} == {"10.0.0.2:1", "10.0.0.3:1"}


def test_prompts_that_begin_alike_meet_and_others_spread() -> None:
    of = running(*addresses(8), key=ir.HashKey("prompt_prefix", prefix_bytes=64))
    system = "You are a patient teacher of mathematics, and you never give the answer away."
    ask = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    alike, others = set[str](), set[str]()
    for number in range(20):
        ask[1]["content"] = f"question {number}"
        alike.add(home(of, payload={"messages": ask}))
        others.add(home(of, text=f"{number} is the number that I think of. Which is the next?"))
    assert len(alike) == 1
    assert len(others) > 3


@pytest.mark.parametrize(
    ("payload", "size", "prefix"),
    [
        ({"prompt": "hello world"}, 5, b"hello"),
        ({"prompt": "hello"}, 99, b"hello"),
        ({"input": ["one", "two"]}, 99, b"one\ntwo"),
        ({"messages": [{"role": "user", "content": "hi"}]}, 99, b"user:hi"),
        (
            {
                "messages": [
                    {"role": "system", "content": "be"},
                    {"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "image"}]},
                ]
            },
            99,
            "system:be\nuser:é".encode(),
        ),
        ({"messages": [{"role": 3, "content": "hi"}, "none", {"content": None}]}, 99, b"hi"),
        ({"messages": "none"}, 99, b""),
        ({}, 99, b""),
        ({"prompt": "ééé"}, 3, "é".encode() + "é".encode()[:1]),
        ({"prompt": "\ud800"}, 9, b"?"),
    ],
)
def test_the_prefix_is_what_an_engine_sees_first(
    payload: dict[str, Any], size: int, prefix: bytes
) -> None:
    assert prompt_prefix(payload, size) == prefix


@pytest.mark.parametrize("said", ["\udcff", "ü", ""])
def test_a_header_that_is_no_utf_8_is_a_key_like_any(said: str) -> None:
    for source in (ir.HashKey("session"), ir.HashKey("header", header="x-shard")):
        made = running(*addresses(3), key=source)
        seen = view(session=said, headers={"x-shard": said})
        assert isinstance(decide(made, seen, SignalTable(), now=NOW, rng=Random(1)), Decision)
