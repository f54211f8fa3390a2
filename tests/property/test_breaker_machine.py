"""Whatever happens to requests: breakers open by their rule, let one through, close on its answer.

The model beside it knows only what the rule says, and keeps every answer that it has seen.
"""

from dataclasses import dataclass, field
from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from switchboard_dataplane.errors import Failure
from switchboard_dataplane.signals.breaker import COUNTED, Breaker, Ejections
from switchboard_policy import ir

RULE = ir.Breaker(consecutive_failures=3, failure_rate_permille=600, open_for_ms=10_000)
OPEN_FOR_S = 10.0
IDS = ("ai/one@a:1", "ai/one@b:1")
FAILURES = st.sampled_from(get_args(Failure))
CHOICE = st.integers(0, 1_000)


@dataclass
class Model:
    """What the rule says of an endpoint. ``trying`` is when the one let through began."""

    row: int = 0
    is_open: bool = False
    due_at: float = 0.0
    trying: float | None = None
    unwell: bool = False
    failed_at: float = float("-inf")
    news_from: float = float("-inf")

    @property
    def out(self) -> bool:
        return self.is_open or self.unwell

    def due(self, now: float) -> bool:
        return self.is_open and self.trying is None and not self.unwell and now >= self.due_at


@dataclass(frozen=True)
class Running:
    endpoint_id: str
    since: float
    tries: bool = field(default=False)


class Breakers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.ejected = Ejections(rule_of=lambda _: RULE)
        self.breakers = {one: Breaker(one, self.ejected) for one in IDS}
        self.models = {one: Model() for one in IDS}
        self.running: list[Running] = []

    def tick(self) -> None:
        """No two things happen at the same instant."""
        self.now += 0.001

    @rule(endpoint_id=st.sampled_from(IDS), panic=st.booleans())
    def begin(self, endpoint_id: str, *, panic: bool) -> None:
        self.tick()
        model = self.models[endpoint_id]
        if model.out and not model.due(self.now) and not panic:
            return
        tries = model.is_open and model.trying is None and self.now >= model.due_at
        if tries:
            model.trying = model.news_from = self.now
        self.breakers[endpoint_id].dispatched(self.now)
        self.running.append(Running(endpoint_id, self.now, tries=tries))

    @rule(endpoint_id=st.sampled_from(IDS), panic=st.booleans())
    def break_down(self, endpoint_id: str, *, panic: bool) -> None:
        """What a machine left to chance would rarely meet: failures in a row."""
        for _ in range(3):
            before = len(self.running)
            self.begin(endpoint_id, panic=panic)
            if len(self.running) > before:
                self.fail(before, "connect")

    @rule(endpoint_id=st.sampled_from(IDS))
    def wait_until_due(self, endpoint_id: str) -> None:
        """Let the time come at which the endpoint is tried, and try it."""
        model = self.models[endpoint_id]
        if model.is_open and model.trying is None:
            self.now = max(self.now, model.due_at)
            self.begin(endpoint_id, panic=False)

    @precondition(lambda self: self.running)
    @rule(which=CHOICE)
    def succeed(self, which: int) -> None:
        self.tick()
        one = self.take(which)
        model = self.models[one.endpoint_id]
        if one.since >= model.news_from:
            self.close(model)
        self.breakers[one.endpoint_id].succeeded(self.now, since=one.since)
        self.leave(one)

    @precondition(lambda self: self.running)
    @rule(which=CHOICE, failure=FAILURES)
    def fail(self, which: int, failure: Failure) -> None:
        self.tick()
        one = self.take(which)
        model = self.models[one.endpoint_id]
        if one.since >= model.news_from:
            if failure in COUNTED:
                if self.now - model.failed_at > 60.0:
                    model.row = 0
                model.row += 1
                model.failed_at = self.now
                if model.trying is not None or (not model.is_open and model.row >= 3):
                    model.is_open, model.trying = True, None
                    model.news_from, model.due_at = self.now, self.now + OPEN_FOR_S
            elif model.trying is not None:
                self.close(model)
        self.breakers[one.endpoint_id].failed(failure, self.now, since=one.since)
        self.leave(one)

    @precondition(lambda self: self.running)
    @rule(which=CHOICE)
    def give_up(self, which: int) -> None:
        self.tick()
        self.leave(self.take(which))

    @rule(endpoint_id=st.sampled_from(IDS), well=st.booleans())
    def probe(self, endpoint_id: str, *, well: bool) -> None:
        self.tick()
        self.models[endpoint_id].unwell = not well
        self.breakers[endpoint_id].probed(self.now, well=well)

    @rule(seconds=st.sampled_from([0.5, 4.0, 9.5, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(endpoint_id=st.sampled_from(IDS))
    def go_and_come_back(self, endpoint_id: str) -> None:
        if self.models[endpoint_id].out:
            self.ejected.keep_only(set(IDS) - {endpoint_id})
            self.models[endpoint_id] = Model()
            self.running = [one for one in self.running if one.endpoint_id != endpoint_id]

    def take(self, which: int) -> Running:
        return self.running.pop(which % len(self.running))

    def leave(self, one: Running) -> None:
        model = self.models[one.endpoint_id]
        if model.trying is not None and model.trying == one.since:
            model.trying, model.due_at = None, self.now
            model.news_from = self.now
        self.breakers[one.endpoint_id].released(self.now, since=one.since)

    def close(self, model: Model) -> None:
        if model.is_open:
            model.is_open, model.trying, model.news_from = False, None, self.now
        model.row = 0

    @invariant()
    def exactly_those_that_the_rule_says_are_out(self) -> None:
        assert self.ejected.keys() == {one for one, model in self.models.items() if model.out}
        assert sum(self.ejected.counts.values()) == len(self.ejected)
        assert all(number > 0 for number in self.ejected.counts.values())

    @invariant()
    def one_at_most_is_let_through(self) -> None:
        for endpoint_id in IDS:
            trying = self.models[endpoint_id].trying is not None
            assert (self.breakers[endpoint_id].state == "half_open") == trying

    @invariant()
    def who_is_due_is_found_and_nobody_else(self) -> None:
        due = {one for one, model in self.models.items() if model.due(self.now)}
        found = self.ejected.due("ai/one", self.now)
        assert found in due if due else found == ""


Breakers.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestBreakers = Breakers.TestCase
