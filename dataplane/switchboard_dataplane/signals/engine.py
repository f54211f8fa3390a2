"""What an engine says of itself: requests waiting and running, and how full its KV cache is. Pure.

Read from the Prometheus page of vLLM or SGLang, or from the load report that an engine may send
with an answer (ORCA, the header ``endpoint-load-metrics``). Both are other people's bytes: what
cannot be read is None, never an error.

The page is not parsed as a whole: it has a thousand lines of histograms around three numbers, and
one process may read hundreds of pages a second. Looking for the three names takes 50 µs a page of
60 KB; ``prometheus_client.parser`` takes 9 ms.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from switchboard_policy.ir import EngineKind

#: A page of an engine has 20 to 100 KB. A larger one than this is not read, in bytes.
PAGE_BYTES_MAX: Final = 1024 * 1024
#: The response header of a load report, in lower case.
LOAD_REPORT: Final = "endpoint-load-metrics"
#: A longer load report is not read, in characters.
REPORT_LENGTH_MAX: Final = 8 * 1024
#: How many series of one name are read.
SERIES_MAX: Final = 1_000
#: No engine has more requests; a larger number is a mistake of the page.
REQUESTS_MAX: Final = 10**9
#: How long a value is believed without news, if nothing else is said, in seconds.
LASTS_S: Final = 4.0


class EngineLoad(msgspec.Struct, frozen=True, gc=False):
    """An engine's own numbers: requests, and the used share of the KV cache (0..1, or None).

    ``at`` is when they were read, by the event loop's clock; they are believed for ``lasts_s``.
    """

    waiting: int
    running: int
    kv_use: float | None
    at: float
    lasts_s: float = LASTS_S

    def is_fresh(self, now: float) -> bool:
        """Say whether it still tells of what is now."""
        return now - self.at < self.lasts_s


class Reading(NamedTuple):
    """What a page says; each is None where it says nothing of it."""

    waiting: int | None
    running: int | None
    kv_use: float | None


class _Names(NamedTuple):
    waiting: bytes
    running: bytes
    kv_use: tuple[bytes, ...]


_NAMES: Final[Mapping[EngineKind, _Names]] = {
    "vllm": _Names(
        waiting=b"vllm:num_requests_waiting",
        running=b"vllm:num_requests_running",
        # The second is the name that it had before the engine's first version.
        kv_use=(b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    "sglang": _Names(
        waiting=b"sglang:num_queue_reqs",
        running=b"sglang:num_running_reqs",
        kv_use=(b"sglang:token_usage",),
    ),
}
_LABEL: Final = re.compile(rb'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
#: By the end of the name that an engine gives a number in its load report.
_REPORTED: Final = {
    "num_requests_waiting": "waiting",
    "num_queue_reqs": "waiting",
    "num_requests_running": "running",
    "num_running_reqs": "running",
    "kv_cache_usage_perc": "kv_use",
    "kv_cache_utilization": "kv_use",
    "gpu_cache_usage_perc": "kv_use",
    "token_usage": "kv_use",
}
_NAMED: Final = "named_metrics"


def read_page(engine: EngineKind, page: bytes, *, model: str) -> Reading:
    """Read an engine's Prometheus page; total.

    Requests are summed over the series of a name, of the KV cache the fullest counts. Series of
    this model alone count where there are any; the name that is sent upstream may be an alias or an
    adapter, of which the page knows nothing, and then all count.
    """
    if len(page) > PAGE_BYTES_MAX:
        return Reading(None, None, None)
    names, wanted = _NAMES[engine], _escaped(model)
    kv_use = None
    for name in names.kv_use:
        if values := _values(page, name, wanted):
            kv_use = min(1.0, max(values))
            break
    return Reading(
        waiting=_sum(_values(page, names.waiting, wanted)),
        running=_sum(_values(page, names.running, wanted)),
        kv_use=kv_use,
    )


def read_load_report(header: str) -> Reading:
    """Read a load report: ``TEXT a=1, b=2`` or ``JSON {…}``; total."""
    kind, _, text = header[: REPORT_LENGTH_MAX + 1].strip().partition(" ")
    if len(header) > REPORT_LENGTH_MAX:
        return Reading(None, None, None)
    match kind.upper():
        case "JSON":
            numbers = _numbers_of_json(text)
        case "TEXT":
            numbers = _numbers_of_text(text)
        case _:
            numbers = {}
    kv_use = numbers.get("kv_use")
    return Reading(
        waiting=_sum([numbers["waiting"]] if "waiting" in numbers else []),
        running=_sum([numbers["running"]] if "running" in numbers else []),
        kv_use=None if kv_use is None else min(1.0, kv_use),
    )


def load_of(
    said: Reading, *, at: float, lasts_s: float, before: EngineLoad | None = None
) -> EngineLoad | None:
    """Return the load of a reading at ``at``; what it leaves out is as it was ``before``.

    None where a number of requests is known from neither.
    """
    known = before if before is not None and before.is_fresh(at) else None
    waiting = said.waiting if said.waiting is not None or known is None else known.waiting
    running = said.running if said.running is not None or known is None else known.running
    kv_use = said.kv_use if said.kv_use is not None or known is None else known.kv_use
    if waiting is None or running is None:
        return None
    return EngineLoad(waiting=waiting, running=running, kv_use=kv_use, at=at, lasts_s=lasts_s)


def reported(
    headers: Sequence[tuple[str, str]], at: float, before: EngineLoad | None
) -> EngineLoad | None:
    """Return the load of which an answer tells in its headers, or the one ``before``."""
    for name, value in headers:
        if name == LOAD_REPORT:
            lasts_s = LASTS_S if before is None else before.lasts_s
            said = read_load_report(value)
            return load_of(said, at=at, lasts_s=lasts_s, before=before) or before
    return before


def _values(page: bytes, name: bytes, model: bytes) -> list[float]:
    """Return the values of a name's series, of this model's alone if there are any."""
    of_model: list[float] = []
    others: list[float] = []
    for line in _lines(page, name):
        labels, rest = _labels(line)
        if labels.get(b"priority"):
            # SGLang tells the parts of a sum by priority, beside the sum itself.
            continue
        value = _number(rest.split(maxsplit=1)[0] if rest.strip() else b"")
        if value is not None:
            (of_model if labels.get(b"model_name", model) == model else others).append(value)
    return of_model or others


def _lines(page: bytes, name: bytes) -> Iterator[bytes]:
    """Yield what follows the name in each line that begins with it."""
    at, found = page.find(name), 0
    while at >= 0 and found < SERIES_MAX:
        after = at + len(name)
        if (at == 0 or page[at - 1 : at] == b"\n") and page[after : after + 1] in b"{ \t":
            end = page.find(b"\n", after)
            yield page[after : end if end >= 0 else len(page)]
            found += 1
        at = page.find(name, after)


def _labels(line: bytes) -> tuple[Mapping[bytes, bytes], bytes]:
    """Return the labels, as they are escaped, and what follows them."""
    labels: dict[bytes, bytes] = {}
    if not line.startswith(b"{"):
        return labels, line
    at = 1
    while match := _LABEL.match(line, at):
        labels[match[1]] = match[2]
        at = match.end()
        if line[at : at + 1] == b",":
            at += 1
    closing = line[at:].lstrip()
    return labels, closing[1:] if closing.startswith(b"}") else b""


def _number(text: bytes | str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= REQUESTS_MAX else None


def _sum(values: list[float]) -> int | None:
    return min(REQUESTS_MAX, math.ceil(math.fsum(values))) if values else None


def _escaped(model: str) -> bytes:
    text = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text.encode(errors="replace")


def _numbers_of_text(text: str) -> dict[str, float]:
    pairs = (pair.partition("=") for pair in text.split(","))
    return _known({name.strip(): value.strip() for name, _, value in pairs})


def _numbers_of_json(text: str) -> dict[str, float]:
    try:
        said = msgspec.json.decode(text, type=dict[str, object])
    except (ValueError, RecursionError):
        return {}
    named = said.get(_NAMED)
    return _known(said | cast("dict[str, object]", named) if isinstance(named, dict) else said)


def _known(said: Mapping[str, object]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in said.items():
        meaning = _REPORTED.get(name.rpartition(".")[2].rpartition(":")[2])
        if meaning is not None and isinstance(value, str | int | float):
            number = _number(str(value))
            if number is not None:
                numbers[meaning] = number
    return numbers
