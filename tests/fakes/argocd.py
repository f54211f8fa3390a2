"""Argo CD's reading of a health script: Lua with its base and tables alone, and ``obj``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lupa import lua51

FOLDER = Path(__file__).parents[2] / "helm" / "switchboard" / "files" / "argocd"
SCRIPT = FOLDER / "health.lua"
ABSENT = ("io", "os", "string", "math", "debug", "coroutine", "require", "dofile", "loadfile")
"""What Argo CD does not load unless its administrator allows scripts everything."""
HEALTHS = {"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}


class Health(NamedTuple):
    """What Argo CD shows of an object."""

    status: str
    message: str


def assess_health(manifest: Mapping[str, Any], script: str = "") -> Health:
    """Return the health of an object, by the chart's script if no other is given."""
    runtime: Any = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    for name in ABSENT:
        runtime.globals()[name] = None
    runtime.globals()["obj"] = runtime.table_from(manifest, recursive=True)
    found = runtime.execute(script or SCRIPT.read_text())
    health = Health(str(found["status"]), str(found["message"]))
    assert health.status in HEALTHS
    return health
