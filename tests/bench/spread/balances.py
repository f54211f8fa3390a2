"""The balances that are compared: ours, two that know less, and an oracle that knows all."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final, Protocol

from spread.engines import Ask, Engine

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir


class Balance(Protocol):
    """A policy under test."""

    def choose(self, ask: Ask, now: float) -> int:
        """Return the number of the engine that gets the request."""
        ...

    def began(self, ask: Ask, now: float) -> None:
        """Hear that the first token came."""
        ...

    def ended(self, ask: Ask, now: float) -> None:
        """Hear that the answer is complete."""
        ...


class _Deaf:
    """Learns nothing from answers."""

    def began(self, ask: Ask, now: float) -> None:
        """Hear that the first token came."""

    def ended(self, ask: Ask, now: float) -> None:
        """Hear that the answer is complete."""


class RoundRobin(_Deaf):
    """One engine after another, at each gateway."""

    def __init__(self, engines: Sequence[Engine], gateways: int, rng: Random) -> None:
        self._count = len(engines)
        self._turns = [rng.randrange(self._count) for _ in range(gateways)]

    def choose(self, ask: Ask, now: float) -> int:
        """Return the next one."""
        self._turns[ask.gateway] += 1
        return self._turns[ask.gateway] % self._count


class LeastInFlight(_Deaf):
    """The engine with the fewest requests in flight from this gateway, of all; ties by chance."""

    def __init__(self, engines: Sequence[Engine], gateways: int, rng: Random) -> None:
        self._rng = rng
        self._in_flight = [[0] * len(engines) for _ in range(gateways)]

    def choose(self, ask: Ask, now: float) -> int:
        """Return the one with the fewest."""
        counts = self._in_flight[ask.gateway]
        engine = min(range(len(counts)), key=lambda number: (counts[number], self._rng.random()))
        counts[engine] += 1
        return engine

    def ended(self, ask: Ask, now: float) -> None:
        """Count it out."""
        self._in_flight[ask.gateway][ask.engine] -= 1


class Oracle(_Deaf):
    """The engine whose first token would come first: it sees every queue, size and speed."""

    def __init__(self, engines: Sequence[Engine], gateways: int, rng: Random) -> None:
        self._engines, self._rng = engines, rng

    def choose(self, ask: Ask, now: float) -> int:
        """Return the one that answers first."""
        expected = [engine.expected_s(ask, now) for engine in self._engines]
        return min(range(len(expected)), key=lambda one: (expected[one], self._rng.random()))


class Ours:
    """The product's decision, with signals of its own at each gateway."""

    by: ir.BalanceBy = "Latency"

    def __init__(self, engines: Sequence[Engine], gateways: int, rng: Random) -> None:
        addresses = [f"10.0.0.{number}:8000" for number in range(len(engines))]
        self._numbers = {f"ai/model@{address}": at for at, address in enumerate(addresses)}
        self._ids = list(self._numbers)
        one = tier("all", "model", balance=ir.Balance(self.by))
        self._snapshot = snapshot(
            policy("chat", rule("default", one)), service("model"), endpoints("model", *addresses)
        )
        self._rng = rng
        self._signals = [SignalTable() for _ in range(gateways)]

    def choose(self, ask: Ask, now: float) -> int:
        """Return what a decision says."""
        signals = self._signals[ask.gateway]
        request = view(tokens=ask.prompt, stream=True)
        verdict = decide(self._snapshot, request, signals, now=now, rng=self._rng)
        assert isinstance(verdict, Decision)
        endpoint = verdict.candidate.endpoint
        signals[endpoint.id].dispatched(now)
        return self._numbers[endpoint.id]

    def began(self, ask: Ask, now: float) -> None:
        """Feed the signals as the proxy does."""
        signal = self._signals[ask.gateway][self._ids[ask.engine]]
        signal.heard()
        signal.answered(now - ask.at, now, since=ask.at, tokens=ask.prompt, stream=True)

    def ended(self, ask: Ask, now: float) -> None:
        """Count it out as the proxy does."""
        signal = self._signals[ask.gateway][self._ids[ask.engine]]
        signal.released(now, since=ask.at)
        signal.wrote(ask.output, now - ask.first_at, now)


Make = Callable[[Sequence[Engine], int, Random], Balance]
OURS: Final = "latency"
BALANCES: Final[Mapping[str, Make]] = {
    "round_robin": RoundRobin,
    "least_in_flight": LeastInFlight,
    OURS: Ours,
    "oracle": Oracle,
}
