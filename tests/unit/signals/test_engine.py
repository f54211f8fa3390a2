"""What an engine says of itself is read from any page, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_cli.fake_model.metrics import EngineMetrics
from switchboard_dataplane.signals.engine import (
    LASTS_S,
    PAGE_BYTES_MAX,
    EngineLoad,
    Reading,
    load_of,
    read_load_report,
    read_page,
)

NOTHING = Reading(None, None, None)
VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 46.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="llama",reason="capacity"} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.42
"""
SGLANG = b"""\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="llama",pp_rank="0",tp_rank="0"} 2.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="llama",pp_rank="0",tp_rank="0"} 7.0
# TYPE sglang:token_usage gauge
sglang:token_usage{engine_type="unified",model_name="llama",pp_rank="0",tp_rank="0"} 0.55
"""


def vllm(*lines: str) -> Reading:
    return read_page("vllm", "\n".join(lines).encode(), model="llama")


def test_the_pages_of_both_engines_are_read() -> None:
    assert read_page("vllm", VLLM, model="llama") == Reading(3, 46, 0.42)
    assert read_page("sglang", SGLANG, model="llama") == Reading(7, 2, 0.55)
    assert read_page("sglang", VLLM, model="llama") == NOTHING


def test_the_page_of_the_fake_model_is_read() -> None:
    metrics = EngineMetrics()
    metrics.cached_tokens = 25
    for model in ("m", 'a"b\\c\nd', "with space}"):
        page = metrics.render(model=model, running=2, waiting=3, kv_cache_tokens=100).encode()
        assert read_page("vllm", page, model=model) == Reading(3, 2, 0.25)


def test_engines_of_one_process_are_summed_and_the_fullest_cache_counts() -> None:
    said = vllm(
        'vllm:num_requests_waiting{engine="0",model_name="llama"} 1',
        'vllm:num_requests_waiting{engine="1",model_name="llama"} 2',
        'vllm:num_requests_running{engine="0",model_name="llama"} 10 1700000000000',
        'vllm:num_requests_running{engine="1",model_name="llama"} 1e1',
        'vllm:kv_cache_usage_perc{engine="0"} 0.2',
        'vllm:kv_cache_usage_perc{engine="1"} 0.9',
    )
    assert said == Reading(3, 20, 0.9)


def test_series_of_other_models_count_only_where_the_model_has_none() -> None:
    both = (
        'vllm:num_requests_waiting{model_name="llama"} 1',
        'vllm:num_requests_waiting{model_name="other"} 9',
        'vllm:num_requests_running{model_name="other"} 4',
    )
    assert vllm(*both) == Reading(1, 4, None)
    assert read_page("vllm", "\n".join(both).encode(), model="adapter") == Reading(10, 4, None)


def test_the_parts_of_a_queue_by_priority_are_not_added_to_their_sum() -> None:
    page = b"""\
sglang:num_queue_reqs{model_name="llama",priority=""} 5
sglang:num_queue_reqs{model_name="llama",priority="1"} 3
sglang:num_queue_reqs{model_name="llama",priority="2"} 2
sglang:num_running_reqs{} 1
"""
    assert read_page("sglang", page, model="llama") == Reading(5, 1, None)


def test_the_older_name_of_the_cache_counts_where_the_newer_is_missing() -> None:
    older = "vllm:gpu_cache_usage_perc 0.5"
    assert vllm(older).kv_use == 0.5
    assert vllm(older, "vllm:kv_cache_usage_perc 0.25").kv_use == 0.25


@pytest.mark.parametrize(
    "value", ["NaN", "+Inf", "-1", "", "1.2.3", "two", "1e300", "\x00", "99999999999"]
)
def test_a_value_that_is_none_is_left_out(value: str) -> None:
    assert vllm(f"vllm:num_requests_waiting {value}") == NOTHING
    assert vllm(f"vllm:num_requests_waiting {value}", "vllm:num_requests_waiting 2").waiting == 2


