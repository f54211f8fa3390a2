"""``switchboard explain``: a request, or a decision, and why it goes where it goes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from switchboard_cli.explain.text import explained, recalled
from switchboard_cli.manifests import STDIN
from switchboard_cli.review.sides import Settings
from switchboard_cli.review.sides import Unreadable as UnreadableFiles
from switchboard_cli.terminal import Terminal
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.question import (
    QUESTION_BYTES_MAX,
    Unreadable,
    read_question,
)
from switchboard_dataplane.upstream.addresses import AddressGuard, read_networks

SERVED: Final = 0
REJECTED: Final = 1
UNREADABLE: Final = 2

#: A decision that was refused, or failed, has such a status.
_ERROR_STATUS: Final = 400
#: Where the models of a laptop are, as `switchboard dev` has it.
_LOOPBACK: Final = "127.0.0.0/8,::1"


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    problem = _misused(args)
    if problem:
        parser.error(problem)
    try:
        found = _found(args)
    except (OSError, Unreadable, UnreadableFiles, msgspec.DecodeError) as error:
        param = error.param if isinstance(error, Unreadable) else ""
        about = f"{param}: " if param else ""
        print(f"switchboard explain: {about}{error}", file=sys.stderr)
        return UNREADABLE
    _show(found, args.output)
    if isinstance(found, form.Explanation):
        return REJECTED if found.outcome == "rejected" else SERVED
    status: int = found.decision.get("status", 0)
    return REJECTED if status >= _ERROR_STATUS else SERVED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard explain",
        description=(
            "Say why a request goes where it goes: policy, rules, guardrails, every candidate "
            "with the filter that drops it or its score. By manifests, or by what a live pod "
            "knows now. No model is asked. Exits 0 where the request would be served, 1 where it "
            "would be rejected, 2 where something cannot be read."
        ),
    )
    parser.add_argument(
        "request",
        nargs="?",
        metavar="REQUEST",
        help="a JSON file, - for stdin: an OpenAI request, or {api, headers, client, arm, body}",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--files", nargs="+", metavar="PATH", help="by these files and folders")
    where.add_argument("--admin", metavar="URL", help="by the pod whose admin port this is")
    parser.add_argument("--decision", metavar="ID", help="a decision that the pod remembers")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument(
        "--platform-namespace",
        metavar="NAME",
        default="platform",
        help="where platform guardrails may be (default: platform)",
    )
    parser.add_argument(
        "--order",
        metavar="LIST",
        default="",
        help="the gateway's order of namespaces, the strongest first, by commas",
    )
    parser.add_argument("--zone", metavar="NAME", default="", help="the data plane's zone")
    parser.add_argument("--routers", metavar="DIR", default="", help="folder of learned routers")
    parser.add_argument(
        "--allow-addresses",
        metavar="LIST",
        type=_guard,
        default=_LOOPBACK,
        help=f"networks where models may be called, too (default: {_LOOPBACK})",
    )
    return parser


def _guard(networks: str) -> AddressGuard:
    try:
        return AddressGuard(read_networks(networks))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _misused(args: argparse.Namespace) -> str:
    if args.decision and not args.admin:
        return "--decision needs --admin: only a pod remembers decisions"
    if bool(args.decision) == bool(args.request):
        return "give either a REQUEST or --decision"
    return ""


def _found(args: argparse.Namespace) -> form.Explanation | form.Remembered:
    if args.decision:
        from switchboard_cli.explain.live import ask_decision

        return ask_decision(args.admin, args.decision)
    data = _read(args.request)
    if args.admin:
        from switchboard_cli.explain.live import ask_request

        return ask_request(args.admin, data)
    from switchboard_cli.explain.files import Gateway, explain_files

    view = read_question(data)
    said: str = args.order
    order = tuple(name for name in said.split(",") if name)
    settings = Settings(platform_namespace=args.platform_namespace, order=order)
    gateway = Gateway(settings, args.zone, args.routers, args.allow_addresses)
    return explain_files(view, args.files, gateway)


def _read(path: str) -> bytes:
    # One more than may be: what is longer is refused, and not read to its end.
    if path == STDIN:
        return sys.stdin.buffer.read(QUESTION_BYTES_MAX + 1)
    with Path(path).open("rb") as stream:
        return stream.read(QUESTION_BYTES_MAX + 1)


def _show(found: form.Explanation | form.Remembered, output: str) -> None:
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    terminal = Terminal.of(sys.stdout)
    lines = explained(found) if isinstance(found, form.Explanation) else recalled(found)
    for line in lines:
        terminal.write(line.text, line.shade)
