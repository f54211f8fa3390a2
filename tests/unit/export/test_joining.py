"""The log of decisions to an export: each decision once, with all that was said of it."""

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fakes.stores import OURS, SCOPE, STRANGER
from switchboard_cli.export import command
from switchboard_cli.export.joining import Counts, Joining
from switchboard_dataplane.learning.decisions import Compared, Decided, Rated, read_rated
from switchboard_dataplane.learning.ratings import Rating, Source
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Record, Retention
from switchboard_policy.store.memory import MemoryStore
from switchboard_policy.store.signing import sign_record

AT = datetime(2026, 1, 1, tzinfo=UTC)


def decided(number: int) -> Decided:
    return Decided(id=f"d{number}", at=AT, tier="small")


def said(number: int, value: float, source: Source = "feedback", **fields: object) -> Rating:
    at = fields.pop("at", AT)
    assert isinstance(at, datetime)
    comment = str(fields.pop("comment", ""))
    assert not fields
    return Rating(decision=f"d{number}", value=value, source=source, at=at, comment=comment)


def record(entry: Decided | Rating | Compared | bytes, ring: Keyring = OURS) -> Record:
    body = entry if isinstance(entry, bytes) else msgspec.json.encode(entry)
    return sign_record(ring, pod="one", body=body)


async def exported(*records: Record, keyring: Keyring | None = None) -> tuple[list[Rated], Counts]:
    source = MemoryStore(clock_ms=lambda: 1).reader(SCOPE)
    for one in records:
        await source.record([one], keep=Retention(entries=10_000, age_ms=1_000))
    output = io.BytesIO()
    counts = await command.export_log(source, output, Joining(keyring))
    return [read_rated(line) for line in output.getvalue().splitlines()], counts


async def test_ratings_stand_with_their_decision_the_oldest_first() -> None:
    later = AT + timedelta(seconds=5)
    lines, counts = await exported(
        record(said(1, 0.5, at=later)),
        record(decided(1)),
        record(decided(2)),
        record(said(1, 1.0)),
        record(said(3, 1.0)),
    )
    assert [line.id for line in lines] == ["d1", "d2"]
    assert [one.value for one in lines[0].ratings] == [1.0, 0.5]
    assert (lines[0].quality, lines[1].quality) == (0.5, None)
    assert (counts.decisions, counts.rated) == (2, 1)


async def test_what_a_mirror_answered_stands_beside_the_answer() -> None:
    mirror = Compared(decision="d1", at=AT, backend="ai/next", agreement=0.5, better=True)
    lines, counts = await exported(record(decided(1)), record(mirror), record(mirror))
    assert [line.mirrors for line in lines] == [(mirror,)]
    assert (lines[0].quality, counts.rated) == (None, 0)


async def test_what_was_written_twice_is_told_once() -> None:
    first = said(1, 0.0)
    lines, counts = await exported(
        record(decided(1)),
        record(decided(1)),
        record(first),
        record(said(1, 0.0, comment="too long")),
        record(first),
    )
    assert counts.decisions == 1
    assert [(one.value, one.comment) for one in lines[0].ratings] == [(0.0, "too long")]


async def test_more_entries_than_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PORTION", 3)
    lines, _ = await exported(*(record(decided(number)) for number in range(10)))
    assert [line.id for line in lines] == [f"d{number}" for number in range(10)]


async def test_with_keys_what_strangers_wrote_is_left_out_and_counted() -> None:
    entries = (record(decided(1)), record(said(1, 0.0), STRANGER), record(decided(2), STRANGER))
    lines, counts = await exported(*entries, keyring=OURS)
    assert [(line.id, line.ratings) for line in lines] == [("d1", ())]
    assert counts.forged == 2
    lines, counts = await exported(*entries)
    assert [(line.id, line.quality) for line in lines] == [("d1", 0.0), ("d2", None)]
    assert counts.forged == 0


async def test_what_cannot_be_read_is_counted_once() -> None:
    lines, counts = await exported(
        record(b"no"), record(decided(1)), record(b'{"kind":"news"}'), record(b"[" * 100_000)
    )
    assert len(lines) == 1
    assert counts.unreadable == 3


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        ([], {}),
        (["--redis-url", "redis://h", "--admin", "http://h"], {}),
    ],
)
def test_one_source_has_to_be_named(argv: list[str], env: dict[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(argv, env)
    assert ended.value.code == 2
