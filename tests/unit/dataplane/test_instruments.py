"""The instruments: where an observation lands, and that a reader never sees half of one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.policies import keyring
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.telemetry.instruments import (
    OTHER,
    POINTS_MAX,
    Counter,
    Distribution,
    Histogram,
    Observed,
)
from switchboard_dataplane.telemetry.page import render_page

if TYPE_CHECKING:
    from _typeshed import TraceFunction

READS = 3_000
NEW_POINTS = 3_000


def counter(points_max: int = POINTS_MAX) -> Counter:
    return Counter("things", ("kind",), "Things", points_max=points_max)


def histogram(points_max: int = POINTS_MAX) -> Histogram:
    return Histogram(
        "waits", ("kind",), "Waits", unit="s", bounds=(1.0, 2.0), points_max=points_max
    )


def test_a_bound_belongs_to_its_bucket_and_the_last_takes_the_rest() -> None:
    waits = histogram()
    for value in (0.0, 1.0, 1.5, 2.0, 2.5, 100.0):
        waits.record(("a",), value)
    assert waits.read() == {("a",): Distribution((2, 2, 2), 107.0)}


def test_a_difference_is_what_came_between() -> None:
    later = Distribution((3, 2, 1), 9.0)
    assert later.since(Distribution((1, 2, 0), 4.0)) == Distribution((2, 0, 1), 5.0)
    assert later.count == 6


def test_what_cannot_be_recorded_leaves_the_point_whole() -> None:
    waits = histogram()
    waits.record(("a",), 1.0)
    with pytest.raises(TypeError):
        waits.record(("a",), "soon")  # type: ignore[arg-type]
    assert waits.read() == {("a",): Distribution((1, 0, 0), 1.0)}


def test_points_have_a_limit_and_the_rest_share_one() -> None:
    things, waits = counter(points_max=2), histogram(points_max=2)
    for kind in ("a", "b", "c", "d", "a"):
        things.add((kind,), 2)
        waits.record((kind,), 0.5)
    assert things.read() == {("a",): 4, ("b",): 2, (OTHER,): 4}
    assert {values: one.count for values, one in waits.read().items()} == {
        ("a",): 2,
        ("b",): 1,
        (OTHER,): 2,
    }


@contextmanager
def running(write: Thread, stop: Event) -> Iterator[None]:
    """Run a writer that the interpreter interrupts as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    write.start()
    try:
        yield
    finally:
        stop.set()
        write.join()
        sys.setswitchinterval(before)


def interrupted(write: Callable[[], None], read: Callable[[], None]) -> None:
    """Write, and read between any two instructions of the writer."""

    def trace(frame: FrameType, _event: str, _argument: object) -> "TraceFunction":
        frame.f_trace_opcodes = True
        sys.settrace(None)
        read()
        sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        write()
    finally:
        sys.settrace(before)


def test_a_reader_sees_whole_observations_between_any_two_steps_of_the_writer() -> None:
    waits, seen = histogram(), list[int]()

    def read() -> None:
        found = waits.read().get(("a",), Distribution((0, 0, 0), 0))
        # Threes alone: their sum tells how many there were.
        assert found.total == 3 * found.count
        seen.append(found.count)

    for _ in range(3):
        interrupted(lambda: waits.record(("a",), 3), read)
    assert seen == sorted(seen)
    assert {0, 1, 2} <= set(seen)


def test_a_reader_sees_whole_sums_between_any_two_steps_of_the_writer() -> None:
    things, seen = counter(), list[float]()
    for _ in range(3):
        interrupted(
            lambda: things.add(("a",), 2), lambda: seen.append(things.read().get(("a",), 0))
        )
    assert seen == sorted(seen)
    assert {0, 2, 4} <= set(seen) <= {0, 2, 4, 6}


def test_readers_and_a_writer_of_ever_new_points_do_not_disturb_each_other() -> None:
    waits, things, stop = histogram(), counter(), Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            waits.record((str(number % NEW_POINTS),), 1.0)
            things.add((str(number % NEW_POINTS),))

    seen = 0.0
    with running(Thread(target=write), stop):
        # Until the last new point is there.
        while seen < NEW_POINTS:
            assert all(one.total == one.count for one in waits.read().values())
            now = sum(things.read().values())
            assert now >= seen
            seen = now
    assert len(waits.read()) == len(things.read()) == NEW_POINTS


def test_requests_in_flight_are_counted_while_endpoints_come_and_go() -> None:
    in_force = InForce(SnapshotBuilder(keyring()), keyring=keyring, live_pods=lambda: 1)
    signals, stop = in_force.signals, Event()
    for number in range(100):
        signals[f"ai/b@{number}"].in_flight = 1

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            signals[f"ai/a@{number}"].in_flight = 0
            signals.pop(f"ai/a@{number - 50}", None)

    with running(Thread(target=change), stop):
        for _ in range(READS):
            assert in_force.in_flight()["ai/b"] == 100


def test_the_page_is_read_as_it_was_meant() -> None:
    things, waits = counter(), histogram()
    odd = 'a "quoted"\\ kind\nof two lines'
    things.add((odd,), 1e21)
    things.add(("",), 0.5)
    waits.record(("a",), 1.5)
    held = Observed("held", (), "Held", lambda: {(): 3})
    lost = Observed("lost", (), "Lost", lambda: {(): 4}, rising=True)
    empty = Counter("nothing", (), "Nothing yet")
    page = render_page([things, waits, held, lost, empty])
    families = {one.name: one for one in text_string_to_metric_families(page)}
    assert {name: (one.type, one.documentation) for name, one in families.items()} == {
        "things": ("counter", "Things"),
        "waits_seconds": ("histogram", "Waits"),
        "held": ("gauge", "Held"),
        "lost": ("counter", "Lost"),
    }
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for one in families.values()
        for sample in one.samples
    }
    assert samples == {
        ("things_total", odd): 1e21,
        ("things_total", ""): 0.5,
        ("waits_seconds_bucket", "a", "1.0"): 0,
        ("waits_seconds_bucket", "a", "2.0"): 1,
        ("waits_seconds_bucket", "a", "+Inf"): 1,
        ("waits_seconds_count", "a"): 1,
        ("waits_seconds_sum", "a"): 1.5,
        ("held",): 3,
        ("lost_total",): 4,
    }
