"""Pods tell each other what is true now: all hear it, in order, and it is soon forgotten."""

import asyncio

import pytest

from fakes.stores import OURS, SCOPE, STRANGER, StoreRig, contents
from switchboard_policy.errors import BadSignature
from switchboard_policy.store import WORDS_KEPT_MS, StoreReader, Word
from switchboard_policy.store.signing import check_word, sign_word


def word(number: int, said_ms: int, *, pod: str = "a", body: bytes | None = None) -> Word:
    said = f'{{"word":{number}}}'.encode() if body is None else body
    return sign_word(OURS, topic="load", pod=pod, said_ms=said_ms, body=said)


async def store_time(reader: StoreReader) -> int:
    return (await reader.shared("", timeout_ms=1)).at_ms


class Sharing:
    """Words from pod to pod."""

    async def test_every_pod_hears_every_word_once_and_in_order(self, rig: StoreRig) -> None:
        one, two = rig.reader(), rig.reader()
        now_ms = await store_time(one)
        said = [word(number, now_ms + number) for number in range(3)]
        await one.share(said[0])
        await two.share(said[1])
        for reader in (one, two):
            heard = await reader.shared("", timeout_ms=1000)
            assert [*heard.words] == said[:2]
            assert abs(heard.at_ms - now_ms) < 2_000
            again = await reader.shared(heard.after, timeout_ms=20)
            assert [*again.words] == []
            assert again.after == heard.after
        after = (await one.shared("", timeout_ms=20)).after
        await two.share(said[2])
        assert [*(await one.shared(after, timeout_ms=1000)).words] == said[2:]

    async def test_a_word_wakes_who_waits_for_it(self, rig: StoreRig) -> None:
        one, two = rig.reader(), rig.reader()
        waiting = asyncio.create_task(two.shared("", timeout_ms=1500))
        await asyncio.sleep(0.05)
        said = word(1, await store_time(one))
        await one.share(said)
        assert [*(await waiting).words] == [said]

    async def test_old_words_are_dropped_with_the_next_one(self, rig: StoreRig) -> None:
        reader = rig.reader()
        now_ms = await store_time(reader)
        await reader.share(word(1, now_ms))
        # The store's own time cannot be moved; that which the next word claims can.
        await asyncio.sleep(0.3)
        late = word(2, now_ms + WORDS_KEPT_MS + 150)
        await reader.share(late)
        assert [*(await reader.shared("", timeout_ms=20)).words] == [late]

    async def test_a_body_is_any_bytes_and_is_signed_with_the_rest(self, rig: StoreRig) -> None:
        reader = rig.reader()
        said = word(1, await store_time(reader), body=b"\x00\xff\r\n" * 50_000)
        await reader.share(said)
        (heard,) = (await reader.shared("", timeout_ms=1000)).words
        assert heard == said
        check_word(OURS, heard)
        with pytest.raises(BadSignature):
            check_word(STRANGER, heard)
        for forged in (
            Word(heard.topic, heard.pod, heard.said_ms, heard.body + b"!", heard.mac),
            Word(heard.topic, heard.pod, heard.said_ms + 1, heard.body, heard.mac),
            Word(heard.topic, "b", heard.said_ms, heard.body, heard.mac),
            Word("marks", heard.pod, heard.said_ms, heard.body, heard.mac),
        ):
            with pytest.raises(BadSignature):
                check_word(OURS, forged)

    async def test_a_flush_loses_words_and_nothing_else(self, rig: StoreRig) -> None:
        reader, writer = rig.reader(), rig.writer()
        await reader.share(word(1, await store_time(reader)))
        after = (await reader.shared("", timeout_ms=1000)).after
        await rig.flush()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        said = word(2, await store_time(reader))
        await reader.share(said)
        assert [*(await reader.shared(after, timeout_ms=1000)).words] == [said]
