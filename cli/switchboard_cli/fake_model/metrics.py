"""The numbers that vLLM shows on /metrics, under vLLM's names."""

from bisect import bisect_left
from itertools import accumulate

# vLLM's own buckets, so that dashboards and rules made for it fit.
_TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_FINISHED_REASONS = ("stop", "length", "abort", "error")


class EngineMetrics:
    """What the engine counts. Gauges come from outside when the text is made."""

    def __init__(self) -> None:
        """Start at zero."""
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cached_tokens = 0  # in the KV cache now: prompts and answers of running requests
        self._finished = dict.fromkeys(_FINISHED_REASONS, 0)
        self._ttft_counts = [0] * (len(_TTFT_BUCKETS_S) + 1)
        self._ttft_sum_s = 0.0

    def observe_first_token(self, seconds: float) -> None:
        """Count the time from a request's arrival to its first token."""
        self._ttft_counts[bisect_left(_TTFT_BUCKETS_S, seconds)] += 1
        self._ttft_sum_s += seconds

    def finish(self, reason: str) -> None:
        """Count a finished request; what OpenAI has and vLLM has not is a stop."""
        self._finished[reason if reason in self._finished else "stop"] += 1

    def render(self, *, model: str, running: int, waiting: int, kv_cache_tokens: int) -> str:
        """Return the Prometheus text; `kv_cache_tokens` is the size of the KV cache."""
        labels = f'engine="0",model_name="{_escape(model)}"'
        usage = min(1.0, self.cached_tokens / kv_cache_tokens)
        scalars = (
            ("num_requests_running", "gauge", "Requests that are being answered.", running),
            ("num_requests_waiting", "gauge", "Requests that wait to be answered.", waiting),
            ("kv_cache_usage_perc", "gauge", "KV-cache usage; 1 is full.", usage),
            ("gpu_cache_usage_perc", "gauge", "The older name of kv_cache_usage_perc.", usage),
            ("prompt_tokens_total", "counter", "Prompt tokens read.", self.prompt_tokens),
            ("generation_tokens_total", "counter", "Tokens written.", self.generation_tokens),
        )
        lines: list[str] = []
        for name, kind, meaning, value in scalars:
            lines += _heading(name, kind, meaning)
            lines.append(f"vllm:{name}{{{labels}}} {float(value)}")
        name = "request_success_total"
        lines += _heading(name, "counter", "Requests finished, by reason.")
        for reason, count in self._finished.items():
            lines.append(f'vllm:{name}{{finished_reason="{reason}",{labels}}} {float(count)}')
        lines += self._render_ttft(labels)
        return "\n".join(lines) + "\n"

    def _render_ttft(self, labels: str) -> list[str]:
        name = "time_to_first_token_seconds"
        bounds = (*map(str, _TTFT_BUCKETS_S), "+Inf")
        totals = list(accumulate(self._ttft_counts))
        return [
            *_heading(name, "histogram", "Time to the first token, in seconds."),
            *(
                f'vllm:{name}_bucket{{le="{bound}",{labels}}} {float(total)}'
                for bound, total in zip(bounds, totals, strict=True)
            ),
            f"vllm:{name}_count{{{labels}}} {float(totals[-1])}",
            f"vllm:{name}_sum{{{labels}}} {self._ttft_sum_s}",
        ]


def _heading(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP vllm:{name} {meaning}", f"# TYPE vllm:{name} {kind}"]


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
