"""``switchboard explain``: its flags, its exit statuses, and a terminal that obeys nobody."""

import io
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from switchboard_cli import __main__ as switchboard
from switchboard_cli.explain import command
from switchboard_cli.explain.text import WIDTH, explained, recalled
from switchboard_cli.terminal import DIM, GREEN, PLAIN, RED, YELLOW
from switchboard_dataplane.explaining import form
from switchboard_dataplane.learning.inputs import Inputs

EXAMPLE = str(Path(__file__).parents[3] / "examples" / "01-quick-start")
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "the secret plan"}]}
REMEMBERED = form.Remembered(
    decision={"id": "d1", "rule": "default", "inputs": {"tokens": 7}, "status": 200},
    age_s=3.0,
    now=form.Now(revision="1-2", same_revision=False, policy=True, rule=False, backend=True),
    readings={"pii": ["email"], "urgent": False, "complexity": 0.25},
    ratings=({"value": 0.5, "source": "judge"},),
    forgotten=("the prompt",),
)


def explanation(**fields: Any) -> form.Explanation:
    said: dict[str, Any] = {
        "outcome": "served",
        "status": 200,
        "message": "ai/a would serve it",
        "source": "pod",
        "revision": "1-1",
        "request": form.Asked(model="chat", api="chat", inputs=Inputs()),
        "permission": form.Permission(client="anybody", allowed=True),
    }
    return form.Explanation(**(said | fields))


def text_of(found: form.Explanation) -> str:
    return "\n".join(line.text for line in explained(found))


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.json"
    path.write_bytes(orjson.dumps(CHAT))
    return path


