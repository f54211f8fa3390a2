"""Fake models that answer rightly where a table of outcomes says so, and a gateway before them.

What a model says to a prompt is told by the table alone, so an answer tells which model gave it and
how good it is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from fakes.gateway import Gateway, chat, gateway
from fakes.policies import keyring
from switchboard_cli.fake_model.asks import count_tokens
from switchboard_cli.fake_model.lines import Line
from switchboard_cli.fake_model.server import Serving, serve
from switchboard_cli.fake_model.settings import Settings
from switchboard_cli.folder import Folder
from switchboard_cli.validate import validate
from switchboard_policy import ir
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.world import Gateway as Scope

T = TypeVar("T")
R = TypeVar("R")

#: Every answer has so many words, which are the fake model's tokens.
ANSWER: Final = "It comes to {}."
ANSWER_TOKENS: Final = len(ANSWER.split())
#: Requests that are under way at a time.
CALLERS: Final = 8

_BACKEND: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: ModelBackend
metadata: {{name: {name}, namespace: default}}
spec:
  model: fake-model
  external: {{provider: openai-compatible, url: "http://127.0.0.1:{port}/v1"}}
  pricing: {{inputPerMillion: "{price}", outputPerMillion: "{price}"}}
---
"""


@dataclass(frozen=True, slots=True)
class Table:
    """How well each model answers each prompt, in [0, 1], and its price in dollars per million.

    Prompts are different texts. An answer that is wholly right is the same from every model;
    others differ, or are all the same where ``wrong_agree``.
    """

    prompts: Sequence[str]
    qualities: Mapping[str, Sequence[float]]
    prices: Mapping[str, float]
    wrong_agree: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.qualities)

    def says(self, model: str, place: int) -> str:
        """Return what a model says to a prompt."""
        right = 100 * (place + 1)
        if self.qualities[model][place] == 1.0:
            return ANSWER.format(right)
        return ANSWER.format(right + 1 + (0 if self.wrong_agree else self.models.index(model)))

    def cost(self, model: str, place: int) -> float:
        """Return what a model costs for a prompt, in dollars."""
        tokens = count_tokens(self.prompts[place]) + ANSWER_TOKENS
        return self.prices[model] * tokens / 1e6

    def lines(self, model: str) -> tuple[Line, ...]:
        """Return the script of a model."""
        return tuple(
            Line(prompt=prompt, say=self.says(model, place))
            for place, prompt in enumerate(self.prompts)
        )

    def turned(self, model: str, quality: float = 0.0) -> "Table":
        """Return the table as it is after a model has turned bad: always ``quality``."""
        return replace(self, qualities={**self.qualities, model: [quality] * len(self.prompts)})


@dataclass(frozen=True, slots=True)
class Served:
    """An answer: to which prompt, from which model, how good it is, and what it cost in dollars.

    ``decision`` is the id by which it can be rated, "" without one.
    """

    place: int
    model: str
    quality: float
    cost: float
    reason: str
    decision: str


@dataclass
class Bench:
    """A gateway before models that know a table."""

    gw: Gateway
    models: Mapping[str, Serving]
    table: Table

    async def ask(self, place: int, model: str = "chat") -> Served:
        """Ask for an answer to a prompt; it is what the model says that the headers name."""
        reply = await self.gw.send(chat(self.table.prompts[place], model=model))
        assert reply.status == 200, reply.body
        said = reply.json["choices"][0]["message"]["content"]
        model = reply.headers["x-switchboard-backend"].partition("/")[2]
        assert said == self.table.says(model, place)
        told = reply.headers.get("x-switchboard-cost")
        return Served(
            place,
            model,
            self.table.qualities[model][place],
            self.table.cost(model, place) if told is None else float(told),
            reply.headers["x-switchboard-reason"],
            reply.headers.get("x-switchboard-decision", ""),
        )

    def turn(self, table: Table) -> None:
        """Let the models answer by another table from now on."""
        self.table = table
        for name, model in self.models.items():
            said = replace(model.engine.settings, lines=table.lines(name))
            model.engine.apply(said, faults_anew=False)


async def each(do: Callable[[T], Awaitable[R]], of: Iterable[T], callers: int = CALLERS) -> list[R]:
    """Do something for each, some at a time, in order; return what came of it, in their order."""
    results: dict[int, R] = {}
    waiting = enumerate(of)

    async def work() -> None:
        for number, one in waiting:
            results[number] = await do(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(work())
    return [results[number] for number in sorted(results)]


@asynccontextmanager
async def bench(table: Table, policy: str, **settings: Any) -> AsyncGenerator[Bench]:
    """Run the models of a table, and a gateway with a policy as people write it."""
    async with AsyncExitStack() as stack:
        models = {
            name: await stack.enter_async_context(
                serve(Settings(name=name, lines=table.lines(name), recorded_requests=0))
            )
            for name in table.models
        }
        backends = "".join(
            _BACKEND.format(name=name, port=models[name].port, price=f"{table.prices[name]:g}")
            for name in table.models
        )
        entries = compiled(backends + policy)
        gw = await stack.enter_async_context(gateway(*entries, **settings))
        yield Bench(gw, models, table)


def compiled(manifests: str) -> list[ir.Entry]:
    """Compile manifests by the operator's compiler; none may have anything wrong with it."""
    with TemporaryDirectory() as name:
        (Path(name) / "world.yaml").write_text(manifests)
        folder = Folder([name])
        read = folder.read()
    findings = validate(read).findings
    assert not findings, findings
    assert not folder.misread
    scope = Scope(name="test", namespace="default")
    compilation = Compiler(scope, keyring()).compile(folder.inventory.world)
    reports = compilation.reports.items()
    assert not {about: one for about, one in reports if one.unresolved or one.quarantined}
    return [one.entry for one in compilation.policy.values()]
