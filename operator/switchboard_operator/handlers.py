"""kopf's watches: one handler a kind, each of one call, on a thread and a loop of their own.

When kopf ends it cancels every task of its loop, and it takes the signals of the main thread; so
it gets neither. kopf writes nothing: only ``on.event`` is used, posting and peering are off.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

import kopf

from switchboard_operator.resources import WATCHED, Kind, Raw
from switchboard_operator.rest import Connection

RESTART_FIRST_S: Final = 1.0
RESTART_MAX_S: Final = 30.0
STEADY_S: Final = 60.0
"""A run of this length was a success: the next restart waits for the shortest time again."""
STOP_S: Final = 10.0
LIST_CHUNK: Final = 500
#: Idle workers, one an object, go soon: after a list there are thousands of them.
WORKER_IDLE_S: Final = 1.0
#: A watch that was refused or lost its server comes back in steps of these seconds.
BACKOFFS_S: Final = (0.1, 0.2, 0.5, 1, 1, 1, 1, 2, 2, 2, 5, 5)

log = logging.getLogger(__name__)


class Deliver(Protocol):
    """Where events go; called on kopf's thread. ``type`` is None while a watch lists."""

    def __call__(self, kind: Kind, event_type: str | None, body: Raw) -> None:
        """Take an event."""
        ...


class Intake:
    """Events on their way from kopf's thread to the loop of everything else, in order."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Kind, str | None, Raw], None],
    ) -> None:
        self._loop = loop
        self._take = take
        self._events: deque[tuple[Kind, str | None, Raw]] = deque()

    def __call__(self, kind: Kind, event_type: str | None, body: Raw) -> None:
        """Take an event on any thread."""
        self._events.append((kind, event_type, body))
        if len(self._events) == 1 and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        while self._events:
            kind, event_type, body = self._events.popleft()
            try:
                self._take(kind, event_type, body)
            except Exception:
                # One object that cannot be read must not hide the events of all others.
                log.exception("an event of %s %s", kind, body.get("metadata", {}).get("name"))


class Watches:
    """kopf on its thread, started again with backoff when it fails and on request.

    ``began`` is called on that thread before each run, ``failed`` after each that ended by itself.
    """

    def __init__(
        self,
        namespaces: Sequence[str],
        *,
        connection: Callable[[], Connection],
        deliver: Deliver,
        began: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        self._namespaces = tuple(namespaces)
        self._connection = connection
        self._deliver = deliver
        self._began = began
        self._failed = failed
        self._stop = threading.Event()
        self._stop_run = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether kopf came up and has not failed since."""
        return self._thread.is_alive() and self._ready.is_set()

    def restart(self) -> None:
        """Begin anew with every watch."""
        self._stop_run.set()

    async def stop(self) -> None:
        """End the watches."""
        self._stop.set()
        self._stop_run.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_S)

    def _run(self) -> None:
        wait_s = RESTART_FIRST_S
        while not self._stop.is_set():
            self._stop_run.clear()
            began = time.monotonic()
            try:
                self._began()
                asyncio.run(self._watch())
            except Exception:
                log.exception("the watches failed; again in %.0f s", wait_s)
            self._ready.clear()
            if self._stop.is_set():
                return
            self._failed()
            if self._stop_run.is_set() or time.monotonic() - began > STEADY_S:
                wait_s = RESTART_FIRST_S
            self._stop.wait(wait_s)
            wait_s = min(RESTART_MAX_S, 2 * wait_s)

    async def _watch(self) -> None:
        registry = kopf.OperatorRegistry()
        register(
            registry,
            deliver=self._deliver,
            connection=self._connection,
            clusterwide=not self._namespaces,
        )
        await kopf.operator(
            registry=registry,
            settings=quiet_settings(),
            # Else kopf asks for the user's name, and a container's user has none.
            identity=cast("Any", "switchboard"),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop_run,
            ready_flag=self._ready,
        )


def register(
    registry: kopf.OperatorRegistry,
    *,
    deliver: Deliver,
    connection: Callable[[], Connection],
    clusterwide: bool,
) -> None:
    """Register the handlers; Namespaces are watched where all of them are."""

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return _kopf_connection(connection())

    @kopf.on.event(*_place(Kind.BACKEND), registry=registry)
    async def backend(event: Raw, **_: Any) -> None:
        deliver(Kind.BACKEND, event["type"], event["object"])

    @kopf.on.event(*_place(Kind.POLICY), registry=registry)
    async def policy(event: Raw, **_: Any) -> None:
        deliver(Kind.POLICY, event["type"], event["object"])

    @kopf.on.event(*_place(Kind.SERVICE), registry=registry)
    async def service(event: Raw, **_: Any) -> None:
        deliver(Kind.SERVICE, event["type"], event["object"])

    @kopf.on.event(*_place(Kind.SLICE), registry=registry)
    async def endpoint_slice(event: Raw, **_: Any) -> None:
        deliver(Kind.SLICE, event["type"], event["object"])

    @kopf.on.event(*_place(Kind.SECRET), registry=registry)
    async def secret(event: Raw, **_: Any) -> None:
        deliver(Kind.SECRET, event["type"], event["object"])

    if clusterwide:

        @kopf.on.event(*_place(Kind.NAMESPACE), registry=registry)
        async def namespace(event: Raw, **_: Any) -> None:
            deliver(Kind.NAMESPACE, event["type"], event["object"])


class Nothing(kopf.DiffBaseStorage):
    """kopf compares each object with its last form, copying it twice: no handler of ours asks."""

    def build(self, **_: Any) -> Any:
        """Return no essence."""
        return {}

    def fetch(self, **_: Any) -> Any:
        """Return no last form."""
        return None

    def store(self, **_: Any) -> None:
        """Write nothing."""


def quiet_settings() -> kopf.OperatorSettings:
    """Return settings under which kopf only watches."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = Nothing()
    settings.queueing.idle_timeout = WORKER_IDLE_S
    settings.networking.error_backoffs = BACKOFFS_S
    settings.watching.chunk_size = LIST_CHUNK
    for resource in WATCHED.values():
        if resource.selector:
            place = (resource.group, resource.version, resource.plural)
            settings.watching.label_selectors[place] = resource.selector
    return settings


def _place(kind: Kind) -> tuple[str, str, str]:
    resource = WATCHED[kind]
    return resource.group, resource.version, resource.plural


def _kopf_connection(known: Connection) -> kopf.ConnectionInfo:
    scheme, _, token = (known.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=known.server,
        ca_path=known.ca_path,
        insecure=not known.verify,
        scheme=scheme or None,
        token=token or None,
        certificate_path=known.certificate_path,
        private_key_path=known.key_path,
    )
