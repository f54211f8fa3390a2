"""kopf is told to watch and to do nothing else."""

import asyncio
import getpass
import threading

import kopf
import pytest

from switchboard_operator.handlers import Intake, Watches, quiet_settings, register
from switchboard_operator.resources import WATCHED, Kind, Raw
from switchboard_operator.rest import Connection

CONNECTION = Connection(
    server="https://127.0.0.1:6443",
    ca_path="/ca.crt",
    verify=True,
    authorization="Bearer token",
    certificate_path=None,
    key_path=None,
)


def registered(*, clusterwide: bool) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    register(
        registry,
        deliver=lambda kind, event_type, body: None,
        connection=lambda: CONNECTION,
        clusterwide=clusterwide,
    )
    return registry


def watched(registry: kopf.OperatorRegistry) -> set[str]:
    return {
        str(handler.selector.any_name)
        for handler in registry._watching.get_all_handlers()
        if handler.selector
    }


def test_every_kind_is_watched_and_only_watched() -> None:
    registry = registered(clusterwide=True)
    assert watched(registry) == {resource.plural for resource in WATCHED.values()}
    for others in (registry._changing, registry._spawning, registry._indexing):
        assert not list(others.get_all_handlers())


def test_namespaces_are_not_watched_without_the_right_to() -> None:
    everything = {resource.plural for resource in WATCHED.values()}
    assert watched(registered(clusterwide=False)) == everything - {"namespaces"}


def test_kopf_writes_nothing_and_reads_no_more_than_it_must() -> None:
    settings = quiet_settings()
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.scanning.disabled
    selectors = settings.watching.label_selectors
    assert len(selectors) == 2
    assert selectors["", "v1", "secrets"] == "switchboard.dev/secret"
    slices = ("discovery.k8s.io", "v1", "endpointslices")
    assert selectors[slices] == "kubernetes.io/service-name"


def watches(failed: threading.Event) -> Watches:
    nobody = Connection(
        server="https://127.0.0.1:1",
        ca_path=None,
        verify=False,
        authorization="Bearer token",
        certificate_path=None,
        key_path=None,
    )
    return Watches(
        (),
        connection=lambda: nobody,
        deliver=lambda kind, event_type, body: None,
        began=lambda: None,
        failed=failed.set,
    )


async def test_the_watches_start_as_a_user_without_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nameless)
    failed = threading.Event()
    running = watches(failed)
    running.start()
    await asyncio.to_thread(failed.wait, 1.0)
    assert not failed.is_set()
    await running.stop()


async def test_watches_that_fail_are_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(**_: object) -> None:
        raise RuntimeError("no kopf today")

    monkeypatch.setattr(kopf, "operator", broken)
    failed = threading.Event()
    running = watches(failed)
    running.start()
    await asyncio.to_thread(failed.wait, 5.0)
    assert failed.is_set()
    assert not running.alive
    await running.stop()


async def test_events_of_another_thread_arrive_in_order() -> None:
    taken: list[tuple[Kind, str | None, int]] = []
    done = asyncio.Event()

    def take(kind: Kind, event_type: str | None, body: Raw) -> None:
        taken.append((kind, event_type, body["number"]))
        if len(taken) == 1000:
            done.set()

    intake = Intake(asyncio.get_running_loop(), take)

    def produce() -> None:
        for number in range(1000):
            intake(Kind.POLICY, None if number % 2 else "MODIFIED", {"number": number})

    thread = threading.Thread(target=produce)
    thread.start()
    async with asyncio.timeout(10):
        await done.wait()
    thread.join()
    assert [number for _, _, number in taken] == list(range(1000))


async def test_an_object_that_cannot_be_read_hides_no_event_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken: list[str] = []

    def take(kind: Kind, event_type: str | None, body: Raw) -> None:
        taken.append(body["metadata"]["name"])
        if not body["spec"]:
            raise TypeError("no spec")

    intake = Intake(asyncio.get_running_loop(), take)
    for name, spec in (("a", {"x": 1}), ("odd", None), ("b", {"x": 1})):
        intake(Kind.POLICY, "ADDED", {"metadata": {"name": name}, "spec": spec})
    await asyncio.sleep(0)
    assert taken == ["a", "odd", "b"]
    assert "an event of RoutingPolicy odd" in caplog.text
