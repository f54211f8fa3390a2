"""Outcomes for tests, in a line or two each."""

from typing import Any

from switchboard_dataplane.telemetry.outcome import Outcome


def outcome(**fields: Any) -> Outcome:
    """An outcome of a chat that was answered at once, unless the fields say otherwise."""
    said = {"at": 1.0, "api": "chat", "status": 200, "duration_s": 0.1}
    made = Outcome(**{name: fields.pop(name, value) for name, value in said.items()})
    for name, value in fields.items():
        assert hasattr(made, name), f"an outcome has no {name}"
        setattr(made, name, value)
    return made
