"""Clients before and after, whose keys stand in the manifests: who may call, for what, as whom."""

from collections.abc import Iterator
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Final

from switchboard_cli.review.changes import Change
from switchboard_cli.review.served import covers_name
from switchboard_cli.review.sides import Side
from switchboard_policy import ir

#: What rules and guardrails may read of a client.
_FACTS: Final = ("tier", "team", "labels")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def changed_clients(old: Side, new: Side) -> Iterator[Change]:
    """Yield what became of clients."""
    for name in sorted(old.clients.keys() | new.clients.keys()):
        was, now = old.clients.get(name), new.clients.get(name)
        if was is None and now is not None:
            told = f"may call now: {_may_use(now)}, {_until(now)}"
            yield _change("client added", name, told, *_facts(now))
        elif now is None:
            yield _change("client removed", name, "may call no more")
        elif was is not None:
            yield from _changed(was, now)


def _changed(was: ir.Client, now: ir.Client) -> Iterator[Change]:
    if was.models != now.models:
        more, less = _covers(now, was), _covers(was, now)
        kind = "client may use other models"
        if more != less:
            kind = f"client may use {'more' if more else 'fewer'} models"
        yield _change(kind, now.name, f"{_may_use(now)}; before: {_may_use(was)}")
    if was.expires_ms != now.expires_ms:
        yield _change("client expiry changed", now.name, f"{_until(now)}; before: {_until(was)}")
    if was.digest != now.digest:
        yield _change("client key changed", now.name, "has another key: the one before is no more")
    before, after = _facts(was), _facts(now)
    told = [f"{one} → {other}" for one, other in zip(before, after, strict=True) if one != other]
    if told:
        yield _change("client known otherwise", now.name, "; ".join(told))


def _change(kind: str, name: str, told: str, *details: str) -> Change:
    return Change(severity="access", kind=kind, text=f"client {name} {told}", details=details)


def _covers(client: ir.Client, other: ir.Client) -> bool:
    """Say whether a client may use all that another may."""
    mine, others = client.models or ("*",), other.models or ("*",)
    return all(any(covers_name(pattern, model) for pattern in mine) for model in others)


def _may_use(client: ir.Client) -> str:
    return f"may use {', '.join(client.models)}" if client.models else "may use all models"


def _until(client: ir.Client) -> str:
    if client.expires_ms is None:
        return "never expires"
    try:
        at = _EPOCH + timedelta(milliseconds=client.expires_ms)
    except OverflowError:
        # West of Greenwich the last hours of the year 9999 are in the next one.
        return f"expires after the year {MAXYEAR}"
    return f"expires {at:%Y-%m-%d %H:%M} UTC"


def _facts(client: ir.Client) -> tuple[str, ...]:
    labels = ",".join(f"{key}={value}" for key, value in client.labels)
    said = {"tier": client.tier, "team": client.team, "labels": labels}
    return tuple(f"{fact} {said[fact] or '(none)'}" for fact in _FACTS)
