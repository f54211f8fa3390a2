"""The webhooks: HTTPS, a path for objects of ours and one for pods, the same from every replica.

A review is judged on a thread of its own against a copy of what the watches have shown, so neither
the objects in force nor the event loop notice. What cannot be judged fails, and the failure policy
of the webhook's configuration decides.
"""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from switchboard_operator.admission_bodies import BODY_TIMEOUT_S, Bodies
from switchboard_operator.admission_pods import Injection
from switchboard_operator.admission_review import (
    ALLOWED,
    Request,
    Verdict,
    one_line,
    read_review,
    write_review,
)
from switchboard_operator.admission_trial import Trial, at_once, freeze
from switchboard_operator.certificates import Pair, read_facts
from switchboard_operator.certificates_kept import Certificates
from switchboard_operator.errors import KubeError
from switchboard_operator.resources import OURS
from switchboard_operator.settings import AdmissionSettings
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.compiler.world import Gateway, World
from switchboard_policy.errors import Malformed

REVIEWS_MAX: Final = 16
"""Reviews that are judged at once; the rest waits."""
KEEP_ALIVE_S: Final = 180.0
"""Longer than the API server keeps an idle connection: it must be the one that closes."""
CERTIFICATE_EVERY_S: Final = 2.0
FIRST_CERTIFICATE_EVERY_S: Final = 0.5

log = logging.getLogger(__name__)


class Admission:
    """The webhook's port.

    ``world`` is the live one; ``hinders`` says why it cannot be judged by yet ("" once it can).
    Without ``injection`` no pod is answered for.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        gateways: list[Gateway],
        certificates: Certificates,
        *,
        world: World,
        hinders: Callable[[], str],
        telemetry: Telemetry,
        clock: Callable[[], float],
        injection: Injection | None = None,
    ) -> None:
        self._settings = settings
        self._certificates = certificates
        self._world = world
        self._hinders = hinders
        self._telemetry = telemetry
        self._clock = clock
        self._trial = Trial(gateways, settings.deny)
        self._thread = ThreadPoolExecutor(1, "admission")
        self._slots = asyncio.Semaphore(REVIEWS_MAX)
        self._context = _server_context()
        self._pair: Pair | None = None
        self._leaving = False
        self._bodies = Bodies()
        app = web.Application()
        app.add_routes([web.post("/validate", self._answer)])
        if injection is not None:
            app.add_routes([web.post("/mutate", partial(self._inject, injection))])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            # The rest of a body that was refused is thrown away for so long.
            lingering_time=BODY_TIMEOUT_S,
        )
        self._silent = "no certificate was read yet"

    @property
    def obstacle(self) -> str:
        """Why it does not answer, or is not trusted by the API server; "" if nothing is wrong."""
        return self._silent or self._certificates.obstacle

    async def run(self) -> None:
        """Keep the certificate, and listen once there is one, until cancelled."""
        told = ""
        await self._runner.setup()
        while True:
            try:
                await self._renew()
                told = ""
            except (KubeError, Malformed, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the webhook's certificate: %s", told)
                if self._pair is None:
                    self._silent = f"no certificate: {told}"
            wait_s = FIRST_CERTIFICATE_EVERY_S if self._pair is None else CERTIFICATE_EVERY_S
            await asyncio.sleep(wait_s)

    async def stop(self) -> None:
        """Answer for as long as the API server may still call, then close the port."""
        self._leaving = True
        if self._pair is not None:
            await asyncio.sleep(self._settings.linger.total_seconds())
        await self._runner.cleanup()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _renew(self) -> None:
        pair = await self._certificates.turn()
        if pair is None or pair == self._pair:
            return
        expires = read_facts(pair).expires
        load_pair(self._context, pair)
        if self._pair is None:
            await self._listen()
        self._pair = pair
        self._silent = ""
        self._telemetry.admission_expiry.set(expires.timestamp())
        log.info("a certificate that holds until %s is in use", expires.isoformat())

    async def _listen(self) -> None:
        said = self._settings
        site = web.TCPSite(self._runner, said.host, said.port, ssl_context=self._context)
        await site.start()
        log.info("admission port %d", said.port)

    async def _answer(self, asked: web.Request) -> web.Response:
        began = self._clock()
        kind, outcome = "unknown", "failed"
        try:
            async with self._bodies.read(asked) as raw, self._slots:
                request = read_review(raw)
                kind = request.kind.kind if request.kind.kind in OURS else "other"
                verdict = await self._judge(request)
            outcome = verdict.outcome
            body = write_review(request, verdict)
            response = web.Response(body=body, content_type="application/json")
        except Malformed as error:
            outcome, response = "refused", web.Response(status=400, text=f"{error}\n")
        except _NotYet as error:
            response = web.Response(status=503, text=f"{error}\n")
        except web.HTTPException:
            outcome = "refused"
            raise
        finally:
            self._telemetry.admission_reviews.labels(kind, outcome).inc()
            self._telemetry.admission_seconds.observe(self._clock() - began)
        if self._leaving:
            # The next review goes to a replica that stays.
            response.force_close()
        return response

    async def _inject(self, injection: Injection, asked: web.Request) -> web.Response:
        outcome = "failed"
        try:
            async with self._bodies.read(asked) as raw, self._slots:
                body, outcome = await injection.answer(raw)
            response = web.Response(body=body, content_type="application/json")
        except Malformed as error:
            outcome, response = "refused", web.Response(status=400, text=f"{error}\n")
        finally:
            self._telemetry.injections.labels(outcome).inc()
        if self._leaving:
            response.force_close()
        return response

    async def _judge(self, request: Request) -> Verdict:
        verdict = at_once(request) or await self._try(request)
        if verdict.causes:
            log.info("denied %s: %s", request.title, one_line(verdict.message))
        return verdict

    async def _try(self, request: Request) -> Verdict:
        if hindered := self._hinders():
            if request.operation == "DELETE":
                return ALLOWED
            raise _NotYet(f"nothing can be judged yet: {hindered}")
        world = freeze(self._world, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._trial.judge, request, world)


class _NotYet(Exception):
    """The lists are not complete."""


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Have new connections served with a pair; those that are open go on as they are.

    Raises OSError, and then the context is as it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        # The library reads files only; the folder is the process's own.
        certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        certificate.write_bytes(pair.certificate)
        key.touch(mode=0o600)
        key.write_bytes(pair.key)
        _server_context().load_cert_chain(certificate, key)
        context.load_cert_chain(certificate, key)
