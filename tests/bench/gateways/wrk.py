"""Closed-loop load by wrk: one thread, some connections, the same request over and over."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateways.asks import PATH
from gateways.one import BadAnswer

_SLACK_S = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted."""

    requests: int
    per_second: float


class Wrk:
    """The program and the script with its request, in a folder."""

    def __init__(self, program: str, folder: Path, body: bytes) -> None:
        self._program = program
        self._script = folder / "wrk.lua"
        # A JSON string is a Lua string as long as it is ASCII without \u and \/.
        self._script.write_text(
            'wrk.method = "POST"\n'
            f"wrk.body = {json.dumps(body.decode('ascii'))}\n"
            'wrk.headers["Content-Type"] = "application/json"\n'
            'wrk.headers["Authorization"] = "Bearer none"\n'
        )

    def version(self) -> str:
        """Its version."""
        done = subprocess.run([self._program, "-v"], capture_output=True, text=True, check=False)
        found = re.search(r"wrk (?:debian/)?(\S+)", done.stdout + done.stderr)
        return found[1] if found else "unknown"

    def run(self, port: int, *, connections: int, seconds: float) -> Load:
        """Load a port for whole seconds; raises BadAnswer where an answer was none."""
        duration_s = max(1, round(seconds))
        done = subprocess.run(
            [
                *(self._program, "-t1", f"-c{connections}", f"-d{duration_s}s", "--timeout", "10s"),
                *("-s", str(self._script), f"http://127.0.0.1:{port}{PATH}"),
            ],
            capture_output=True,
            text=True,
            timeout=duration_s + _SLACK_S,
            check=False,
        )
        counted = re.search(r"(\d+) requests in", done.stdout)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        wrong = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
        if counted is None or rate is None or wrong:
            raise BadAnswer(wrong[0] if wrong else done.stderr or done.stdout)
        if counted[1] == "0":
            raise BadAnswer(f"no answer within {duration_s} s")
        return Load(int(counted[1]), float(rate[1]))
