"""`switchboard fake-model`: flags, environment, one ready line, a clean end on a signal."""

import argparse
import asyncio
import os
import signal
import sys
from typing import cast

from switchboard_cli.fake_model.settings import (
    ENVIRONMENT_PREFIX,
    KNOBS,
    Form,
    Settings,
    SettingsError,
    read_settings,
)

_LISTEN = "127.0.0.1:8000"
_PORT_MAX = 65_535


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the subcommand; `args.run(args)` runs it and returns the exit status."""
    parser = subparsers.add_parser(
        "fake-model",
        help="run an OpenAI-compatible model server that answers nonsense and fails on demand",
        description=(
            "An OpenAI-compatible model server with vLLM's metrics. Every flag is also an "
            f"environment variable ({ENVIRONMENT_PREFIX}TTFT_MS; lists with commas, faults with "
            "semicolons), and a field of PATCH /control while it runs."
        ),
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"address to listen on, port 0 takes a free one (default {_LISTEN})",
    )
    defaults = Settings()
    for knob in KNOBS:
        text = f"{knob.meaning} (default {_show(getattr(defaults, knob.field))})"
        if knob.form is Form.SWITCH:
            action: str | type[argparse.Action] = argparse.BooleanOptionalAction
        else:
            action = "append" if knob.form in (Form.TEXTS, Form.FAULTS) else "store"
        parser.add_argument(knob.flag, dest=knob.field, action=action, help=text.replace("%", "%%"))
    parser.set_defaults(run=run)


def _show(default: object) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", default))) or "none"
    return "none" if default is None else str(default).lower()


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, 2 for a wrong flag, 1 if it cannot listen."""
    try:
        settings = read_settings(vars(args), os.environ)
        host, port = _read_listen(args.listen or os.environ.get(f"{ENVIRONMENT_PREFIX}LISTEN"))
    except SettingsError as error:
        sys.stderr.write(f"switchboard fake-model: {error}\n")
        return 2
    try:
        asyncio.run(_serve_until_signal(settings, host, port))
    except OSError as error:
        sys.stderr.write(f"switchboard fake-model: cannot listen on {host}:{port}: {error}\n")
        return 1
    return 0


def _read_listen(listen: str | None) -> tuple[str, int]:
    host, _, port = (listen or _LISTEN).rpartition(":")
    if not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise SettingsError("listen", f"(--listen) must be HOST:PORT, not {listen!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _serve_until_signal(settings: Settings, host: str, port: int) -> None:
    # Imported here: the other subcommands start without the web server.
    from switchboard_cli.fake_model.server import serve

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(settings, host=host, port=port) as serving:
        models = ", ".join(settings.models)
        sys.stdout.write(f"fake-model {settings.name} serves {models} at {serving.url}/v1\n")
        sys.stdout.flush()
        await ended.wait()
