"""What an EndpointSlice says of an endpoint holds at the data planes within a tenth of a second."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, Line, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import endpoint_slice, policy, served, service

WITHIN_S: Final = 0.1
#: What makes an endpoint take no requests, each followed by what lets it take them again.
OUT_AND_IN: Final[tuple[dict[str, bool], ...]] = (
    {"ready": False},
    {"ready": True},
    {"ready": False, "serving": True, "terminating": True},
    {"ready": True, "serving": True, "terminating": False},
    # A Service that publishes addresses that are not ready says that they are.
    {"ready": True, "serving": False},
    {},
    {"ready": True, "serving": True, "terminating": True},
    {"ready": True},
)
ROUNDS: Final = 3


@pytest.fixture(scope="module")
def line(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("slices")
    redis = RedisServer(folder / "redis")
    redis.start()
    running = Line(folder, api, redis)
    try:
        yield running
    finally:
        running.close()
        redis.stop()


@pytest.fixture(scope="module")
def planes(line: Line) -> list[Running]:
    line.start_operator()
    return [line.start_data_plane("pod-1"), line.start_data_plane("pod-2")]


def sliced(name: str, port: int, **conditions: dict[str, bool]) -> dict[str, Any]:
    """A slice whose endpoints, by address with ``_`` for the dots, have these conditions."""
    made = endpoint_slice(f"{name}-1", name, port)
    made["endpoints"] = [
        {"addresses": [address.strip("_").replace("_", ".")], "conditions": said}
        for address, said in conditions.items()
    ]
    return made


def count_at(plane: httpx2.Client, backend: str) -> int:
    """How many endpoints of a backend take requests at a data plane."""
    told = plane.get("/backends").json()["backends"].get(backend, {})
    return len(told.get("endpoints", ()))


def await_count(planes: list[httpx2.Client], backend: str, count: int) -> float:
    """Wait until that many do at every data plane; return how long it took, in seconds."""
    began_at = time.perf_counter()
    for plane in planes:
        while count_at(plane, backend) != count:
            assert time.perf_counter() - began_at < 20.0, f"never {count} endpoints"
    return time.perf_counter() - began_at


def test_ready_serving_and_terminating_are_obeyed_within_a_tenth_of_a_second(
    line: Line, planes: list[Running]
) -> None:
    steady = {"ready": True}
    line.apply(
        service("timed", 8000),
        sliced("timed", 8000, _198_51_100_2=steady, _198_51_100_3=steady),
        served("timed", "timed"),
        policy("timed", "timed"),
    )
    backend = f"{line.namespace}/timed"
    took_s: list[float] = []
    with ExitStack() as open_connections:
        asked = [
            open_connections.enter_context(httpx2.Client(base_url=one.admin, verify=NOBODY))
            for one in planes
        ]
        await_count(asked, backend, 2)
        for conditions in OUT_AND_IN * ROUNDS:
            line.apply(sliced("timed", 8000, _198_51_100_2=conditions, _198_51_100_3=steady))
            took_s.append(await_count(asked, backend, 1 + len(took_s) % 2))
    # Most of them: a single one may meet a machine that is busy with something else.
    assert median(took_s) < WITHIN_S, f"{median(took_s):.3f} s, at most {max(took_s):.3f} s"


def test_a_terminating_endpoint_takes_no_request_and_ends_its_stream(
    line: Line, planes: list[Running], addresses: tuple[str, ...]
) -> None:
    if not addresses:
        pytest.skip("endpoints need a network namespace of the tests' own: run as root")
    two, three = addresses
    slow = ("--tokens-per-second", "10", "--answer-tokens", "30")
    port = line.start_fake("leaves", *slow, host=two)
    line.start_fake("stays", host=three, port=port)
    name = "drained"
    leaving, staying = (f"_{address.replace('.', '_')}" for address in addresses)
    line.apply(
        service(name, port),
        sliced(name, port, **{leaving: {"ready": True}}),
        served(name, name),
        policy(name, name),
    )
    (plane, _) = planes
    eventually(lambda: plane.answerer(name) == "leaves", what="served by the one that will leave")
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    url = f"{plane.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=30, verify=NOBODY) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        going = {"ready": False, "serving": True, "terminating": True}
        line.apply(sliced(name, port, **{leaving: going, staying: {"ready": True}}))
        eventually(lambda: plane.answerer(name) == "stays", what="served by the one that stays")
        assert {plane.answerer(name) for _ in range(5)} == {"stays"}
        rest = [one for one in lines if one]
    assert rest[-1] == "data: [DONE]"
    assert len(rest) > 20, "the stream went on to its end"


def test_where_all_endpoints_terminate_those_that_serve_are_asked_until_they_do_not(
    line: Line, planes: list[Running], addresses: tuple[str, ...]
) -> None:
    if not addresses:
        pytest.skip("endpoints need a network namespace of the tests' own: run as root")
    name, plane = "last", planes[0]
    (address, _) = addresses
    port = line.start_fake(name, host=address)
    last = f"_{address.replace('.', '_')}"
    line.apply(
        service(name, port),
        sliced(name, port, **{last: {"ready": True}}),
        served(name, name),
        policy(name, name),
    )
    eventually(lambda: plane.answerer(name) == name, what="served")

    def leaves(**conditions: bool) -> None:
        line.apply(sliced(name, port, **{last: {"ready": False, "terminating": True} | conditions}))

    def told() -> dict[str, Any]:
        page = httpx2.get(f"{plane.admin}/backends", verify=NOBODY).json()
        found: dict[str, Any] = page["backends"][f"{line.namespace}/{name}"]
        return found

    leaves(serving=True)
    eventually(lambda: told()["terminating"], what="it is known that it terminates")
    assert {plane.answerer(name) for _ in range(5)} == {name}
    leaves(serving=False)
    eventually(lambda: not told()["endpoints"], what="it is gone")
    assert plane.answerer(name) == "503"


def test_requests_wait_for_a_service_that_is_scaled_to_zero_and_go_to_its_first_endpoint(
    line: Line, planes: list[Running], addresses: tuple[str, ...]
) -> None:
    if not addresses:
        pytest.skip("endpoints need a network namespace of the tests' own: run as root")
    name, plane = "zero", planes[0]
    port = line.start_fake("woken", host=addresses[0])
    line.apply(
        service(name, port),
        endpoint_slice(f"{name}-1", name, port),
        served(name, name, wake={"hold": "20s"}),
        policy(name, name),
    )
    told = f"{plane.url}/v1/models"
    eventually(lambda: name in httpx2.get(told, verify=NOBODY).text, what="the model")
    waiting = f'switchboard_wake_waiting{{backend="{line.namespace}/{name}"}}'

    def page() -> str:
        return httpx2.get(f"{plane.admin}/metrics", verify=NOBODY).text

    with ThreadPoolExecutor() as beside:
        asked = [beside.submit(plane.answerer, name) for _ in range(3)]
        eventually(lambda: f"{waiting} 3.0" in page(), what="all of them waiting")
        line.apply(endpoint_slice(f"{name}-1", name, port, addresses[0]))
        assert {one.result() for one in asked} == {"woken"}
    assert f"{waiting} 0.0" in page()
