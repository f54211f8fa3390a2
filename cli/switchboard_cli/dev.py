"""`switchboard dev DIR`: the whole product in one process, on a folder in the place of a cluster.

Files are the custom resources; an edit is compiled by the operator's compiler, published in the
in-process store, and followed by the data plane, as in a cluster. Nothing is left behind.
"""

import argparse
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from switchboard_cli.folder import Folder
    from switchboard_cli.terminal import Terminal
    from switchboard_operator.publication import Publication

_ENVIRONMENT_PREFIX: Final = "SWITCHBOARD_"
#: There is one writer, and it lives as long as the store.
_EPOCH: Final = 1
_GATEWAY: Final = "dev"
#: Who may call; tokens and meshes are a cluster's.
_ACCESS: Final = ("none", "keys")
#: Editors write a file in several steps; they are taken for one edit, in milliseconds.
_SETTLE_MS: Final = 30


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "dev",
        help="run a router on a folder of manifests, without a cluster",
        description="Run a router on a folder of manifests; an edit is in force at once. "
        f"Every flag is also an environment variable: --listen is {_ENVIRONMENT_PREFIX}LISTEN.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with the manifests")
    _add_flag(parser, "listen", "127.0.0.1:8080", "address of the public port")
    _add_flag(parser, "admin", "127.0.0.1:9090", "address of the admin port")
    _add_flag(parser, "platform-namespace", "platform", "where platform guardrails may be")
    _add_flag(parser, "zone", "", "the zone that the data plane takes itself to be in")
    _add_flag(parser, "access", "none", "none: anybody may call; keys: clients with a key")
    _add_flag(parser, "routers", "", "folder of learned routers that policies may name")
    _add_flag(
        parser, "allow-addresses", "127.0.0.0/8,::1", "networks where models may be called, too"
    )
    parser.add_argument(
        "--fake-models", type=Path, metavar="FILE", help="TOML file of fake models to start too"
    )
    parser.set_defaults(run=run)


