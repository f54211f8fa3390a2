"""When a request is worth a second start, and how many may have one."""

from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.signals.hedging import (
    AGE_MAX_S,
    ANSWERS_MAX,
    ANSWERS_MIN,
    SAVED_MAX,
    Hedges,
    Kind,
)

STREAMS = Kind("ai/chat", "default", "tier-0", "chat", stream=True, prompt_class=0)
WHOLE = STREAMS._replace(stream=False)


def test_too_few_answers_say_nothing() -> None:
    hedges = Hedges()
    for number in range(ANSWERS_MIN - 1):
        hedges.took(STREAMS, 1.0, float(number) / 10)
    assert hedges.p95_s(STREAMS, 4.0) is None
    hedges.took(STREAMS, 1.0, 4.0)
    assert hedges.p95_s(STREAMS, 4.0) == 1.0


def test_one_in_twenty_took_longer() -> None:
    hedges = Hedges()
    for number in range(100):
        hedges.took(STREAMS, float(number % 100), 0.0)
    assert hedges.p95_s(STREAMS, 0.0) == 94.0


def test_kinds_are_apart() -> None:
    hedges = Hedges()
    for _ in range(ANSWERS_MIN):
        hedges.took(STREAMS, 1.0, 0.0)
    assert hedges.p95_s(WHOLE, 0.0) is None


def test_what_is_old_is_forgotten() -> None:
    hedges = Hedges()
    for _ in range(ANSWERS_MIN):
        hedges.took(STREAMS, 1.0, 0.0)
    assert hedges.p95_s(STREAMS, AGE_MAX_S) == 1.0
    assert hedges.p95_s(STREAMS, AGE_MAX_S + 1) is None


@given(st.lists(st.floats(0.0, 600.0), min_size=ANSWERS_MIN, max_size=2 * ANSWERS_MAX))
def test_the_percentile_is_one_of_the_latest_and_a_twentieth_of_them_exceeds_it(
    times: list[float],
) -> None:
    hedges = Hedges()
    for seconds in times:
        hedges.took(STREAMS, seconds, 0.0)
    latest = times[-ANSWERS_MAX:]
    found = hedges.p95_s(STREAMS, 0.0)
    assert found is not None
    assert found in latest
    assert sum(one > found for one in latest) <= len(latest) / 20
    assert sum(one >= found for one in latest) >= len(latest) / 20


@given(st.integers(1, 1_000), st.lists(st.booleans(), max_size=300))
def test_second_starts_are_never_more_than_their_share(permille: int, asks: list[bool]) -> None:
    hedges, started = Hedges(), 0
    for number, asked in enumerate(asks, start=1):
        hedges.count_request("ai/chat", permille=permille)
        if asked and hedges.may_start("ai/chat"):
            hedges.started("ai/chat")
            started += 1
        assert started * 1_000 <= number * permille


def test_quiet_times_save_up_a_few() -> None:
    hedges = Hedges()
    for _ in range(100_000):
        hedges.count_request("ai/chat", permille=20)
    started = 0
    while hedges.may_start("ai/chat"):
        hedges.started("ai/chat")
        started += 1
    assert started == SAVED_MAX


def test_policies_that_are_gone_are_forgotten() -> None:
    hedges = Hedges()
    hedges.count_request("ai/chat", permille=1_000)
    for _ in range(ANSWERS_MIN):
        hedges.took(STREAMS, 1.0, 0.0)
    hedges.keep_only({"ai/other"})
    assert not hedges.may_start("ai/chat")
    assert hedges.p95_s(STREAMS, 0.0) is None
