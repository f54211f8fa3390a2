"""Switchboard as it is deployed: a data-plane process that follows a Redis.

The policy goes there by the operator's own inventory, compiler and publisher, without the API
server in front of them.
"""

import asyncio
import secrets
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from figures import REPO
from gateways.place import Gateway, Place

from cluster.processes import free_port
from switchboard_cli.folder import Folder
from switchboard_dataplane.upstream.addresses import LOOPBACK
from switchboard_operator.publication import Publication
from switchboard_operator.publisher import RedisStore
from switchboard_policy.compiler.world import Gateway as Scope
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file

NAME = "switchboard"
INTERPRETED = "switchboard-interpreted"
READY_S = 30.0

SCOPE = "gw/default"
_BACKEND = """
apiVersion: switchboard.dev/v1alpha1
kind: ModelBackend
metadata: {{name: {name}, namespace: ai}}
spec:
  model: mock
  external: {{provider: openai-compatible, url: "http://127.0.0.1:{port}/v1"}}
  capabilities: {{apis: [chat], contextWindow: 1048576, maxOutputTokens: 1048576}}
  pricing: {{inputPerMillion: "0.05", outputPerMillion: "0.08"}}
  locality: {{jurisdiction: eu}}
---
"""
_POLICY = """
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: chat, namespace: ai}
spec:
  models: [chat]
  guardrails:
  - name: eu-only
    when: request.tags.exists(t, t == "eu")
    require: backend.jurisdiction == "eu"
  rules:
  - name: code
    match: {keywords: [refactor, traceback]}
    route: {tiers: [{name: far, backends: [{name: far}]}]}
  - name: heavy
    when: request.tokens > 500000 && !request.stream
    route: {tiers: [{name: far, backends: [{name: far}]}]}
  - name: default
    route:
      tiers:
      - {name: near, backends: [{name: near-a}, {name: near-b}], balance: {by: Latency}}
      - {name: far, backends: [{name: far}]}
"""


class WrongForm(Exception):
    """The process runs the other form of the data plane than what it was started as."""


class PolicyRefused(Exception):
    """The benchmark's own policy did not compile as it should."""


def start_compiled(place: Place) -> Gateway:
    """Start the data plane as images hold it; as plain Python, and say so, where that is not there.

    ``make compiled`` makes it, and the targets of benchmarks do.
    """
    current = subprocess.run([REPO / "tools" / "setup.sh", "is-compiled"], check=False)
    if current.returncode == 0:
        return _start(NAME, place, compiled=True)
    print(
        f"peers: {NAME} runs interpreted: .compiled is missing or older than the sources",
        file=sys.stderr,
    )
    return _start(NAME, place, compiled=False)


def start_interpreted(place: Place) -> Gateway:
    """Start the data plane as plain Python."""
    return _start(INTERPRETED, place, compiled=False)


def _start(name: str, place: Place, *, compiled: bool) -> Gateway:
    """Start a Redis and a data plane, publish the policy, wait until it is in force."""
    folder = place.own_folder(name)
    keys = write_key_file("bench", {"bench": secrets.token_bytes(KEY_BYTES)})
    key_file = folder / "scope-key.json"
    key_file.write_bytes(keys)
    redis = place.start_redis(name)
    asyncio.run(publish(_write_manifests(folder, place.model_port), redis.url, keys))
    port, admin_port = free_port(), free_port()
    path = f"PYTHONPATH={REPO / '.compiled'}" if compiled else "--unset=PYTHONPATH"
    process = place.start_gateway(
        name,
        [
            *("env", path, sys.executable, "-m", "switchboard_dataplane"),
            *("--redis-url", redis.url, "--scope", SCOPE, "--scope-key-file", key_file),
            *("--state-dir", folder / "state", "--pod-name", "bench", "--grace-s", "0"),
            *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}"),
            *("--allow-addresses", LOOPBACK),
        ],
    )
    process.wait_for_http(f"http://127.0.0.1:{admin_port}/readyz", timeout_s=READY_S)
    form = "compiled" if compiled else "interpreted"
    if f", {form}\n" not in process.log_text():
        raise WrongForm(f"{name} does not run {form}:\n{process.log_tail()}")
    about = f"{version('llm-switchboard')} {form}"
    return Gateway(name, about, port, process, admin_port, compiled)


def _write_manifests(folder: Path, model_port: int) -> Path:
    manifests = folder / "manifests"
    manifests.mkdir()
    backends = [_BACKEND.format(name=name, port=model_port) for name in ("near-a", "near-b", "far")]
    (manifests / "world.yaml").write_text("".join(backends) + _POLICY)
    return manifests


async def publish(manifests: Path, redis_url: str, keys: bytes) -> None:
    """Publish a folder of manifests; raises PolicyRefused where one is not as it should be."""
    folder, keyring = Folder([manifests]), read_keyring(SCOPE, keys)
    read = folder.read()
    if read.problems or folder.misread:
        raise PolicyRefused(f"{read.problems} {folder.misread}")
    store = RedisStore(redis_url, keyrings=lambda _: keyring)
    publication = Publication(Scope(name="default", namespace="ai"), lambda: keyring, store)
    publication.compile(folder.inventory.world)
    for about, report in publication.compilation.reports.items():
        if report.unresolved or report.quarantined:
            raise PolicyRefused(f"{about}: {report}")
    try:
        await publication.publish(1)
    finally:
        await store.close()
