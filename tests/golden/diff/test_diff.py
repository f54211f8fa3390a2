"""Each folder's ``old`` and ``new`` differ as ``diff.md`` and ``diff.json`` say.

What the first three lines must call a change is written by hand below, and no golden file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from switchboard_cli.review.diff_command import WAYS, differences, status_of
from switchboard_cli.review.sides import Settings

HERE: Final = Path(__file__).parent
PAIRS: Final = sorted(path.name for path in HERE.iterdir() if (path / "new").is_dir())
FIRST_LINES: Final = 3


class Wanted(NamedTuple):
    """The exit status, and what the first three lines say."""

    status: int
    words: tuple[str, ...]


WANTED: Final = {
    "01-rule-unreachable": Wanted(1, ("rule unreachable", '"code"', '"tagged"', "never reached")),
    "02-guardrail-loosened": Wanted(1, ("guardrail loosened", '"eu-only"', "ai/ohio", "reachable")),
    "03-weights-70-70": Wanted(1, ("weights changed", "ai/dublin 50 %, ai/paris 50 %", "70 + 70")),
    "04-fallback-lost": Wanted(1, ("fallback lost", '"spare"', "ai/dublin", "requests fail")),
    "05-name-taken-over": Wanted(1, ("name taken over by namespace sales", "chat", "ai/chat")),
    "06-guardrail-removed": Wanted(1, ("guardrail removed", '"in-europe"', "platform/residency")),
    "07-guardrail-with-a-condition": Wanted(1, ("guardrail loosened", "fewer requests", "ai/ohio")),
    "08-guardrail-tightened": Wanted(1, ("fallback lost", "guardrail added", "serves nobody")),
    "09-name-unserved": Wanted(1, ("model name left unserved", "chat-large", "404")),
    "10-rule-removed": Wanted(1, ("rule removed", '"code"', 'go by rule "default"')),
    "11-rule-order": Wanted(1, ("rule order changed", '"long"', 'wins over "code"')),
    "12-only-renamed": Wanted(1, ("backend renamed", "policy renamed", "ai/ireland")),
    "13-object-refused": Wanted(2, ("object refused", "last good form stays", "juristiction")),
    "14-consent-withdrawn": Wanted(1, ("rule refuses every request", "reference broken")),
    "15-address-and-credential": Wanted(1, ("backend address changed", "elsewhere.test")),
    "16-limits": Wanted(1, ("attempts lowered", "3 → 2", "deadline raised", "60 s → 120 s")),
    "17-select-to-cascade": Wanted(1, ("cascade added", "select removed", '"default"')),
    "18-experiment-changed": Wanted(1, ("experiment changed", "cheap 50 %", "cheap 20 %")),
    "19-texts-logged": Wanted(1, ("texts logged", "ai/chat")),
    "20-no-change": Wanted(0, ("no change in effect",)),
    "21-backend-passes-guardrail": Wanted(1, ("guardrail loosened", "backends have changed")),
    "22-backend-deleted": Wanted(1, ("fallback lost", "backend no longer reachable", "ai/dublin")),
    "23-wildcard-loses-to-exact": Wanted(1, ("name taken over by another policy", "gpt-4o")),
    "24-rule-refuses": Wanted(1, ("rule refuses every request", "guardrail added")),
    "25-recorded-requests": Wanted(1, ("weights changed", "rule added")),
    "26-service-leads-elsewhere": Wanted(1, ("Service port changed", "203.0.113.5", "8001")),
    "27-policy-moves-away": Wanted(1, ("name taken over by namespace ai", "cart", "shop/cart")),
    "28-condition-turned-around": Wanted(1, ("guardrail loosened", "may hold for", "ai/ohio")),
}


def test_each_pair_has_its_words() -> None:
    assert list(WANTED) == PAIRS
    assert len(PAIRS) >= 20


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_differs_as_is_written(
    pair: str, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE / pair)
    log = "log.jsonl" if Path("log.jsonl").exists() else None
    changes, moves = differences("old", "new", log=log, settings=Settings())
    status, words = WANTED[pair]
    assert status_of(changes) == status
    for form in ("text", "markdown"):
        # What Markdown would take for markup is escaped there.
        lines = WAYS[form](changes, moves).replace("\\", "").splitlines()
        said = "\n".join(lines[:FIRST_LINES])
        assert [word for word in words if word not in said] == [], form
    golden(HERE / pair / "diff.md", WAYS["markdown"](changes, moves))
    golden(HERE / pair / "diff.json", WAYS["json"](changes, moves))
