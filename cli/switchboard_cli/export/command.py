"""``switchboard export``: read the log of decisions, join it with its ratings, write it."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Final

import aiohttp

from switchboard_cli.export.joining import Counts, Joining
from switchboard_dataplane.learning.decisions import read_rated
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_policy.errors import Malformed
from switchboard_policy.seal import Keyring, read_keyring
from switchboard_policy.store import Record, StoreReader

DONE: Final = 0
REFUSED: Final = 1
#: Entries that are read at once.
PORTION: Final = 1_000
#: An admin port that does not answer within this is not there, in seconds.
ADMIN_TIMEOUT_S: Final = 10.0

_OK: Final = 200


class ExportFailed(Exception):
    """What is to be exported cannot be read; says why."""


def main(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """Run the command; return its exit status (2 for wrong flags)."""
    parser = _parser(env)
    args = parser.parse_args(argv)
    if not args.admin and not args.redis_url:
        args.redis_url = env.get("SWITCHBOARD_REDIS_URL", "")
    if bool(args.redis_url) == bool(args.admin):
        parser.error("name what to read: one of --redis-url and --admin")
    return run(args)


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard export",
        description=(
            "Write the log of decisions as JSON lines, each decision with its ratings: all that "
            "Redis keeps of a scope, or the latest of one pod, from its admin port (without "
            "texts). `switchboard report` and `switchboard train` read it."
        ),
    )
    parser.add_argument(
        "--redis-url",
        default="",
        metavar="URL",
        help="the store; SWITCHBOARD_REDIS_URL if not given",
    )
    parser.add_argument("--admin", default="", metavar="URL", help="a data plane's admin port")
    parser.add_argument(
        "--scope", default=env.get("SWITCHBOARD_SCOPE", "gw/default"), help="default: gw/default"
    )
    parser.add_argument(
        "--scope-key-file",
        type=Path,
        metavar="FILE",
        help="the scope's keys: entries that they did not sign are left out",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write; standard output if none"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Export by the parsed arguments; return the exit status."""
    try:
        writing = args.output.open("wb") if args.output else nullcontext(sys.stdout.buffer)
        path: Path | None = args.scope_key_file
        keyring = None if path is None else read_keyring(args.scope, path.read_bytes())
        with writing as output:
            counts = asyncio.run(_export(args, keyring, output))
    except (ConnectionError, ExportFailed, Malformed, OSError, ValueError) as error:
        print(f"switchboard export: {error}", file=sys.stderr)
        return REFUSED
    print(f"{counts.decisions} decisions, {counts.rated} of them rated", file=sys.stderr)
    if counts.forged:
        print(f"{counts.forged} entries left out: not signed by {args.scope}", file=sys.stderr)
    if counts.unreadable:
        print(f"{counts.unreadable} entries left out: unreadable", file=sys.stderr)
    return DONE


async def _export(args: argparse.Namespace, keyring: Keyring | None, output: BinaryIO) -> Counts:
    if args.admin:
        return await export_pod(args.admin, output)
    source = RedisSource(args.redis_url, scope=args.scope)
    try:
        return await export_log(source, output, Joining(keyring))
    finally:
        with suppress(ConnectionError):
            await source.close()


async def export_log(source: StoreReader, output: BinaryIO, joining: Joining) -> Counts:
    """Write all decisions that the store's log holds; raises ConnectionError."""
    async for records in _portions(source):
        joining.take_ratings(records)
        joining.counts.forged += joining.forged_among(records)
    async for records in _portions(source):
        for line in joining.lines(records):
            output.write(line)
    return joining.counts


async def export_pod(admin_url: str, output: BinaryIO) -> Counts:
    """Write the decisions that one pod remembers; raises ExportFailed."""
    counts, after = Counts(), ""
    timeout = aiohttp.ClientTimeout(total=ADMIN_TIMEOUT_S)
    url = f"{admin_url.rstrip('/')}/decisions"
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while lines := await _ask(session, url, after):
                for line in lines:
                    said = read_rated(line)
                    counts.decisions += 1
                    counts.rated += bool(said.ratings)
                    output.write(line)
                    after = said.id
    except TimeoutError as error:
        raise ExportFailed(f"{url} does not answer within {ADMIN_TIMEOUT_S:g} s") from error
    except aiohttp.ClientError as error:
        raise ExportFailed(f"{url} cannot be read: {error}") from error
    return counts


async def _ask(session: aiohttp.ClientSession, url: str, after: str) -> list[bytes]:
    async with session.get(url, params={"after": after}) as response:
        if response.status != _OK:
            raise ExportFailed(f"{url} answers with status {response.status}")
        return (await response.read()).splitlines(keepends=True)


async def _portions(source: StoreReader) -> AsyncIterator[Sequence[Record]]:
    after = ""
    while True:
        found = await source.recorded(after, limit=PORTION)
        if not found.records:
            return
        yield found.records
        after = found.after
