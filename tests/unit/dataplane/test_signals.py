"""Signals: what is remembered of an endpoint, and how it fades."""

import math

import pytest

from fakes.policies import backend, endpoints, keyed, keyring, service
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.signals.average import DECAY_S, FORGOTTEN_S, FRESH_S, Average
from switchboard_dataplane.signals.endpoints import (
    ERROR_WEIGHT,
    ERRORS_MAX,
    GOLDEN_RATIO,
    SPEED_TOKENS_MIN,
    SPEED_TOOK_MIN_S,
    EndpointSignal,
    SignalTable,
    prompt_class,
)
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.state import Update
from switchboard_policy import ir
from switchboard_policy.store import Channel, Revision

NOW = 1_000.0


def test_a_slow_answer_counts_at_once_and_a_quick_one_as_the_old_value_fades() -> None:
    average = Average()
    average.take_peak(1.0, NOW)
    average.take_peak(5.0, NOW)
    assert average.value == 5.0
    average.take_peak(1.0, NOW)
    assert average.value == 5.0
    average.take_peak(1.0, NOW + DECAY_S)
    assert average.value == pytest.approx(1.0 + 4.0 / math.e)


def test_an_average_without_peaks_moves_both_ways_alike() -> None:
    average = Average()
    average.take(4.0, NOW)
    average.take(8.0, NOW + DECAY_S)
    assert average.value == pytest.approx(8.0 - 4.0 / math.e)


def test_a_stale_value_fades_to_the_prior() -> None:
    average = Average()
    average.take(9.0, NOW)
    seen = [average.faded(1.0, NOW + FRESH_S + step * DECAY_S) for step in (-1, 0, 1, 2, 3)]
    assert seen[:2] == [9.0, 9.0]
    assert seen[2:4] == [pytest.approx(1 + 8 / math.e), pytest.approx(1 + 8 / math.e**2)]
    assert seen[4] == 1.0
    assert average.counts(NOW + FRESH_S + FORGOTTEN_S - 0.1)
    assert not average.counts(NOW + FRESH_S + FORGOTTEN_S)


def test_what_was_never_seen_is_the_prior() -> None:
    assert Average().faded(1.5, NOW) == 1.5
    assert not Average().counts(NOW)


@pytest.mark.parametrize(
    ("tokens", "number"),
    [(0, 0), (256, 0), (257, 1), (2_048, 1), (2_049, 2), (16_384, 2), (16_385, 3), (10**9, 3)],
)
def test_prompts_are_in_a_class_by_their_size(tokens: int, number: int) -> None:
    assert prompt_class(tokens) == number


def test_streams_and_whole_answers_of_each_class_are_kept_apart() -> None:
    signal = EndpointSignal()
    signal.answered(0.5, NOW, since=NOW - 0.5, tokens=10, stream=True)
    signal.answered(7.0, NOW, since=NOW - 7.0, tokens=5_000, stream=False)
    assert [one.value for one in signal.ttft_s if one.counts(NOW)] == [0.5]
    assert [one.value for one in signal.latency_s if one.counts(NOW)] == [7.0]
    assert (signal.ttft_s[0].at, signal.latency_s[2].at) == (NOW, NOW)


def test_errors_add_up_to_a_bound_and_fade() -> None:
    signal = EndpointSignal()
    assert signal.penalty(NOW) == 1.0
    signal.failed("reset", NOW, since=NOW)
    assert signal.penalty(NOW) == 1.0 + ERROR_WEIGHT
    for _ in range(100):
        signal.failed("reset", NOW, since=NOW)
    assert signal.penalty(NOW) == 1.0 + ERROR_WEIGHT * ERRORS_MAX
    assert signal.penalty(NOW + DECAY_S) == pytest.approx(1 + ERROR_WEIGHT * ERRORS_MAX / math.e)
    assert signal.penalty(NOW + 10 * DECAY_S) == 1.0


def test_an_attempt_waits_until_it_is_heard_of_and_is_in_flight_until_its_end() -> None:
    table = SignalTable()
    one, other = table["ai/a@10.0.0.1:1"], table["ai/a@10.0.0.2:1"]
    one.dispatched(NOW)
    other.dispatched(NOW)
    assert (one.waiting, one.in_flight, table.backend("ai/a").in_flight) == (1, 1, 2)
    one.heard()
    assert (one.waiting, one.in_flight) == (0, 1)
    one.released(NOW + 1, since=NOW)
    assert (one.waiting, one.in_flight, table.backend("ai/a").in_flight) == (0, 0, 1)


