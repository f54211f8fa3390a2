"""What could not be told of a long text is explained as it was decided."""

from typing import Any

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.explainer import Explainer
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

UNTOLD = "a text that is too long to tell"
CONTAINS = 'request.prompt.contains("patient")'
LONG = "patient refund " + "a" * 8_000_000


def no_intents(declared: Any) -> Any:
    raise AssertionError(f"nobody embeds {declared}")


async def explained(text: str, **messages: str) -> form.Explanation:
    said = {"user": text, **messages}
    payload = {"messages": [{"role": role, "content": one} for role, one in said.items()]}
    rules = [
        rule("words", tier("t", "a"), match=ir.Match(keywords=("refund",))),
        rule("when", tier("t", "a"), when=CONTAINS),
        rule("system", tier("t", "a"), match=ir.Match(system_prompt=("be brief",))),
        rule("rest", tier("t", "a")),
    ]
    rail = ir.Guardrail("rail", "ai/p", (), CONTAINS)
    explainer = Explainer(
        reader=Reader(complexity=lambda text: 0.4, embed_intents=no_intents),
        signals=SignalTable(),
        clock=lambda: 1_000.0,
    )
    running = snapshot(backend("a"), policy("p", *rules, guardrails=(rail,)))
    return await explainer.explain(running, view(payload=payload))


async def test_a_guardrail_that_cannot_be_told_applies_and_says_so() -> None:
    short, long = await explained("hello"), await explained(LONG)
    assert [(one.applies, one.failed) for one in short.guardrails] == [(False, False)]
    assert [(one.applies, one.failed) for one in long.guardrails] == [(True, True)]


async def test_rules_that_cannot_be_told_are_passed_by_and_say_why() -> None:
    found = await explained(LONG, system="be brief" + "b" * 8_000_000)
    assert found.rule == "rest"
    words, when, system, _ = found.rules
    assert [(one.field, one.has) for one in words.fields] == [("keywords", UNTOLD)]
    assert (when.held, when.fields) == (None, ())
    assert [(one.field, one.has) for one in system.fields] == [("systemPrompt", UNTOLD)]


async def test_rules_that_match_say_nothing_of_it() -> None:
    found = await explained("a refund, please")
    assert found.rule == "words"
    words, when, system, rest = found.rules
    assert (words.matches, words.fields, words.held) == (True, (), True)
    assert (when.matches, when.held) == (False, False)
    assert [one.field for one in system.fields] == ["systemPrompt"]
    assert system.fields[0].has != UNTOLD
    assert rest.matches
