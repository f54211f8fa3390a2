"""The Prometheus text: vLLM's names, and numbers that add up."""

from prometheus_client.parser import text_string_to_metric_families

from switchboard_cli.fake_model.metrics import EngineMetrics


def _samples(metrics: EngineMetrics, model: str = "m") -> dict[str, float]:
    text = metrics.render(model=model, running=2, waiting=3, kv_cache_tokens=100)
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["model_name"] == model
            assert sample.labels["engine"] == "0"
            rest = [sample.labels.get("finished_reason"), sample.labels.get("le")]
            samples["/".join([sample.name, *filter(None, rest)])] = sample.value
    return samples


def test_the_names_are_those_of_vllm() -> None:
    names = {name.split("/")[0] for name in _samples(EngineMetrics())}
    assert names == {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:time_to_first_token_seconds_count",
        "vllm:time_to_first_token_seconds_sum",
    }


def test_gauges_and_counters_say_what_was_counted() -> None:
    metrics = EngineMetrics()
    metrics.prompt_tokens, metrics.generation_tokens, metrics.cached_tokens = 7, 9, 25
    for reason in ("stop", "length", "content_filter", "tool_calls", "abort"):
        metrics.finish(reason)
    samples = _samples(metrics)
    assert samples["vllm:num_requests_running"] == 2
    assert samples["vllm:num_requests_waiting"] == 3
    assert samples["vllm:kv_cache_usage_perc"] == samples["vllm:gpu_cache_usage_perc"] == 0.25
    assert samples["vllm:prompt_tokens_total"] == 7
    assert samples["vllm:generation_tokens_total"] == 9
    assert samples["vllm:request_success_total/stop"] == 3
    assert samples["vllm:request_success_total/length"] == 1
    assert samples["vllm:request_success_total/abort"] == 1


def test_the_cache_is_never_more_than_full() -> None:
    metrics = EngineMetrics()
    metrics.cached_tokens = 500
    assert _samples(metrics)["vllm:kv_cache_usage_perc"] == 1


def test_histogram_buckets_add_up() -> None:
    metrics = EngineMetrics()
    for seconds in (0.001, 0.03, 0.03, 9999.0):
        metrics.observe_first_token(seconds)
    samples = _samples(metrics)
    name = "vllm:time_to_first_token_seconds"
    assert samples[f"{name}_bucket/0.001"] == 1
    assert samples[f"{name}_bucket/0.04"] == 3
    assert samples[f"{name}_bucket/2560.0"] == 3
    assert samples[f"{name}_bucket/+Inf"] == samples[f"{name}_count"] == 4
    assert samples[f"{name}_sum"] == 0.001 + 0.03 + 0.03 + 9999.0


def test_a_model_name_is_escaped() -> None:
    assert _samples(EngineMetrics(), model='a"b\\c')