def test_the_speed_of_streams_is_in_tokens_a_second_and_a_fast_one_counts_at_once() -> None:
    signal = EndpointSignal()
    signal.wrote(100, 2.0, NOW)
    assert (signal.tokens_per_s.value, signal.tokens_per_s.at) == (50.0, NOW)
    signal.wrote(100, 1.0, NOW)
    signal.wrote(100, 20.0, NOW)
    assert signal.tokens_per_s.value == 100.0
    signal.wrote(100, 20.0, NOW + DECAY_S)
    assert signal.tokens_per_s.value == pytest.approx(5 + 95 / math.e)


def test_a_stream_that_is_short_or_comes_at_once_tells_nothing_of_speed() -> None:
    signal = EndpointSignal()
    signal.wrote(SPEED_TOKENS_MIN - 1, 1.0, NOW)
    signal.wrote(100, SPEED_TOOK_MIN_S / 2, NOW)
    assert math.isnan(signal.tokens_per_s.value)


def test_who_is_there_at_the_start_is_not_new_and_who_comes_later_is() -> None:
    table = SignalTable()
    table.joined(["ai/a@1"], NOW, new=False)
    table.joined(["ai/a@1", "ai/a@2"], NOW + 5)
    assert table["ai/a@1"].joined_at == -math.inf
    assert table["ai/a@2"].joined_at == NOW + 5
    table.keep_only(frozenset({"ai/a@1"}))
    assert "ai/a@2" not in table
    table.joined(["ai/a@2"], NOW + 9)
    assert table["ai/a@2"].joined_at == NOW + 9


def test_an_endpoint_that_was_ejected_comes_back_slowly() -> None:
    table = SignalTable()
    signal = table["ai/a@1"]
    signal.breaker.probed(NOW, well=False)
    assert signal.joined_at == -math.inf
    signal.breaker.probed(NOW + 3, well=True)
    assert signal.joined_at == NOW + 3


def test_who_is_gone_is_forgotten_when_nothing_is_in_flight() -> None:
    table = SignalTable()
    table["ai/a@1"].dispatched(NOW)
    table["ai/b@1"].heard()
    table.keep_only(frozenset())
    assert set(table) == {"ai/a@1"}
    assert table.backend("ai/a").in_flight == 1
    table["ai/a@1"].released(NOW, since=NOW)
    assert table.backend("ai/a").in_flight == 0
    table.keep_only(frozenset())
    assert not table


def test_turns_are_spread_evenly_and_each_tier_has_its_own() -> None:
    table = SignalTable()
    turns = [table.turn(("p", "r", "t"), lambda: 0.25) for _ in range(1_000)]
    assert turns[:2] == [0.25, pytest.approx(0.25 + GOLDEN_RATIO - (0.25 + GOLDEN_RATIO) // 1)]
    for tenth in range(10):
        assert abs(sum(tenth <= 10 * turn < tenth + 1 for turn in turns) - 100) <= 3
    assert table.turn(("p", "r", "other"), lambda: 0.5) == 0.5


async def test_an_endpoint_is_new_only_after_the_first_readings_of_both_channels() -> None:
    running = InForce(
        SnapshotBuilder(keyring()), keyring=keyring, live_pods=lambda: 1, clock=lambda: NOW
    )
    one, two, three = (f"10.0.0.{number}:1" for number in (1, 2, 3))

    async def apply(policy: int, endpoint: int, *entries: ir.Entry) -> None:
        revisions: dict[Channel, Revision] = {
            "policy": Revision(1 if policy else 0, policy),
            "endpoints": Revision(1 if endpoint else 0, endpoint),
        }
        await running.apply(Update(keyed(entries), frozenset(), revisions, full=False))

    await apply(1, 0, service("a"), backend("b"))
    await apply(1, 1, endpoints("a", one, two))
    await apply(1, 2, endpoints("a", one, two, three))
    await apply(2, 2, backend("c"))
    new = {name for name, signal in running.signals.items() if signal.joined_at == NOW}
    assert new == {f"ai/a@{three}", "ai/c@c.example:8000"}


def test_a_queue_that_was_forgotten_is_found_again_by_what_is_still_in_flight() -> None:
    table = SignalTable()
    table["ai/a@1"].dispatched(1.0)
    table.queue("ai/a")
    table.queues.keep_only(frozenset())
    assert table.queue("ai/a") is table.queues["ai/a"] is table["ai/a@1"].backend.queue


def test_how_long_requests_take_is_measured_where_somebody_waits_and_nowhere_else() -> None:
    table = SignalTable()
    for name in ("ai/a@1", "ai/b@1"):
        table[name].dispatched(1.0)
    queue = table.queue("ai/a")
    for name in ("ai/a@1", "ai/b@1"):
        table[name].heard()
        table[name].released(4.0, since=1.0)
    assert queue.took_s.value == 3.0
    assert set(table.queues) == {"ai/a"}
