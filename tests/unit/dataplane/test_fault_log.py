"""What the operator reads of attempts that fail: why, and not too often."""

import ssl

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier
from switchboard_dataplane import errors
from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.upstream.fault_log import ENDPOINTS_MAX, SILENCE_S, FaultLog


def endpoints_of(count: int) -> tuple[Endpoint, ...]:
    addresses = endpoints("one", *(f"10.0.0.1:{number}" for number in range(1, count + 1)))
    running = snapshot(
        policy("chat", rule("default", tier("only", "one"))), service("one"), addresses
    )
    return running.backends["ai/one"].endpoints


def external() -> Endpoint:
    running = snapshot(policy("chat", rule("default", tier("only", "one"))), backend("one"))
    return running.backends["ai/one"].endpoints[0]


def refused(cause: Exception | None = None) -> errors.UpstreamConnect:
    error = errors.UpstreamConnect("backend ai/one cannot be reached")
    error.__cause__ = cause
    return error


def bad_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL] in the words of OpenSSL")
    error.verify_message = "Hostname mismatch"
    return error


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        (bad_certificate(), ": its certificate is refused: Hostname mismatch"),
        (TimeoutError(), ": no connection within 2000 ms"),
        (TimeoutError(110, "timed out"), ": [Errno 110] timed out"),
        (ConnectionRefusedError(111, "refused"), ": [Errno 111] refused"),
        (OSError(), ": OSError"),
        (None, ""),
    ],
)
def test_a_warning_names_the_endpoint_and_the_reason(
    cause: Exception | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    FaultLog().note(external(), refused(cause), now_s=0.0)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        "attempt at ai/one@one.example:8000 failed: backend ai/one cannot be reached" + why
    )


def test_the_context_is_the_reason_where_the_cause_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = refused()
    error.__context__ = ConnectionRefusedError(111, "refused")
    FaultLog().note(external(), error, now_s=0.0)
    assert caplog.messages[0].endswith(": [Errno 111] refused")


def test_an_endpoint_is_warned_of_once_a_minute_and_others_beside_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults, (first, second) = FaultLog(), endpoints_of(2)
    for now_s in (0.0, 1.0, SILENCE_S - 1):
        faults.note(first, refused(), now_s=now_s)
    assert len(caplog.records) == 1
    faults.note(second, refused(), now_s=2.0)
    faults.note(first, refused(), now_s=SILENCE_S)
    assert [one.message.split()[2] for one in caplog.records] == [first.id, second.id, first.id]


def test_what_mends_by_itself_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = external()
    warned = set[str]()
    for kind in errors.UpstreamError.__subclasses__():
        FaultLog().note(endpoint, kind("why"), now_s=0.0)
        if caplog.records:
            warned.add(kind.failure)
        caplog.clear()
    assert warned == {"auth", "connect", "misconfigured", "protocol"}


def test_it_remembers_a_bounded_number_of_endpoints(caplog: pytest.LogCaptureFixture) -> None:
    faults, many = FaultLog(), endpoints_of(ENDPOINTS_MAX + 1)
    for endpoint in many:
        faults.note(endpoint, refused(), now_s=1.0)
    assert len(faults._warned_at) == ENDPOINTS_MAX
    caplog.clear()
    # The oldest is forgotten, so it alone is warned of again.
    for endpoint in (many[-1], many[1], many[0]):
        faults.note(endpoint, refused(), now_s=2.0)
    assert [one.message.split()[2] for one in caplog.records] == [many[0].id]
