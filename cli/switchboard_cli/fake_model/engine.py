"""The state behind the endpoints: settings in force, queue, faults, chance, counters."""

import os
from collections import Counter
from collections.abc import Callable
from random import Random

from switchboard_cli.fake_model.answers import Script
from switchboard_cli.fake_model.faults import FaultDice
from switchboard_cli.fake_model.lines import Lines
from switchboard_cli.fake_model.metrics import EngineMetrics
from switchboard_cli.fake_model.queueing import Gate
from switchboard_cli.fake_model.records import Records
from switchboard_cli.fake_model.settings import Settings

_MS_PER_S = 1000


class Pace:
    """How long an answer's tokens take, with jitter."""

    def __init__(self, settings: Settings, chance: Random) -> None:
        """Draw the jitter from `chance`."""
        speed = settings.tokens_per_second
        self._settings = settings
        self._chance = chance
        self._token_s = 1 / speed if speed else 0.0
        self.unlimited = not speed

    def first_token_s(self, others_running: int) -> float:
        """Return the wait for the first token while others run."""
        settings = self._settings
        return self._vary((settings.ttft_ms + settings.load_ttft_ms * others_running) / _MS_PER_S)

    def token_s(self) -> float:
        """Return the wait from one token to the next."""
        return self._vary(self._token_s)

    def tokens_s(self, count: int) -> float:
        """Return the time from the first to the last of `count` tokens."""
        return 0.0 if self.unlimited else sum(self.token_s() for _ in range(1, count))

    def _vary(self, wait_s: float) -> float:
        jitter = self._settings.jitter
        if not jitter or not wait_s:
            return wait_s
        return wait_s * (1 + jitter * self._chance.uniform(-1, 1))


class Engine:
    """One fake model. A request binds settings, pace, script and lines once, to its end."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Start with these settings; `reset` comes back to them. The clock tells s since 1970."""
        self.now_s = clock
        self._first_settings = settings
        self._instance = os.urandom(4).hex()  # ids of two servers never meet
        self._answers = 0
        self.in_flight = 0
        self.gate = Gate(settings.max_running)
        self.reset()

    def reset(self) -> None:
        """Go back to the first settings with every counter at zero. Live requests go on."""
        self.metrics = EngineMetrics()
        self.metrics_readers = Counter[str]()  # by their user agents
        self.records = Records(self._first_settings.recorded_requests)
        self._chance = Random(self._first_settings.seed)  # noqa: S311 - repeatable on purpose
        self.dice = FaultDice(self._first_settings.faults, self._first_settings.seed)
        self._put_in_force(self._first_settings)

    def apply(self, settings: Settings, *, faults_anew: bool) -> None:
        """Put settings in force for the requests to come.

        `faults_anew` starts the faults at their full counts; so does another seed.
        """
        reseeded = settings.seed != self.settings.seed
        if reseeded:
            self._chance = Random(settings.seed)  # noqa: S311
        if reseeded or faults_anew:
            self.dice = FaultDice(settings.faults, settings.seed)
        self._put_in_force(settings)

    def _put_in_force(self, settings: Settings) -> None:
        self.settings = settings
        self.pace = Pace(settings, self._chance)
        self.script = Script(name=settings.name, fixed_text=settings.answer_text)
        self.lines = Lines(settings.lines)
        self.gate.set_limit(settings.max_running)
        self.records.set_length(settings.recorded_requests)

    def next_id(self) -> str:
        """Return what makes the next answer's id unique."""
        self._answers += 1
        return f"{self._instance}{self._answers:08x}"
