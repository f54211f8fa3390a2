"""Ask a gateway, as an application would, until it answers or a minute is over.

`helm test` runs it in a pod. It passes before there is any policy, and has no key: that a gateway
refuses it for this is an answer too.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus

DEADLINE_S = float(os.environ.get("SWITCHBOARD_DEADLINE_S", "60"))
PAUSE_S = 2


def ask(variable: str, path: str) -> dict:
    """Return the answer's object. Raises OSError (every HTTP error is one) and ValueError."""
    with urllib.request.urlopen(os.environ[variable] + path, timeout=5) as answer:
        return json.load(answer)


def models() -> str:
    """Return the names of the models, or why they are not told."""
    try:
        found = ask("SWITCHBOARD_URL", "/v1/models")["data"]
    except urllib.error.HTTPError as refusal:
        if refusal.code != HTTPStatus.UNAUTHORIZED:
            raise
        return "for clients alone"
    return ", ".join(model["id"] for model in found) or "none yet"


def main() -> int:
    """Return the exit status."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            revision = ask("SWITCHBOARD_ADMIN_URL", "/readyz")["revision"]
            told = models()
        except (OSError, ValueError, LookupError) as error:
            print(f"not yet: {error!r}", file=sys.stderr)
            if time.monotonic() > end:
                return 1
            time.sleep(PAUSE_S)
        else:
            print(f"ready, revision {revision}; models: {told}")
            return 0


if __name__ == "__main__":
    sys.exit(main())
