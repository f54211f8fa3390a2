"""``switchboard key``: a client Secret with a fresh API key, ready to be applied."""

import argparse
import re
import secrets
import sys
from collections.abc import Mapping
from typing import Any, Final

KEY_PREFIX: Final = "sk-sb-"
_KEY_BYTES: Final = 32
_WRONG: Final = 2


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "key",
        help="make an API key for a client",
        description=(
            "Print a Secret with a fresh API key. Whoever shows the key is the client NAME; what "
            "is said here of it are the facts client.* of policies. The key is in no other place: "
            "pipe the Secret to `kubectl create -f -`, or keep it where you keep secrets."
        ),
    )
    parser.add_argument("name", metavar="NAME", help="of the client and its Secret")
    parser.add_argument("-n", "--namespace", metavar="NAME", default="", help="of the Secret")
    parser.add_argument("--tier", metavar="TIER", help="the fact client.tier")
    parser.add_argument("--team", metavar="TEAM", help="the fact client.team")
    parser.add_argument(
        "--label",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="one of the fact client.labels; may be given again",
    )
    parser.add_argument("--models", metavar="NAMES", help='models that may be used: "chat,gpt-4o*"')
    parser.add_argument("--expires", metavar="TIME", help="as 2027-01-31T00:00:00Z")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the Secret; return 0, or 2 where something that was said of the client is wrong."""
    import yaml

    from switchboard_policy.compiler.clients import read_client

    said = {
        "api-key": KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES),
        "tier": args.tier,
        "team": args.team,
        "labels": ",".join(args.label) or None,
        "models": args.models,
        "expires": args.expires,
    }
    data = {name: text for name, text in said.items() if text is not None}
    _, problems = read_client({name: text.encode() for name, text in data.items()})
    wrong = [
        f"--{problem.field.removeprefix('data.').replace('labels', 'label')}: {problem.message}; "
        f"{problem.fix}"
        for problem in problems
    ]
    wrong = [*_wrong_names(args), *wrong]
    for line in wrong:
        sys.stderr.write(f"switchboard key: {line}\n")
    if wrong:
        return _WRONG
    secret = client_secret(args.name, args.namespace, data)
    print(yaml.safe_dump(secret, sort_keys=False), end="")
    sys.stderr.write(_hint(args))
    return 0


def client_secret(name: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a client Secret; it has no namespace where that is ""."""
    from switchboard_policy.names import CLIENT_LABEL, LABELLED, SECRET_LABEL

    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            **place,
            "labels": {SECRET_LABEL: LABELLED, CLIENT_LABEL: LABELLED},
        },
        "type": "Opaque",
        "stringData": dict(data),
    }


def _wrong_names(args: argparse.Namespace) -> list[str]:
    from switchboard_policy.v1alpha1.common import LABEL_PATTERN, PATTERN_WORDS, SUBDOMAIN_PATTERN

    found: list[str] = []
    for flag, said, pattern, longest in (
        ("NAME", args.name, SUBDOMAIN_PATTERN, 253),
        ("--namespace", args.namespace or "default", LABEL_PATTERN, 63),
    ):
        if not re.fullmatch(pattern, said) or len(said) > longest:
            found.append(f"{flag}: {said!r} is no name; write {PATTERN_WORDS[pattern]}")
    return found


def _hint(args: argparse.Namespace) -> str:
    where = f" -n {args.namespace}" if args.namespace else ""
    return (
        "The key is in this Secret alone. Put it into the namespace from which the gateway takes "
        "clients:\n"
        f"  switchboard key {args.name} … | kubectl create -f -\n"
        "The client finds it there, and sends it as `Authorization: Bearer KEY`:\n"
        f"  kubectl get secret {args.name}{where} -o jsonpath='{{.data.api-key}}' | base64 -d\n"
    )
