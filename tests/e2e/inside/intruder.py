"""What somebody tries who has broken into a sidecar; prints what came of each try, as JSON.

It has what the data plane was told: its flags, its environment, its files. ``--others`` are scopes
that are not its own.
"""

import argparse
import http.client
import json
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis

from switchboard_dataplane.settings import Settings, parse_settings
from switchboard_policy.store.layout import channel_keys, pod_keys

API: Final = "kubernetes.default.svc"
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Command = tuple[str | int, ...]


def settings_of_pid_1() -> Settings:
    """The settings of the data plane that this container runs."""
    words = Path("/proc/1/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    flags = words[words.index("switchboard_dataplane") + 1 :]
    return parse_settings(flags, os.environ, prog="intruder")


def commands(scope: str, others: list[str]) -> Iterator[tuple[str, Command]]:
    """Commands for the store, and what each is after."""
    own = channel_keys(scope, "policy")
    yield "own head", ("HGETALL", own.head)
    yield "all keys", ("KEYS", "*")
    yield "a scan", ("SCAN", 0)
    yield "all users", ("ACL", "LIST")
    yield "a user", ("ACL", "SETUSER", "intruder", "on", "nopass", "~*", "+@all")
    yield "configuration", ("CONFIG", "GET", "*")
    yield "own head, written", ("HSET", own.head, "revision", "9-9")
    yield "own manifest, dropped", ("DEL", own.manifest)
    yield "everything, dropped", ("FLUSHALL",)
    for other in others:
        keys, pods = channel_keys(other, "policy"), pod_keys(other)
        yield f"{other}: head", ("HGETALL", keys.head)
        yield f"{other}: manifest", ("HGETALL", keys.manifest)
        yield f"{other}: log", ("XRANGE", keys.log, "-", "+")
        yield f"{other}: words", ("XRANGE", pods.words, "-", "+")
        yield f"{other}: a word", ("XADD", pods.words, "*", "word", "[]")
        yield f"{other}: pods", ("HGETALL", pods.pods)
        for name, where in (("a key", "KEYS[1]"), ("an argument", "ARGV[1]")):
            script = f"return redis.call('HGETALL', {where})"
            said = (keys.head,) if name == "a key" else (own.head, keys.head)
            yield f"{other}: by {name} of a script", ("EVAL", script, 1, *said)


def ask_store(settings: Settings, command: Command) -> str:
    """What came of a command: "refused", or what else."""
    store: Any = redis.Redis.from_url(Path(settings.redis_url_file).read_text(), socket_timeout=60)
    try:
        return f"GOT {store.execute_command(*command)!s:.100}"
    except redis.exceptions.ResponseError as error:
        said = str(error).lower()
        return "refused" if "permission" in said else f"{type(error).__name__}: {error}"


def ask_api_server(token: Path, namespace: str) -> str:
    """What comes of asking for the Secrets of a namespace: "refused", or what else."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(API, timeout=60, context=anybody)
    shown = {"Authorization": f"Bearer {token.read_text().strip()}"}
    connection.request("GET", f"/api/v1/namespaces/{namespace}/secrets", headers=shown)
    status = connection.getresponse().status
    return "refused" if status in (401, 403) else f"GOT {status}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--others", nargs="+", required=True)
    others: list[str] = parser.parse_args().others
    settings = settings_of_pid_1()
    told = {"scope": settings.scope}
    for name, command in commands(settings.scope, others):
        told[name] = ask_store(settings, command)
    tokens = {"the gateway's": Path(settings.gateway_token_file)}
    if ACCOUNT.exists():
        tokens["the account's"] = ACCOUNT
    for whose, token in tokens.items():
        for scope in (settings.scope, *others):
            namespace = scope.partition("/")[2]
            told[f"secrets of {namespace}, by {whose} token"] = ask_api_server(token, namespace)
    json.dump(told, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
