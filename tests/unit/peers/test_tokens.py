"""Callers' tokens: asked about over the store, answered by the leader alone, known for a while."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from fakes.callers_tokens import NOW_S, ApiServer, MemoryWords, Pod, settings, token
from fakes.stores import OURS, SCOPE, STRANGER, MemoryRig, keyring
from fakes.virtual_time import eventually
from switchboard_dataplane.access import tokens
from switchboard_dataplane.errors import AccessUnavailable, Forbidden, Unauthenticated
from switchboard_operator.errors import ApiAway
from switchboard_operator.errors import Forbidden as ApiForbids
from switchboard_operator.lease import Clock
from switchboard_operator.settings import AccessSettings
from switchboard_operator.token_reviews import Reviewing, TokenReviews
from switchboard_policy.errors import BadSeal
from switchboard_policy.seal import Keyring
from switchboard_policy.store.signing import sign_word
from switchboard_policy.store.token_words import (
    ADMITTED_MS,
    ASKED,
    REVIEWED,
    AskedToken,
    ReviewedToken,
    ask,
    open_asked,
    write_word,
)

PATIENCE_S = 3.0


class Operator:
    """A replica: its API server, its words, and what came of them."""

    def __init__(
        self,
        rig: MemoryRig,
        api: ApiServer,
        *rules: Mapping[str, object],
        now_s: float = NOW_S,
        ring: Keyring = OURS,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.leads = True
        self.words = MemoryWords(rig.store)
        self.done = Counter[str]()
        self.ring = ring
        self.reviews = TokenReviews(
            api,
            self.words,
            [Reviewing(SCOPE, AccessSettings.model_validate(settings(*rules)), lambda: self.ring)],
            speaker="operator/one",
            leads=lambda: self.leads,
            clock=Clock(
                loop.time,
                lambda: datetime.fromtimestamp(now_s, UTC),
                asyncio.sleep,
                random.Random(7),
            ),
            done=lambda outcome: self.done.update([outcome]),
        )


@asynccontextmanager
async def running(*parts: Pod | Operator) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(each.sharing.run() if isinstance(each, Pod) else each.reviews.run())
        for each in parts
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


async def test_a_token_is_reviewed_once_and_known_until_its_time_is_up(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, good = Pod("one", rig), api.know("ai:app")
    async with running(pod, Operator(rig, api)):
        client = await pod.tokens.identify(good)
        assert (client.kind, client.namespace, client.name) == ("serviceAccount", "ai", "app")
        assert await pod.tokens.identify(good) is client
        assert len(api.reviewed) == 1
        await asyncio.sleep(ADMITTED_MS / 1000)
        assert await pod.outcome(good) == "ai/app"
        assert len(api.reviewed) == 2


async def test_a_token_in_use_is_reviewed_again_before_its_time_is_up_and_nobody_waits(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, good, loop = Pod("one", rig), api.know(), asyncio.get_running_loop()
    async with running(pod, Operator(rig, api)):
        await pod.tokens.identify(good)
        began, waited_s = loop.time(), 0.0
        while loop.time() - began < 10 * ADMITTED_MS / 1000:
            asked_at = loop.time()
            assert await pod.outcome(good) == "ai/app"
            waited_s = max(waited_s, loop.time() - asked_at)
            await asyncio.sleep(1)
        assert waited_s == 0.0
        assert len(api.reviewed) <= 16


async def test_a_deleted_service_account_is_refused_within_a_minute(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, good = Pod("one", rig), api.know()
    async with running(pod, Operator(rig, api)):
        assert await pod.outcome(good) == "ai/app"
        api.users.clear()
        for _ in range(60 - 10):  # the API server's own memory has 10 s
            await asyncio.sleep(1)
            await pod.outcome(good)
        assert await pod.outcome(good) == "invalid_api_key"


async def test_one_that_is_made_anew_is_let_in_within_seconds(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, made = Pod("one", rig), token()
    async with running(pod, Operator(rig, api)):
        assert await pod.outcome(made) == "invalid_api_key"
        assert api.know() == made
        assert await pod.outcome(made) == "invalid_api_key"
        assert len(api.reviewed) == 1
        await asyncio.sleep(5)
        assert await pod.outcome(made) == "ai/app"


async def test_the_first_rule_gives_the_facts_and_without_one_nobody_is_admitted(
    rig: MemoryRig, api: ApiServer
) -> None:
    rules = (
        {"namespace": "ai", "name": "app", "tier": "gold", "models": ["chat*"]},
        {"namespace": "ai", "team": "ml", "labels": {"b": "2", "a": "1"}},
    )
    pod = Pod("one", rig)
    async with running(pod, Operator(rig, api, *rules)):
        first = await pod.tokens.identify(api.know("ai:app"))
        assert (first.tier, first.team, first.models) == ("gold", "", ("chat*",))
        second = await pod.tokens.identify(api.know("ai:other"))
        assert (second.tier, second.team, second.labels) == ("", "ml", {"a": "1", "b": "2"})
        with pytest.raises(Forbidden, match="else/app is not admitted") as refused:
            await pod.tokens.identify(api.know("else:app"))
        assert (refused.value.status, refused.value.why) == (403, "not_admitted")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("not a token", "bad_token"),
        ("a.b.c", "bad_token"),
        ("....", "bad_token"),
        ("e30.e30.e30", "bad_token"),
        (token(audience="https://kubernetes.default.svc"), "bad_token"),
        (token(audience=["a", "b"]), "bad_token"),
        (token(audience=[]), "bad_token"),
        (token(audience=7), "bad_token"),
        (token(expires=NOW_S - 301), "expired"),
        (token(signature="x" * 8_192), "bad_token"),
        ("é.é.é", "bad_token"),
    ],
)
async def test_what_is_no_token_for_here_leaves_the_pod_for_nowhere(
    rig: MemoryRig, said: str, why: str
) -> None:
    pod = Pod("one", rig)
    with pytest.raises(Unauthenticated) as refused:
        await pod.tokens.identify(said)
    assert refused.value.why == why
    assert not rig.store.pods(SCOPE).words
    assert not pod.sharing._unsent


async def test_clocks_that_differ_shorten_what_is_known_and_refuse_nobody(
    rig: MemoryRig, api: ApiServer
) -> None:
    late, soon = api.know(expires=NOW_S - 200), api.know("ai:soon", expires=NOW_S + 20)
    pod = Pod("one", rig, today_s=NOW_S + 60)
    async with running(pod, Operator(rig, api)):
        assert [await pod.outcome(each) for each in (late, soon)] == ["ai/app", "ai/soon"]
        await asyncio.sleep(6)
        assert await pod.outcome(late) == "ai/app"
        assert len(api.reviewed) == 3
        await asyncio.sleep(15)
        assert await pod.outcome(soon) == "ai/soon"
        assert api.reviewed[3:] == [soon]


async def test_only_the_leader_answers_and_the_next_one_takes_up_what_was_asked(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, good = Pod("one", rig), api.know()
    standby = Operator(rig, api)
    standby.leads = False
    async with running(pod, standby):
        waiting = asyncio.create_task(pod.outcome(good))
        await asyncio.sleep(2)
        assert api.reviewed == []
        standby.leads = True
        assert await waiting == "ai/app"


async def test_who_lost_the_lease_during_a_review_says_nothing(
    rig: MemoryRig, api: ApiServer
) -> None:
    api.takes_s = 0.5
    pod, good = Pod("one", rig), api.know()
    leader = Operator(rig, api)
    async with running(pod, leader):
        waiting = asyncio.create_task(pod.outcome(good))
        await eventually(lambda: api.reviewed)
        leader.leads = False
        assert await waiting == "access_unavailable"
        assert leader.words.said == []


async def test_without_an_operator_strangers_wait_three_seconds_and_the_known_go_on(
    rig: MemoryRig, api: ApiServer
) -> None:
    loop, pod, good = asyncio.get_running_loop(), Pod("one", rig), api.know()
    async with running(pod):
        async with running(Operator(rig, api)):
            assert await pod.outcome(good) == "ai/app"
        known_at = loop.time()
        with pytest.raises(AccessUnavailable) as away:
            await pod.tokens.identify(api.know("ai:new"))
        assert loop.time() - known_at == pytest.approx(PATIENCE_S, abs=0.1)
        assert away.value.retry_after_s
        while loop.time() - known_at < ADMITTED_MS / 1000 - 1:
            assert await pod.outcome(good) == "ai/app"
            await asyncio.sleep(1)
        await asyncio.sleep(1.5)
        assert await pod.outcome(good) == "access_unavailable"
        async with running(Operator(rig, api)):
            assert await pod.outcome(good) == "ai/app"


async def test_an_api_server_that_is_away_is_told_of_at_once(
    rig: MemoryRig, api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    loop, pod, good = asyncio.get_running_loop(), Pod("one", rig), api.know()
    operator = Operator(rig, api)
    async with running(pod, operator):
        assert await pod.outcome(good) == "ai/app"
        api.trouble = ApiAway("no answer")
        began = loop.time()
        assert await pod.outcome(api.know("ai:new")) == "access_unavailable"
        assert loop.time() - began < 1
        await asyncio.sleep(ADMITTED_MS / 1000 * 0.7)
        for _ in range(3):
            assert await pod.outcome(good) == "ai/app"
            await asyncio.sleep(0.5)
        api.trouble = ApiForbids(403, "may not create tokenreviews")
        assert await pod.outcome(api.know("ai:other")) == "access_unavailable"
        assert "the right to create tokenreviews" in caplog.text
        api.trouble, api.takes_s = None, 30.0
        began = loop.time()
        assert await pod.outcome(api.know("ai:slow")) == "access_unavailable"
        assert loop.time() - began < PATIENCE_S
        assert operator.done["unknown"] >= 3


async def test_a_store_that_is_away_ends_in_three_seconds_and_comes_back(
    rig: MemoryRig, api: ApiServer
) -> None:
    loop, pod, good = asyncio.get_running_loop(), Pod("one", rig), api.know()
    operator = Operator(rig, api)
    async with running(pod, operator):
        await asyncio.sleep(1)
        pod.source.cut = operator.words.cut = True
        began = loop.time()
        assert await pod.outcome(good) == "access_unavailable"
        assert loop.time() - began == pytest.approx(PATIENCE_S, abs=0.1)
        pod.source.cut = operator.words.cut = False
        await asyncio.sleep(3)
        assert await pod.outcome(good) == "ai/app"


async def test_callers_and_pods_that_come_with_one_token_share_a_review(
    rig: MemoryRig, api: ApiServer
) -> None:
    api.takes_s = 1.0
    pods, good = [Pod("one", rig), Pod("two", rig)], api.know()
    async with running(*pods, Operator(rig, api)):
        await asyncio.sleep(0.5)
        callers = [asyncio.create_task(pod.outcome(good)) for pod in pods for _ in range(20)]
        gone = asyncio.create_task(pods[0].outcome(good))
        await asyncio.sleep(0.2)
        gone.cancel()
        assert set(await asyncio.gather(*callers)) == {"ai/app"}
        assert len(api.reviewed) == 1
        words = list(rig.store.pods(SCOPE).words.values())
        assert Counter(word.topic for word in words) == {ASKED: 2, REVIEWED: 1}
        with suppress(asyncio.CancelledError):
            await gone


async def test_a_flood_of_garbage_is_bounded_and_the_known_go_on(
    rig: MemoryRig, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "REFUSED_MAX", 10)
    pod, good = Pod("one", rig), api.know()
    operator = Operator(rig, api)
    api.takes_s = 0.05
    async with running(pod, operator):
        assert await pod.outcome(good) == "ai/app"
        flood = [
            asyncio.create_task(pod.outcome(token(f"ai:x{number}"))) for number in range(1_000)
        ]
        await asyncio.sleep(0.01)
        # All but 64 know at once.
        assert sum(each.done() for each in flood) == 936
        assert await pod.outcome(good) == "ai/app"
        outcomes = Counter(await asyncio.gather(*flood))
        assert outcomes == {"invalid_api_key": 64, "access_unavailable": 936}
        assert api.most_at_once == 4
        assert len(pod.tokens._refused) <= 10
        assert not pod.tokens._by_nonce
        assert not pod.tokens._by_digest
        await asyncio.sleep(0.5)
        assert await pod.outcome(api.know("ai:late")) == "ai/late"


async def test_nothing_of_a_token_is_in_the_store_in_the_clear(
    rig: MemoryRig, api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pod, good = Pod("one", rig), api.know()
    async with running(pod, Operator(rig, api)):
        assert await pod.outcome(good) == "ai/app"
        words = list(rig.store.pods(SCOPE).words.values())
        assert {word.topic for word in words} == {ASKED, REVIEWED}
        for part in good.split("."):
            assert all(part.encode() not in word.body for word in words)
            assert part not in caplog.text


async def test_an_old_answer_played_again_is_no_answer(rig: MemoryRig, api: ApiServer) -> None:
    pod, good = Pod("one", rig), api.know()
    operator = Operator(rig, api)
    async with running(pod):
        async with running(operator):
            assert await pod.outcome(good) == "ai/app"
        (said,) = operator.words.said
        api.users.clear()
        await asyncio.sleep(ADMITTED_MS / 1000)
        waiting = asyncio.create_task(pod.outcome(good))
        await asyncio.sleep(0.1)
        # A store whose clock lies can make any word look new: the question's nonce it cannot know.
        for nonces in (None, ("00",)):
            body = said.body
            if nonces:
                body = write_word(ReviewedToken("00", nonces, "admitted", ADMITTED_MS, "ai", "app"))
            pod.tokens.take("operator/one", body, asyncio.get_running_loop().time())
        assert await waiting == "access_unavailable"


async def test_an_answer_is_for_the_token_that_was_asked_about(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod = Pod("one", rig)
    async with running(pod):
        waiting = asyncio.create_task(pod.outcome(token("ai:mine")))
        await eventually(lambda: rig.store.pods(SCOPE).words)
        (nonce,) = pod.tokens._by_nonce
        other = OURS.hash_key(OURS.current, token("ai:other").encode())
        answer = ReviewedToken(other, (nonce,), "admitted", ADMITTED_MS, "ai", "other")
        pod.tokens.take("operator/one", write_word(answer), asyncio.get_running_loop().time())
        pod.tokens.take("operator/one", b"\xc1", asyncio.get_running_loop().time())
        assert await waiting == "access_unavailable"


async def test_an_answer_is_never_good_for_longer_than_it_may(rig: MemoryRig) -> None:
    loop, pod, mine = asyncio.get_running_loop(), Pod("one", rig), token()
    async with running(pod):
        waiting = asyncio.create_task(pod.outcome(mine))
        await eventually(lambda: rig.store.pods(SCOPE).words)
        (nonce,) = pod.tokens._by_nonce
        digest = OURS.hash_key(OURS.current, mine.encode())
        forever = ReviewedToken(digest, (nonce,), "admitted", 10**12, "ai", "app")
        pod.tokens.take("operator/one", write_word(forever), loop.time())
        assert await waiting == "ai/app"
        await asyncio.sleep(ADMITTED_MS / 1000)
        assert await pod.outcome(mine) == "access_unavailable"


async def test_questions_of_strangers_and_broken_ones_are_not_reviewed(
    rig: MemoryRig, api: ApiServer
) -> None:
    operator, good = Operator(rig, api), api.know()
    asked = ask(OURS, good.encode(), nonce="01")
    other = OURS.hash_key(OURS.current, b"other")
    moved = AskedToken(other, asked.nonce, asked.key_id, asked.sealed)
    now_ms = rig.store.clock_ms()
    async with running(operator):
        for ring, body, ago_ms in (
            (STRANGER, write_word(asked), 0),
            (OURS, b"\xc1", 0),
            (OURS, write_word(moved), 0),
            (OURS, b"x" * 100_000, 0),
            (OURS, write_word(asked), 6_000),
        ):
            word = sign_word(ring, topic=ASKED, pod="one", said_ms=now_ms - ago_ms, body=body)
            await rig.reader().share(word)
        await asyncio.sleep(3)
        assert operator.done == {"forged": 1, "unreadable": 2, "dropped": 2}
        assert api.reviewed == []


async def test_a_seal_opens_for_its_own_token_and_question_alone() -> None:
    asked = ask(OURS, b"one.two.three", nonce="01")
    assert open_asked(OURS, asked) == "one.two.three"
    for ring, changed in (
        (STRANGER, asked),
        (OURS, AskedToken(asked.hash, "02", asked.key_id, asked.sealed)),
        (OURS, AskedToken(asked.hash, "01", "gone", asked.sealed)),
        (OURS, AskedToken("é", "01", asked.key_id, asked.sealed)),
    ):
        with pytest.raises(BadSeal):
            open_asked(ring, changed)
    lying = OURS.hash_key(OURS.current, b"another")
    sealed = OURS.seal(b"one.two.three", "token", lying, "01")
    with pytest.raises(BadSeal, match="not the one of its hash"):
        open_asked(OURS, AskedToken(lying, "01", OURS.current, sealed))


async def test_a_rotation_of_the_keys_asks_nobody_again(rig: MemoryRig, api: ApiServer) -> None:
    both = keyring(1, 2)
    pod, good = Pod("one", rig), api.know()
    operator = Operator(rig, api)
    async with running(pod, operator):
        client = await pod.tokens.identify(good)
        operator.ring = both
        pod.ring = both
        assert await pod.tokens.identify(good) is client
        assert len(api.reviewed) == 1
        assert await pod.outcome(api.know("ai:new")) == "ai/new"


async def test_what_another_one_vouches_for_is_no_service_account(
    rig: MemoryRig, api: ApiServer
) -> None:
    pod, good = Pod("one", rig), api.know()
    async with running(pod, Operator(rig, api)):
        for user in ("admin", "system:serviceaccount:ai", "system:serviceaccount:a:b:c", ""):
            api.users[good] = user
            assert await pod.outcome(good) == "invalid_api_key"
            await asyncio.sleep(5)
