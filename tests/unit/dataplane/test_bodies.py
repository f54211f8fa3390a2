"""Bodies on their way: what they hold together is bounded, and the oldest gives way."""

from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.front.bodies import Bodies


class Body:
    """A body that knows whether it gave way."""

    def __init__(self) -> None:
        self.gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1


def test_the_body_that_is_on_its_way_the_longest_gives_way() -> None:
    bodies, (first, second, third) = Bodies(100), [Body() for _ in range(3)]
    bodies.grew(first, 30)
    bodies.grew(second, 40)
    bodies.grew(first, 60)
    assert (bodies.held_bytes, first.gave_way) == (100, 0)
    bodies.grew(third, 1)
    assert [one.gave_way for one in (first, second, third)] == [1, 0, 0]
    assert bodies.held_bytes == 41


def test_what_is_larger_than_all_room_gives_way_itself() -> None:
    bodies, only = Bodies(100), Body()
    bodies.grew(only, 101)
    assert (only.gave_way, bodies.held_bytes, len(bodies)) == (1, 0, 0)


def test_a_body_that_has_left_never_gives_way() -> None:
    bodies, first, second = Bodies(100), Body(), Body()
    bodies.grew(first, 90)
    bodies.left(first)
    bodies.left(first)
    bodies.grew(second, 100)
    assert (first.gave_way, second.gave_way, bodies.held_bytes) == (0, 0, 100)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 150), st.booleans())))
def test_what_is_held_is_the_sum_and_never_more_than_the_limit(
    steps: list[tuple[int, int, bool]],
) -> None:
    bodies, all_of_them = Bodies(100), [Body() for _ in range(10)]
    sizes: dict[int, int] = {}
    for number, size, leaves in steps:
        one = all_of_them[number]
        if leaves:
            bodies.left(one)
            sizes.pop(number, None)
            continue
        sizes[number] = size
        before = [each.gave_way for each in all_of_them]
        bodies.grew(one, size)
        for other, each in enumerate(all_of_them):
            if each.gave_way > before[other]:
                del sizes[other]
        assert bodies.held_bytes == sum(sizes.values()) <= 100
        assert len(bodies) == len(sizes)