def test_the_command_explains_by_files(question: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = switchboard.main(["explain", str(question), "--files", EXAMPLE, "--output", "json"])
    found = msgspec.json.decode(capsys.readouterr().out, type=form.Explanation)
    assert (status, found.policy, found.source) == (command.SERVED, "ai/chat", "files")
    assert "the secret plan" not in str(found)


def test_an_address_that_may_not_be_called_drops_its_backend(
    question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--files", EXAMPLE, "--output", "json", "--allow-addresses", ""]
    assert command.main([str(question), *flags]) == command.REJECTED
    found = msgspec.json.decode(capsys.readouterr().out, type=form.Explanation)
    filters = {one.filter for tier in found.tiers for one in tier.candidates}
    assert (found.reason, filters) == ("no_candidate", {"unusable"})


def test_a_request_comes_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(orjson.dumps({**CHAT, "model": "nobody"})))
    monkeypatch.setattr("sys.stdin", stdin)
    assert command.main(["-", "--files", EXAMPLE]) == command.REJECTED
    assert capsys.readouterr().out.startswith("REJECTED    404 model_not_found")


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--files", EXAMPLE),
        ("x.json",),
        ("x.json", "--files", EXAMPLE, "--admin", "http://127.0.0.1:1"),
        ("--decision", "d1", "--files", EXAMPLE),
        ("x.json", "--decision", "d1", "--admin", "http://127.0.0.1:1"),
        ("x.json", "--files", EXAMPLE, "--allow-addresses", "x"),
    ],
)
def test_wrong_flags_are_told(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(flags)
    assert ended.value.code == command.UNREADABLE
    assert "switchboard explain: error" in capsys.readouterr().err


def test_what_cannot_be_read_is_told_and_not_repeated(
    question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    bad = tmp_path / "bad.json"
    bad.write_bytes(orjson.dumps({**CHAT, "messages": "the secret plan"}))
    for flags in (
        [str(tmp_path / "no.json"), "--files", EXAMPLE],
        [str(question), "--files", str(broken)],
        [str(question), "--files", str(tmp_path / "nowhere")],
        [str(bad), "--files", EXAMPLE],
        [str(question), "--admin", "file:///etc/hostname"],
    ):
        assert command.main(flags) == command.UNREADABLE
        error = capsys.readouterr().err
        assert error.startswith("switchboard explain: ")
        assert "the secret plan" not in error


@pytest.mark.parametrize(
    ("outcome", "shade"), [("served", GREEN), ("waits", YELLOW), ("rejected", RED)]
)
def test_the_outcome_comes_first_and_has_its_colour(outcome: Any, shade: str) -> None:
    first = next(explained(explanation(outcome=outcome)))
    assert first.text.startswith(outcome.upper())
    assert first.shade == shade


def test_a_terminal_obeys_nothing_that_a_caller_says() -> None:
    asked = form.Asked(model="\x1b[2Jchat\n\rx", api="chat", inputs=Inputs(tags=("\x07",)))
    text = text_of(explanation(request=asked))
    assert all(one.isprintable() or one == "\n" for one in text)
    assert "chat" in text


def test_no_line_is_wider_than_a_terminal() -> None:
    rails = [
        form.Guardrail(
            name="g" * 60,
            policy="p" * 60,
            applies=True,
            forbids=tuple(f"ai/{'b' * 30}-{number}" for number in range(9)),
            when=" && ".join(["request.tokens > 1"] * 20),
        )
    ]
    lines = list(explained(explanation(guardrails=tuple(rails), notes=("word " * 90,))))
    assert max(len(line.text) for line in lines) <= WIDTH


def test_all_that_an_explanation_says_is_shown() -> None:
    candidates = (
        form.Candidate(
            backend="ai/a",
            address="10.0.0.1:80",
            state="candidate",
            score=1.5,
            group=2,
            terms={"queue": 1.0, "time": 0.25, "errors": 1.2, "dollars": 0.001},
            signals=(form.Signal(name="latency_s", value=0.5, age_s=3.0),),
            share=0.6,
            why="its time out is over: the next request tries it",
        ),
        form.Candidate(backend="ai/b", state="dropped", endpoints=3, filter="f", why="w", weight=2),
    )
    tier = form.Tier(
        name="t", balance="Cost", how="how", candidates=candidates, spilled="ttft", panic=True,
        hidden=7,
    )  # fmt: skip
    found = explanation(
        arm=form.Arm(name="cheap", by="session", share=0.25),
        select=form.Selected(
            by="Quality",
            tier="t",
            why="why",
            offers=(form.Offer(tier="t", quality=0.5), form.Offer(tier="u", quality=1, dollars=2)),
            left_out=("v",),
            shares={"t": 0.75, "u": 0.25},
        ),
        tiers=(tier,),
        pick=form.Pick(
            endpoint="ai/a",
            backend="ai/a",
            tier="t",
            share=0.6,
            draws=9,
            why="by chance",
            panic=True,
        ),
        then=("then this",),
    )
    text = text_of(found)
    for said in (
        "cheap by session, 25 % of the callers",
        "t: quality 0.500, no price",
        "u: quality 1.000, $2.000000",
        "t begins in 75 % of the draws",
        "not fallen back to: v",
        "is busy (ttft): hands its requests on",
        "ejections are ignored",
        "60 %      ai/a@10.0.0.1:80: score 1.5 = queue 1 + time 0.25, times 1.2 for errors",
        "dollars 0.001, in group 2",
        "latency_s 0.5 (3 s ago)",
        "its time out is over",
        "dropped   ai/b (3 endpoints), weight 2: f: w",
        "and 7 more",
        "though it is ejected",
        "then this",
    ):
        assert said in text.replace("\n            ", " "), said


def test_what_is_remembered_is_kept_apart_from_what_is_now() -> None:
    lines = list(recalled(REMEMBERED))
    text = "\n".join(line.text for line in lines)
    remembered, _, rest = text.partition("now (nothing is decided again)")
    now, _, forgotten = rest.partition("not remembered")
    assert "tokens 7" in remembered
    assert "0.5 by judge" in remembered
    assert "1-2: another revision" in now
    assert "no longer there" in now
    assert "the prompt" in forgotten
    assert {line.shade for line in lines} <= {GREEN, PLAIN, YELLOW, DIM}
