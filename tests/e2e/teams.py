"""Teams whose pods have sidecars: their applications, and what these say of their requests."""

import base64
import json
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from e2e import parts
from e2e.world import INSIDE, NAMESPACE, Answer, World
from switchboard_policy import ir
from switchboard_policy.codec import decode

TEAMS: Final = ("team-a", "team-b")
PODS_EACH: Final = 10
URL: Final = "http://127.0.0.1:11080/v1"
PYTHON: Final = "/opt/dataplane/bin/python"
SECRET: Final = "switchboard-sidecar"

JsonObject = dict[str, Any]


def create_namespace(world: World, name: str, file: str) -> None:
    """Create a namespace with the objects of a file of inside/, and wait for its models."""
    world.kubectl("create", "namespace", name)
    names = ("callers.py", "collector.py", "fake_model.py")
    programs = (f"--from-file={INSIDE / program}" for program in names)
    world.kubectl("create", "configmap", "programs", "-n", name, *programs)
    apply(world, file, TEAM=name)
    world.wait_for("condition=Available", "deployment/model", namespace=name)
    world.wait_for_models(name)


def apply(world: World, file: str, **words: str) -> None:
    """Apply a file of inside/ with these words replaced."""
    text = (INSIDE / file).read_text()
    for word, value in {"TOOLS": parts.TOOLS, **words}.items():
        text = text.replace(word, value)
    world.kubectl("apply", "-f", "-", input=text)


def wait_for_rollouts(world: World) -> None:
    """Wait until every team's application is as it was last said to be."""
    for team in TEAMS:
        status = ("rollout", "status", "deployment/application", "-n", team, "--timeout=20s")
        rolled_out = partial(world.cluster.api.try_kubectl, *status)
        world.until(lambda: rolled_out().returncode == 0, f"rollout of {team}", within_s=900)  # noqa: B023


def pods(world: World, team: str, application: str = "application") -> list[JsonObject]:
    """The pods of an application that do not go away."""
    said = world.kubectl("get", "pods", "-n", team, "-l", f"app={application}", "-o", "json")
    return [pod for pod in json.loads(said)["items"] if "deletionTimestamp" not in pod["metadata"]]


def named(pod: JsonObject) -> str:
    name: str = pod["metadata"]["name"]
    return name


def sidecar_of(pod: JsonObject) -> JsonObject | None:
    """The native sidecar of a pod, None without one."""
    found = [one for one in pod["spec"].get("initContainers", ()) if "restartPolicy" in one]
    return found[0] if found else None


def ask(world: World, team: str, pod: JsonObject, model: str, *, expected: int = 200) -> Answer:
    """Have an application ask its sidecar."""
    path = f"/api/v1/namespaces/{team}/pods/{named(pod)}:8000/proxy"
    return world.ask(model, by=path, url=URL, expected=expected)


def run_in(world: World, team: str, pod: JsonObject, program: str, *words: str) -> str:
    """Run a program in the sidecar of a pod."""
    sidecar = sidecar_of(pod)
    assert sidecar is not None
    where = ("exec", "-i", "-n", team, named(pod), "-c", str(sidecar["name"]))
    return world.kubectl(*where, "--", PYTHON, "-", *words, input=program)


def kill_sidecar(world: World, team: str, pod: JsonObject) -> None:
    """Kill the data plane of a pod; on a node that is not of our own it is told to end."""
    if world.cluster.kind != "own":
        run_in(world, team, pod, "import os, signal; os.kill(1, signal.SIGTERM)")
        return
    # From within its pod nobody can: a namespace's first process takes no signal from its own.
    ours = pod["metadata"]["uid"]
    (pid,) = (
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"switchboard_dataplane\0--scope=ns/" in _read(folder / "cmdline")
        and ours.encode() in _read(folder / "cgroup")
    )
    os.kill(pid, signal.SIGKILL)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        # It has ended meanwhile.
        return b""


def reports(world: World) -> dict[str, JsonObject]:
    """What applications that have ended said, by pod."""
    raw = "/api/v1/namespaces/shared/pods/collector:8000/proxy/reports"
    return {one["pod"]: one for one in json.loads(world.kubectl("get", "--raw", raw))}


def report_of(world: World, team: str, pod: JsonObject) -> JsonObject:
    """What an application says so far."""
    raw = f"/api/v1/namespaces/{team}/pods/{named(pod)}:8000/proxy/report"
    said: JsonObject = json.loads(world.kubectl("get", "--raw", raw))
    return {"pod": named(pod), **said}


def failures(said: Mapping[str, JsonObject]) -> list[str]:
    """What went wrong, of all pods."""
    return [
        f"{pod}: {text}"
        for pod, report in said.items()
        for step in report["steps"]
        for text in step["failures"]
    ]


def counted(said: Mapping[str, JsonObject], name: str) -> list[int]:
    """A count of each pod."""
    return [sum(step[name] for step in report["steps"]) for report in said.values()]


def scope_key(world: World, team: str) -> bytes:
    """The key file of a team's scope, as an administrator sees it."""
    said = world.kubectl("get", "secret", SECRET, "-n", team, "-o", "json")
    return base64.b64decode(json.loads(said)["data"]["scope-key.json"])


def entries_of(world: World, scope: str) -> list[ir.Entry]:
    """What the store holds of a scope, read by whoever may read all of it."""
    users = json.loads(
        world.kubectl("get", "secret", "switchboard-redis", "-n", NAMESPACE, "-o", "json")
    )
    url = base64.b64decode(users["data"]["operator-url"]).decode()
    program = f"""
import asyncio, base64, json
from switchboard_dataplane.sources.redis_source import RedisSource
async def main():
    source = RedisSource({url!r}, scope={scope!r})
    manifest = await source.manifest("policy")
    found = await source.entries("policy", [one.digest for one in manifest.fields.values()])
    await source.close()
    print(json.dumps({{key: base64.b64encode(body).decode() for key, body in found.items()}}))
asyncio.run(main())
"""
    where = ("exec", "-i", "-n", "shared", "collector", "--", PYTHON, "-")
    said = json.loads(world.kubectl(*where, input=program))
    return [decode(base64.b64decode(body), digest=digest) for digest, body in said.items()]