@pytest.mark.parametrize(
    "line",
    [
        "xvllm:num_requests_waiting 1",
        " vllm:num_requests_waiting 1",
        "vllm:num_requests_waiting_total 1",
        "# TYPE vllm:num_requests_waiting 1",
        'vllm:num_requests_waiting{model_name="llama" 1',
        'vllm:num_requests_waiting{model_name="lla',
        'vllm:num_requests_waiting{a="}" 1',
        "vllm:num_requests_waiting{model_name=llama} 1",
        "vllm:num_requests_waiting",
    ],
)
def test_a_line_that_is_no_sample_of_the_name_is_left_out(line: str) -> None:
    assert vllm(line) == NOTHING


def test_a_page_that_is_too_large_is_not_read() -> None:
    assert read_page("vllm", VLLM + b"#" * PAGE_BYTES_MAX, model="llama") == NOTHING


@given(st.binary(max_size=2_000), st.integers(0, len(VLLM)))
def test_no_page_is_an_error(noise: bytes, at: int) -> None:
    page = VLLM[:at] + noise + VLLM[at:]
    for said in (read_page("vllm", page, model="llama"), read_page("vllm", noise, model="")):
        assert said.waiting is None or said.waiting >= 0
        assert said.running is None or said.running >= 0
        assert said.kv_use is None or 0 <= said.kv_use <= 1


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.text(max_size=8)), min_size=1, max_size=5),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
)
def test_what_was_written_is_what_is_read(series: list[tuple[int, str]], model: str) -> None:
    lines: list[str] = []
    for number, label in series:
        escaped = "".join({"\\": r"\\", '"': r"\"", "\n": r"\n"}.get(one, one) for one in label)
        name = "".join({"\\": r"\\", '"': r"\"", "\n": r"\n"}.get(one, one) for one in model)
        labels = f'engine="{escaped}",model_name="{name}"'
        lines += [
            f"vllm:num_requests_waiting{{{labels}}} {number}",
            f"vllm:num_requests_running{{{labels}}} {float(number)}",
        ]
    said = read_page("vllm", ("\n".join(lines) + "\n").encode(errors="replace"), model=model)
    total = sum(number for number, _ in series)
    assert said == Reading(total, total, None)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=3.0",
            Reading(3, None, 0.4),
        ),
        (
            'JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 3.0}}',
            Reading(3, None, 0.4),
        ),
        ("text num_requests_waiting=1,num_requests_running=2", Reading(1, 2, None)),
        ("TEXT kv_cache_utilization=1.5, cpu_utilization=0.3", Reading(None, None, 1.0)),
        ("BIN CiQ=", NOTHING),
        ("JSON [1]", NOTHING),
        ("JSON {", NOTHING),
        ('JSON {"named_metrics": 7}', NOTHING),
        ("TEXT num_requests_waiting=-1", NOTHING),
        ('JSON {"num_requests_waiting": true}', NOTHING),
        ("JSON " + "[" * 5_000, NOTHING),
        ("", NOTHING),
        ("TEXT " + "a=1," * 5_000 + "num_requests_waiting=1", NOTHING),
    ],
)
def test_a_load_report_is_read_in_both_forms(header: str, said: Reading) -> None:
    assert read_load_report(header) == said


@given(st.text(max_size=300))
def test_no_load_report_is_an_error(text: str) -> None:
    for header in (text, f"TEXT {text}", f"JSON {text}"):
        read_load_report(header)


def test_a_reading_takes_from_the_load_before_what_it_leaves_out_while_that_is_fresh() -> None:
    before = EngineLoad(waiting=1, running=2, kv_use=0.5, at=10.0)
    said = Reading(waiting=4, running=None, kv_use=None)
    assert load_of(said, at=11.0, lasts_s=3.0) is None
    assert load_of(said, at=11.0, lasts_s=3.0, before=before) == EngineLoad(4, 2, 0.5, 11.0, 3.0)
    assert load_of(said, at=10.0 + LASTS_S, lasts_s=3.0, before=before) is None
    assert load_of(NOTHING, at=11.0, lasts_s=3.0) is None


def test_a_load_is_fresh_for_its_time() -> None:
    load = EngineLoad(waiting=1, running=2, kv_use=None, at=10.0, lasts_s=4.0)
    assert load.is_fresh(13.9)
    assert not load.is_fresh(14.0)