def _add_flag(parser: argparse.ArgumentParser, name: str, default: str, meaning: str) -> None:
    variable = _ENVIRONMENT_PREFIX + name.replace("-", "_").upper()
    parser.add_argument(
        f"--{name}",
        metavar="VALUE",
        default=os.environ.get(variable, default),
        help=f"{meaning} (default {default or 'none'})",
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C or SIGTERM; return 0, 1 if a port is taken, 2 for wrong flags."""
    import asyncio
    import sys

    from switchboard_cli.fakes import FakesError, read_fakes

    if not args.folder.is_dir():
        sys.stderr.write(f"switchboard dev: {args.folder} is no folder; name one with manifests\n")
        return 2
    if args.access not in _ACCESS:
        said = " or ".join(_ACCESS)
        sys.stderr.write(f"switchboard dev: --access {args.access!r} is nothing here; say {said}\n")
        return 2
    try:
        fakes = read_fakes(args.fake_models) if args.fake_models else ()
        asyncio.run(_run(args, fakes))
    except (FakesError, OSError, ValueError) as error:
        sys.stderr.write(f"switchboard dev: {error}\n")
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        pass
    return 0


async def _run(args: argparse.Namespace, fakes: Any) -> None:
    import asyncio
    import signal
    import time

    from switchboard_cli.fakes import serve_fakes
    from switchboard_cli.folder import Folder
    from switchboard_cli.terminal import Terminal
    from switchboard_dataplane import app
    from switchboard_dataplane.settings import Settings
    from switchboard_operator.publication import Publication
    from switchboard_policy.compiler.world import Gateway
    from switchboard_policy.names import gateway_scope
    from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file
    from switchboard_policy.store.memory import MemoryStore

    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    scope = gateway_scope(_GATEWAY)
    key_file = write_key_file("dev", {"dev": secrets.token_bytes(KEY_BYTES)})
    keyring = read_keyring(scope, key_file)
    store = MemoryStore(clock_ms=lambda: time.monotonic_ns() // 1_000_000)
    gateway = Gateway(
        name=_GATEWAY,
        namespace="default",
        platform_namespace=args.platform_namespace,
        clients_from="All",
    )
    publication = Publication(gateway, lambda: keyring, store.writer(keyrings=lambda _: keyring))
    terminal, folder = Terminal.of(), Folder([args.folder])
    plane = app.build(
        Settings(
            listen=args.listen,
            admin=args.admin,
            scope=scope,
            zone=args.zone,
            pod_name="dev",
            routers=args.routers,
            access=args.access,
            allow_addresses=args.allow_addresses,
        ),
        source=store.reader(scope),
        keyring=lambda: keyring,
        observers=(terminal.show,),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve_fakes(fakes))
        await _publish(folder, publication, terminal)
        await stack.enter_async_context(app.serving(plane))
        for fake in fakes:
            models = ", ".join(fake.settings.models)
            terminal.say(f"fake model {fake.settings.name} ({models}) at {fake.host}:{fake.port}")
        _welcome(args.folder, terminal, publication, plane.port, plane.admin_port)
        watching = asyncio.create_task(_watch(args.folder, folder, publication, terminal, told))
        await told.wait()
        await watching
    terminal.say("ended: nothing is left running")


async def _watch(
    path: Path, folder: "Folder", publication: "Publication", terminal: "Terminal", told: Any
) -> None:
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

    async for _ in awatch(path, stop_event=told, debounce=_SETTLE_MS, step=_SETTLE_MS // 3):
        before = publication.revision
        await _publish(folder, publication, terminal)
        if publication.revision != before:
            terminal.say(f"in force: revision {publication.revision}")


async def _publish(folder: "Folder", publication: "Publication", terminal: "Terminal") -> None:
    from switchboard_cli.validate import validate

    manifests = folder.read()
    for problem in (*validate(manifests).findings, *folder.misread):
        about = " ".join(filter(None, (problem.object, problem.field)))
        subject = f"{about}: " if about else ""
        terminal.warn(f"{problem.file}:{problem.line}: {subject}{problem.message}")
        terminal.warn(f"  fix: {problem.fix}")
    publication.compile(folder.inventory.world)
    for line in _told(publication):
        terminal.warn(line)
    await publication.publish(_EPOCH)


def _told(publication: "Publication") -> "Iterator[str]":
    """Say what the compiler says beyond each object itself."""
    from switchboard_policy import names
    from switchboard_policy.compiler.clients import DUPLICATE

    compilation = publication.compilation
    for secret, refusal in compilation.refused_clients.items():
        if refusal.reason == DUPLICATE:
            yield f"Secret {secret}: {refusal.message}"
    for (kind, name), report in compilation.reports.items():
        for finding in (*report.unresolved, *report.warnings):
            yield f"{kind} {name}: {finding.reason}: {finding.message}"
        if report.quarantined:
            yield f"{kind} {name}: the edit is not in force, the last good one is"
        awaited = kind == "ModelBackend" and names.endpoints_key(*name) in compilation.endpoints
        if awaited and not (report.endpoints_ready or report.unresolved):
            yield (
                f"{kind} {name}: no endpoint of its Service is ready; here an EndpointSlice in the "
                "folder has to name one"
            )


def _welcome(
    folder: Path, terminal: "Terminal", publication: "Publication", port: int, admin_port: int
) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    asks = "\n".join(f"  curl -s {url}/chat/completions {ask}" for ask in _asks(publication))
    terminal.say(
        f"\nserving {url}, admin at http://127.0.0.1:{admin_port} (/policy /backends /metrics)\n"
        + (f"\ntry, in another terminal:\n{asks}\n" if asks else "")
        + f"\nedit a file in {folder} and the next request obeys; Ctrl-C ends everything\n"
    )
    terminal.header()


def _asks(publication: "Publication") -> "Iterator[str]":
    """What curl may be told to ask: the first model, one by a tag that a rule knows, a stream."""
    from switchboard_policy import ir

    entries = [one.entry for _, one in sorted(publication.compilation.policy.items())]
    policies = [one for one in entries if isinstance(one, ir.Policy)]
    models = [name for one in policies for name in one.models if not name.endswith("*")]
    question = '"messages": [{"role": "user", "content": "Why is the sky blue?"}]'
    if models:
        yield f"""-d '{{"model": "{models[0]}", {question}}}'"""
    for policy in policies:
        tags = [tag for rule in policy.rules if rule.match for tag in rule.match.tags]
        named = [name for name in policy.models if name in models]
        if tags and named:
            tag = f"-H 'x-switchboard-tags: {tags[0]}'"
            yield f"""{tag} -d '{{"model": "{named[0]}", {question}}}' -i"""
            break
    if models:
        yield f"""-d '{{"model": "{models[-1]}", {question}, "stream": true}}' -N"""
