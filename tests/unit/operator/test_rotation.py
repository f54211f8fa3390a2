"""The next step of a rotation follows from what is so; no step makes a data plane lose policy."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator.rotation import (
    AGREED_FOR,
    Add,
    Drop,
    Keys,
    Pace,
    Step,
    Use,
    holding_back,
    next_step,
    take,
)
from switchboard_policy.store import SILENT_MS, Pod, PodSeen, Revision

DAY = timedelta(days=1)
T0 = datetime(2026, 8, 1, tzinfo=UTC)
PACE = Pace(rotate_after=30 * DAY, wait_at_most=timedelta(hours=1), keep_old_for=timedelta(hours=2))
ALONE = Keys(current="a", created={"a": T0}, in_use_since=T0)
COMING = Keys(current="a", created={"a": T0, "b": T0 + DAY}, in_use_since=T0)
GOING = Keys(current="b", created={"a": T0, "b": T0 + DAY}, in_use_since=T0 + 2 * DAY)
SIGNED = Revision(1, 7)


def due(
    keys: Keys,
    now: datetime,
    *,
    pace: Pace = PACE,
    request: str = "",
    waiting_for: tuple[str, ...] = (),
    agreed: timedelta = AGREED_FOR,
) -> Step | None:
    return next_step(keys, pace, now=now, request=request, waiting_for=waiting_for, agreed=agreed)


def pod(
    name: str, *key_ids: str, sequence: int = 7, age_ms: int = 0, refused: Mapping[str, str] = {}
) -> PodSeen:
    said = Pod(name=name, revision=Revision(1, sequence), key_ids=key_ids, refused=refused)
    return PodSeen(pod=said, age_ms=age_ms)


def test_a_key_is_replaced_at_its_age() -> None:
    almost = 30 * DAY - timedelta(seconds=1)
    assert due(ALONE, T0 + almost) is None
    assert due(ALONE, T0 + 30 * DAY) == Add("")


def test_with_an_age_of_zero_a_key_is_replaced_on_demand_alone() -> None:
    never = replace(PACE, rotate_after=timedelta(0))
    assert due(ALONE, T0 + 3650 * DAY, pace=never) is None
    assert due(ALONE, T0 + DAY, pace=never, request="now") == Add("now")


def test_a_demand_is_met_once() -> None:
    after = take(ALONE, Add("leak"), now=T0 + DAY, key_id="b")
    assert after.request == "leak"
    done = take(
        take(after, Use("b"), now=T0 + DAY, key_id=""), Drop(frozenset("a")), now=T0, key_id=""
    )
    assert due(done, T0 + 2 * DAY, request="leak") is None
    assert due(done, T0 + 2 * DAY, request="another") == Add("another")


def test_a_demand_during_a_rotation_waits_for_its_end() -> None:
    assert due(COMING, T0 + DAY, request="now", waiting_for=("p",)) is None
    assert due(GOING, T0 + 2 * DAY, request="now") is None


def test_a_new_key_is_used_once_all_live_data_planes_have_said_twice_that_they_hold_it() -> None:
    soon = T0 + DAY + timedelta(minutes=1)
    assert due(COMING, soon, waiting_for=("p",), agreed=timedelta(0)) is None
    assert due(COMING, soon, agreed=AGREED_FOR - timedelta(seconds=1)) is None
    assert due(COMING, soon) == Use("b")


def test_the_longest_wait_for_a_data_plane_is_bounded() -> None:
    late = T0 + DAY + PACE.wait_at_most
    assert due(COMING, late, waiting_for=("p",), agreed=timedelta(0)) == Use("b", ("p",))


def test_an_old_key_stays_until_all_run_what_the_new_one_signed_and_for_a_while() -> None:
    used = GOING.in_use_since
    assert due(GOING, used + PACE.keep_old_for - timedelta(seconds=1)) is None
    assert due(GOING, used + PACE.keep_old_for, waiting_for=("p",), agreed=timedelta(0)) is None
    assert due(GOING, used + PACE.keep_old_for) == Drop(frozenset("a"))
    late = used + PACE.keep_old_for + PACE.wait_at_most
    assert due(GOING, late, waiting_for=("p",), agreed=timedelta(0)) == Drop(frozenset("a"), ("p",))


def test_steps_lead_from_one_key_to_the_next() -> None:
    added = take(ALONE, Add(""), now=T0 + DAY, key_id="b")
    assert (added.current, added.coming, added.going) == ("a", "b", frozenset())
    used = take(added, Use("b"), now=T0 + 2 * DAY, key_id="c")
    assert (used.current, used.coming, used.going) == ("b", "", frozenset("a"))
    assert used.in_use_since == T0 + 2 * DAY
    assert take(used, Drop(frozenset("a")), now=T0 + 3 * DAY, key_id="c") == replace(
        used, created={"b": T0 + DAY}
    )


def test_a_key_from_a_replica_whose_clock_is_behind_is_still_the_newest() -> None:
    added = take(ALONE, Add(""), now=T0 - DAY, key_id="b")
    assert added.coming == "b"


def test_data_planes_without_the_new_key_hold_it_back() -> None:
    pods = [pod("new", "a", "b"), pod("old", "a"), pod("older-version")]
    assert holding_back(COMING, pods, SIGNED) == ("old", "older-version")


@pytest.mark.parametrize(
    "behind",
    [
        pod("p", "a"),
        pod("p", "a", "b", sequence=6),
        pod("p", "a", "b", refused={"channel/endpoints": "forged"}),
    ],
    ids=["without the key", "at an older revision", "with a channel that it refuses"],
)
def test_data_planes_that_need_the_old_key_hold_its_end_back(behind: PodSeen) -> None:
    assert holding_back(GOING, [behind, pod("q", "a", "b")], SIGNED) == ("p",)


def test_one_refused_object_does_not_hold_a_rotation_back() -> None:
    assert holding_back(GOING, [pod("p", "b", refused={"policy/ai/x": "why"})], SIGNED) == ()


def test_before_the_new_key_has_signed_anything_the_old_one_is_needed() -> None:
    assert holding_back(GOING, [pod("p", "a", "b")], None) == ("p",)


def test_silent_data_planes_are_not_waited_for() -> None:
    assert holding_back(COMING, [pod("p", "a", age_ms=SILENT_MS)], SIGNED) == ()


def test_nobody_holds_back_where_nothing_is_under_way() -> None:
    assert holding_back(ALONE, [pod("p")], None) == ()


PODS = st.lists(
    st.builds(
        pod,
        st.sampled_from(["p", "q", "r"]),
        st.sampled_from(["a", "k0", "k1", "k2"]),
        st.sampled_from(["a", "k0", "k1", "k2"]),
        sequence=st.integers(0, 9),
    ),
    max_size=3,
)
MINUTES = st.integers(0, 60 * 24 * 40).map(lambda minutes: timedelta(minutes=minutes))


@given(st.lists(st.tuples(PODS, MINUTES, MINUTES), max_size=12))
def test_whatever_comes_the_key_in_use_is_there_and_at_most_two_keys_live(
    turns: list[tuple[list[PodSeen], timedelta, timedelta]],
) -> None:
    keys, now, made = ALONE, T0, 0
    for pods, passed, agreed in turns:
        now += passed
        waiting_for = holding_back(keys, pods, SIGNED)
        step = due(
            keys, now, waiting_for=waiting_for, agreed=timedelta(0) if waiting_for else agreed
        )
        if isinstance(step, Use):
            used = keys.coming
            early = now - keys.created[used] < PACE.wait_at_most
            assert not early or all(used in seen.pod.key_ids for seen in pods)
        if step is not None:
            keys = take(keys, step, now=now, key_id=f"k{made}")
            made += 1
        assert keys.current in keys.created
        assert 1 <= len(keys.created) <= 2
