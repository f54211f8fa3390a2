"""Settings: where they come from, and what is said about wrong ones."""

import pytest

from switchboard_cli.fake_model.faults import Fault, FaultDice, FaultError, Kind, Point
from switchboard_cli.fake_model.settings import (
    KNOBS,
    Settings,
    SettingsError,
    patch_settings,
    read_settings,
)


def test_a_flag_wins_over_the_environment_and_both_over_the_default() -> None:
    settings = read_settings(
        {"ttft_ms": "20", "jitter": None, "any_model": True},
        {"SWITCHBOARD_FAKE_MODEL_TTFT_MS": "10", "SWITCHBOARD_FAKE_MODEL_JITTER": "0.5"},
    )
    assert (settings.ttft_ms, settings.jitter, settings.any_model) == (20, 0.5, True)
    assert settings.answer_tokens == Settings().answer_tokens


def test_lists_come_from_repeated_flags_and_from_separated_variables() -> None:
    by_flags = read_settings({"models": ["a", "b"], "faults": ["status", "no-done:count=2"]}, {})
    by_environment = read_settings(
        {},
        {
            "SWITCHBOARD_FAKE_MODEL_MODELS": "a, b",
            "SWITCHBOARD_FAKE_MODEL_FAULTS": "status; no-done:count=2",
        },
    )
    assert by_flags == by_environment
    assert by_flags.models == ("a", "b")
    assert by_flags.faults == (Fault(kind=Kind.STATUS), Fault(kind=Kind.NO_DONE, count=2))


def test_every_field_is_a_knob() -> None:
    assert [knob.field for knob in KNOBS] == list(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("ttft_ms", "soon", "ttft_ms: (--ttft-ms) must be a number, not 'soon'"),
        ("ttft_ms", "-1", "ttft_ms: (--ttft-ms) must be at least 0, not -1"),
        ("ttft_ms", "inf", "ttft_ms: (--ttft-ms) must be at least 0, not inf"),
        ("jitter", "1.5", "jitter: (--jitter) must be in 0..1, not 1.5"),
        ("answer_tokens", "0", "answer_tokens: (--answer-tokens) must be in 1..1e+06, not 0"),
        ("max_running", "2.5", "max_running: (--max-running) must be a whole number, not '2.5'"),
        ("any_model", "maybe", "any_model: (--any-model) must be true or false, not 'maybe'"),
        ("models", "a,,b", "models: (--model) must not be empty"),
        ("faults", "melt", "faults[0]: (--fault) kind: must be one of status, stall"),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_flag(field: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({}, {f"SWITCHBOARD_FAKE_MODEL_{field.upper()}": text})
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("given", [True, "fast", [1], None])
def test_a_patch_of_another_form_is_refused(given: object) -> None:
    with pytest.raises(SettingsError, match="must be a number"):
        patch_settings(Settings(), {"ttft_ms": given})


def test_an_optional_setting_can_be_taken_back() -> None:
    settings = patch_settings(Settings(), {"api_key": "k"})
    assert settings.api_key == "k"
    assert patch_settings(settings, {"api_key": None}).api_key is None


def test_a_fault_reads_the_same_from_text_and_from_json() -> None:
    text = "stall:at=after-tokens,after_tokens=3,stall_ms=250,probability=0.5,count=4"
    fields = {
        "kind": "stall",
        "at": "after-tokens",
        "after_tokens": 3,
        "stall_ms": 250,
        "probability": 0.5,
        "count": 4,
    }
    fault = Fault.from_text(text)
    assert fault == Fault.from_json(fields)
    assert Fault.from_json(fault.to_json()) == fault


def test_a_fault_strikes_at_its_own_point_unless_another_is_named() -> None:
    assert Fault(kind=Kind.CUT).at is Point.BEFORE_HEADERS
    assert Fault(kind=Kind.GARBAGE).at is Point.AFTER_HEADERS
    assert Fault(kind=Kind.REFUSAL).at is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("status:status=200", "status: must be in 400..599"),
        ("status:status=many", "status: must be a whole number"),
        ("status:at=after-tokens", "at: a status fault strikes before the headers"),
        ("garbage:at=before-headers", "at: a garbage fault cannot strike before the headers"),
        ("refusal:at=after-headers", "at: a refusal fault strikes at no point"),
        ("cut:at=later", "at: must be one of before-headers"),
        ("cut:probability=2", "probability: must be in 0..1"),
        ("cut:count=-1", "count: must be a finite number from 0"),
        ("cut:sometimes", "sometimes: write field=value"),
        ("cut:when=1", "when: no such field; a fault has kind, at, probability"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_field(text: str, said: str) -> None:
    with pytest.raises(FaultError) as refused:
        Fault.from_text(text)
    assert str(refused.value).startswith(said)


def test_a_count_is_used_up_and_others_go_on() -> None:
    once, always = Fault(kind=Kind.CUT, count=1), Fault(kind=Kind.NO_DONE)
    dice = FaultDice((once, always), seed=0)
    assert [dice.roll() for _ in range(3)] == [(once, always), (always,), (always,)]
    assert [fault["remaining"] for fault in dice.to_json()] == [0, None]
    assert dice.struck == {"cut": 1, "no-done": 3}


def test_the_same_seed_strikes_the_same_requests() -> None:
    fault = Fault(kind=Kind.CUT, probability=0.5)
    runs = [[bool(dice.roll()) for _ in range(40)] for dice in _dice(fault, seeds=(7, 7, 8))]
    assert runs[0] == runs[1] != runs[2]
    assert 5 < sum(runs[0]) < 35


def _dice(fault: Fault, seeds: tuple[int, ...]) -> list[FaultDice]:
    return [FaultDice((fault,), seed) for seed in seeds]
