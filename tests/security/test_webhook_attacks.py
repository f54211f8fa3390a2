"""Whoever reaches the webhooks' port, which cannot tell the API server from any pod.

More of the same: tests/unit/operator/test_admission_review.py (what is no review).
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from cluster.processes import LOOPBACK, free_port
from fakes.defences import off, without
from fakes.virtual_time import eventually
from switchboard_operator import admission_bodies
from switchboard_operator.admission import REVIEWS_MAX, Admission
from switchboard_operator.admission_bodies import Bodies
from switchboard_operator.certificates import issue
from switchboard_operator.certificates_kept import CERTIFICATE_FILE, KEY_FILE, FileCertificates
from switchboard_operator.settings import AdmissionSettings
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.compiler.world import Gateway, World

REVIEW = json.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "operation": "DELETE",
            "name": "chat",
            "namespace": "ai",
            "kind": {"group": "switchboard.dev", "version": "v1alpha1", "kind": "RoutingPolicy"},
        },
    }
).encode()
NEVER_S = 600.0
ANSWERED = "HTTP/1.1 200 OK"
REFUSED = "HTTP/1.1 400 Bad Request"

read = Bodies.read


@asynccontextmanager
async def few_at_once(self: Bodies, asked: web.Request) -> AsyncIterator[bytes]:
    """As many bodies are read at once as are judged at once."""
    few: asyncio.Semaphore = self.__dict__.setdefault("few", asyncio.Semaphore(REVIEWS_MAX))
    async with few, read(self, asked) as body:
        yield body


def _has_new(
    unfinished: Mapping[asyncio.Timeout, int], size: int, *, beside: Container[asyncio.Timeout]
) -> bool:
    return any(held == size for one, held in unfinished.items() if one not in beside)


class Webhook:
    """A port that listens, and those that call it."""

    def __init__(self, folder: Path) -> None:
        pair = issue(["localhost"], timedelta(days=1), now=datetime.now(UTC)).pair
        (folder / CERTIFICATE_FILE).write_bytes(pair.certificate)
        (folder / KEY_FILE).write_bytes(pair.key)
        self.port = free_port()
        self.admission = Admission(
            AdmissionSettings(port=self.port, host=LOOPBACK),
            [Gateway("default", "system")],
            FileCertificates(str(folder)),
            world=World({}, {}),
            hinders=lambda: "",
            telemetry=Telemetry(),
            clock=time.monotonic,
        )
        self._trust = ssl.create_default_context()
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE
        self._open = list[asyncio.StreamWriter]()

    async def post(self, body: bytes, *, length: int = 0) -> asyncio.Task[str]:
        """Send a body, or the beginning of one; return how its answer begins, once there is one."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port, ssl=self._trust)
        self._open.append(writer)
        head = (
            f"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: {length or len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()

        async def status() -> str:
            return (await reader.readline()).decode().strip()

        return asyncio.create_task(status())

    async def post_slowly(self, number: int, *, sent: int, length: int) -> list[asyncio.Task[str]]:
        """Begin as many bodies, one after another."""
        begun, unfinished = list[asyncio.Task[str]](), self.admission._bodies._unfinished
        for _ in range(number):
            before = set(unfinished)
            begun.append(await self.post(b" " * sent, length=length))
            await eventually(partial(_has_new, unfinished, sent, beside=before))
        return begun

    async def close(self) -> None:
        for writer in self._open:
            writer.transport.abort()


@pytest.fixture
async def webhook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Webhook]:
    # Whom patience ends is of another test.
    monkeypatch.setattr(admission_bodies, "BODY_TIMEOUT_S", NEVER_S)
    made = Webhook(tmp_path)
    running = asyncio.create_task(made.admission.run())
    await eventually(lambda: not made.admission.obstacle)
    yield made
    await made.close()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await made.admission._runner.cleanup()


async def answer(task: asyncio.Task[str], *, comes: bool) -> str:
    """Return how an answer begins; "" where it has not come long after its time."""
    done, _ = await asyncio.wait({task}, timeout=30 if comes else 1)
    return task.result() if done else ""


@without(off(Bodies, "read", few_at_once))
async def test_bodies_that_do_not_come_keep_no_review_waiting(
    defended: bool, webhook: Webhook
) -> None:
    await webhook.post_slowly(REVIEWS_MAX, sent=1, length=len(REVIEW))
    asked = await webhook.post(REVIEW)
    assert await answer(asked, comes=defended) == (ANSWERED if defended else "")


@without(off(admission_bodies, "BODY_TIMEOUT_S", NEVER_S))
async def test_a_body_that_does_not_come_is_given_up(
    defended: bool, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defended:
        monkeypatch.setattr(admission_bodies, "BODY_TIMEOUT_S", 0.2)
    (slow,) = await webhook.post_slowly(1, sent=1, length=len(REVIEW))
    assert await answer(slow, comes=defended) == (REFUSED if defended else "")


@without(off(admission_bodies, "HELD_BYTES_MAX", 10**9))
async def test_bodies_that_do_not_end_do_not_pile_up_and_the_first_goes(
    defended: bool, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defended:
        monkeypatch.setattr(admission_bodies, "HELD_BYTES_MAX", 25_000)
    first, second, third = await webhook.post_slowly(3, sent=10_000, length=20_000)
    assert await answer(first, comes=defended) == (REFUSED if defended else "")
    assert webhook.admission._bodies._held == (20_000 if defended else 30_000)
    asked = await webhook.post(REVIEW)
    assert await answer(asked, comes=True) == ANSWERED
    assert not second.done()
    assert not third.done()


@without(off(admission_bodies, "BODY_BYTES_MAX", 10**9))
async def test_a_body_beyond_the_limit_is_not_read(
    defended: bool, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defended:
        monkeypatch.setattr(admission_bodies, "BODY_BYTES_MAX", len(REVIEW) - 1)
    asked = await webhook.post(REVIEW)
    expected = "HTTP/1.1 413 Request Entity Too Large" if defended else ANSWERED
    assert await answer(asked, comes=True) == expected
    # What is answered is held no longer.
    assert webhook.admission._bodies._held == 0
