"""The process of a gateway pod: a data plane around Redis, until it is told to stop."""

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path

from switchboard_dataplane.app import build
from switchboard_dataplane.process import prepare_process
from switchboard_dataplane.settings import CannotStart, Settings, naming
from switchboard_dataplane.sources.key_file import KeyFile
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_policy.store.url_file import UrlFile

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Run the process of a data plane until SIGTERM or SIGINT; return its exit status."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        with naming("--scope-key-file"):
            if not settings.scope_key_file:
                raise ValueError("is not set; name the file with the scope's keys")
            keys = KeyFile(Path(settings.scope_key_file), scope=settings.scope)
        file = settings.redis_url_file
        with naming("--redis-url-file" if file else "--redis-url"):
            store = UrlFile(Path(file)) if file else settings.redis_url
            source = RedisSource(store, scope=settings.scope)
        prepare_process()
        return asyncio.run(_run(settings, source=source, keys=keys))
    except CannotStart as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 - a wrong setting needs no traceback
        return 2


async def _run(settings: Settings, *, source: RedisSource, keys: KeyFile) -> int:
    plane = build(settings, source=source, keyring=keys.keyring)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    status = 0
    try:
        await plane.start()
        await plane.wait(told)
    except OSError as error:
        log.error("cannot listen: %s", error)  # noqa: TRY400 - the port is taken, no more to say
        status = 1
    except Exception:
        log.exception("the data plane no longer follows its store")
        status = 1
    finally:
        graceful = told.is_set()
        await plane.stop(
            grace_s=settings.grace_s if graceful else 0.0,
            drain_s=settings.drain_s if graceful else 0.0,
        )
        with suppress(ConnectionError):
            await source.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever says it once more, while the interpreter goes, changes nothing of the status.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    return status
