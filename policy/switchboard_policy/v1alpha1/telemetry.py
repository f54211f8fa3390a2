"""What the engine behind a ModelBackend says of its load."""

from typing import Annotated, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.common import PATH_PATTERN, IntervalDuration, Model


class Telemetry(Model):
    """What the engine behind the endpoints says of its load, and where."""

    engine: Literal["vllm", "sglang"] = Field(
        description="Whose metrics they are: of vLLM, or of SGLang with --enable-metrics."
    )
    path: Annotated[str, Field(pattern=PATH_PATTERN, min_length=1, max_length=256)] = Field(
        default="/metrics",
        description=(
            "The path of the Prometheus page, from the root of the endpoint, not below "
            "service.path. It is asked for without the API key."
        ),
    )
    interval: IntervalDuration = Field(
        default="1s",
        description="Between two readings of an endpoint, by one gateway pod of all; 1s to 1h.",
    )
