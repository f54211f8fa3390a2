"""What all that is asked beside an answer comes to."""

from switchboard_dataplane.composition import Composition
from switchboard_dataplane.telemetry.outcome import Aside


def taken(backend: str, cost_microdollars: float | None) -> Aside:
    aside = Aside("mirror", backend, "", 0.1)
    aside.input_tokens, aside.cost_microdollars = 10, cost_microdollars
    return aside


def test_a_judge_without_prices_hides_nothing_of_what_its_mirror_cost_from_the_budget() -> None:
    composition = Composition()
    composition.asides.extend([taken("ai/next", 3.0), taken("ai/judge", None)])
    # The caller is told no figure that is not the whole one.
    assert composition.cost_microdollars() is None
    assert composition.known_picodollars() == 3_000_000.0
