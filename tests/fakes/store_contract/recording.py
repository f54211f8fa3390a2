"""The log of decisions: in the order of writing, whole, and no longer than its retention."""

import asyncio

import pytest

from fakes.stores import OURS, SCOPE, STRANGER, StoreRig, contents
from switchboard_policy.errors import BadSignature
from switchboard_policy.store import Record, Retention
from switchboard_policy.store.signing import check_record, sign_record

KEEP = Retention(entries=100, age_ms=60_000)


def records(*numbers: int, pod: str = "a") -> list[Record]:
    return [sign_record(OURS, pod=pod, body=f'{{"id":"{number}"}}'.encode()) for number in numbers]


class Recording:
    """Decisions and ratings are appended, and read in portions."""

    async def test_what_pods_record_is_read_once_in_order_and_in_portions(
        self, rig: StoreRig
    ) -> None:
        one, two = rig.reader(), rig.reader()
        said = [*records(1, 2), *records(3, pod="b"), *records(4)]
        await one.record(said[:2], keep=KEEP)
        await two.record(said[2:3], keep=KEEP)
        await one.record(said[3:], keep=KEEP)
        first = await two.recorded("", limit=3)
        assert [*first.records] == said[:3]
        rest = await two.recorded(first.after, limit=3)
        assert [*rest.records] == said[3:]
        end = await two.recorded(rest.after, limit=3)
        assert [*end.records] == []
        assert end.after == rest.after
        later = records(5)
        await two.record(later, keep=KEEP)
        assert [*(await one.recorded(end.after, limit=3)).records] == later

    async def test_an_empty_log_has_no_entries(self, rig: StoreRig) -> None:
        assert [*(await rig.reader().recorded("", limit=3)).records] == []

    async def test_only_the_newest_entries_are_kept(self, rig: StoreRig) -> None:
        reader, keep = rig.reader(), Retention(entries=3, age_ms=60_000)
        said = records(1, 2, 3, 4, 5)
        await reader.record(said[:4], keep=keep)
        assert [*(await reader.recorded("", limit=9)).records] == said[1:4]
        await reader.record(said[4:], keep=keep)
        assert [*(await reader.recorded("", limit=9)).records] == said[2:]

    async def test_entries_beyond_their_age_go_with_the_next_ones(self, rig: StoreRig) -> None:
        reader, keep = rig.reader(), Retention(entries=100, age_ms=40)
        old, new = records(1, 2), records(3)
        await reader.record(old, keep=keep)
        # A server's time goes by of itself, that of the store in memory by being told.
        await asyncio.sleep(0.06)
        await rig.advance(60)
        await reader.record(new, keep=keep)
        assert [*(await reader.recorded("", limit=9)).records] == new

    async def test_an_entry_is_any_bytes_and_is_signed_with_who_wrote_it(
        self, rig: StoreRig
    ) -> None:
        reader = rig.reader()
        said = sign_record(OURS, pod="a", body=b"\x00\xff\r\n" * 10_000)
        await reader.record([said], keep=KEEP)
        (found,) = (await reader.recorded("", limit=1)).records
        assert found == said
        check_record(OURS, found)
        for keys, forged in (
            (STRANGER, found),
            (OURS, Record(pod="b", body=found.body, mac=found.mac)),
            (OURS, Record(pod=found.pod, body=found.body + b"!", mac=found.mac)),
        ):
            with pytest.raises(BadSignature):
                check_record(keys, forged)

    async def test_a_flush_loses_the_log_and_nothing_else(self, rig: StoreRig) -> None:
        reader, writer = rig.reader(), rig.writer()
        await reader.record(records(1, 2), keep=KEEP)
        await rig.flush()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        said = records(3)
        await reader.record(said, keep=KEEP)
        assert [*(await reader.recorded("", limit=9)).records] == said
