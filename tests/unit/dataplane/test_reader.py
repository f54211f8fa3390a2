"""What a policy wants to know of a request is read, once, and nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.choosing.context import CONTEXT
from switchboard_dataplane.decision.running import Policy
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.reading.intents import Intent, Intents
from switchboard_dataplane.signals.sessions import Past
from switchboard_policy import ir

ROUTER = "sha256:" + "1" * 64
TASK = "Write a Python function that reverses a list, with unit tests."


def running(select: ir.Select | None = None, when: str = "") -> Policy:
    tiers = tier("small", "a"), tier("large", "b")
    rules = (rule("r", tiers[0], when=when),) if when else ()
    said = policy("chat", *rules, rule("default", *tiers, select=select))
    return snapshot(said, backend("a"), backend("b")).policies["ai/chat"]


class Asked:
    """Counts who is asked."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}

    def _ask(self, name: str) -> None:
        self.count[name] = self.count.get(name, 0) + 1

    def complexity(self, text: str) -> float:
        self._ask("complexity")
        return 0.25

    def predict(self, text: str, digest: str) -> Mapping[str, float]:
        self._ask(digest)
        return {"small": 0.5}

    def embed(self, text: str) -> Any:
        self._ask("embedding")
        return text

    def past(self, policy: str, session: str) -> Past:
        self._ask("past")
        return Past(0.5, f"{policy}/{session}")

    def reader(self) -> Reader:
        return Reader(
            complexity=self.complexity,
            embed_intents=_none,
            predict=self.predict,
            embed=self.embed,
            past=self.past,
        )


def _none(declared: tuple[ir.Intent, ...]) -> Intents:
    raise AssertionError(f"nobody embeds {declared}")


@pytest.mark.parametrize(
    ("select", "expected", "asked"),
    [
        (ir.Select("Complexity", thresholds_permille=(500,)), {"complexity": 0.25}, "complexity"),
        (ir.Select("Neighbours"), {"embedding": TASK}, "embedding"),
        (
            ir.Select("Complexity", thresholds_permille=(500,), router=ROUTER),
            {f"router:{ROUTER}": {"small": 0.5}},
            ROUTER,
        ),
        (ir.Select("Task"), {}, ""),
    ],
    ids=["complexity", "neighbours", "own router", "task"],
)
async def test_a_select_is_told_what_it_goes_by_and_no_more(
    select: ir.Select, expected: Mapping[str, Any], asked: str
) -> None:
    said, seen = Asked(), view(TASK)
    await said.reader().read(running(select), seen)
    assert seen.readings == {"task": "code", **expected}
    assert said.count == ({asked: 1} if asked else {})


async def test_intents_and_neighbours_go_by_one_vector() -> None:
    said, seen, near = Asked(), view(TASK), [1.0, 0.0]

    def embed(text: str) -> Any:
        said.embed(text)
        return np.array(near, np.float32)

    reader = Reader(
        complexity=said.complexity,
        embed_intents=lambda declared: Intents([Intent("code", declared[0].examples)], embed),
        embed=embed,
    )
    tiers = tier("small", "a"), tier("large", "b")
    asked = policy(
        "chat",
        rule("r", *tiers, when='"none" in signals.intents'),
        rule("default", *tiers, select=ir.Select("Neighbours")),
        intents=(ir.Intent("code", ("def f",), 400),),
    )
    made = snapshot(asked, backend("a"), backend("b")).policies["ai/chat"]
    await reader.read(made, seen)
    assert seen.readings["intents"] == ("code",)
    assert said.count == {"embedding": 2}, "an example's and the request's"


async def test_a_bandits_context_is_made_of_the_task_and_the_length() -> None:
    said, seen = Asked(), view(TASK)
    await said.reader().read(running(ir.Select("Bandit", router=ROUTER)), seen)
    context = dict(zip(CONTEXT, seen.readings["context"], strict=True))
    assert context["task_code"] == 1.0
    assert said.count == {ROUTER: 1}


async def test_the_past_of_a_conversation_is_asked_for_where_there_is_one() -> None:
    when = 'signals.sessionCost > 1.0 || signals.lastModel == "ai/b"'
    said, made = Asked(), running(when=when)
    assert made.recalls
    assert not running().recalls
    seen, nobody = view(session="s"), view()
    for one in (seen, nobody):
        await said.reader().read(made, one)
    assert seen.readings == {"sessionCost": 0.5, "lastModel": "ai/chat/s"}
    assert nobody.readings == {"sessionCost": 0.0, "lastModel": ""}


async def test_what_was_read_is_not_read_again() -> None:
    said, seen = Asked(), view(TASK, session="s")
    reader, made = said.reader(), running(ir.Select("Bandit", router=ROUTER))
    await reader.read(made, seen)
    before = seen.readings
    reader.read_now(made, seen)
    assert seen.readings is before
    reader.read_now(running(ir.Select("Neighbours")), seen)
    assert seen.readings == {**before, "embedding": TASK}
    assert said.count == {ROUTER: 1, "embedding": 1}
