"""Fake models behind the Services that the examples bring, and what the examples' READMEs say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from e2e import parts

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """An example of examples/: the Services that it has, and requests with who answers them.

    ``asks`` are pairs of the headers of a request for ``model`` and of headers of its answer, whose
    status is ``status``. ``leaves`` says that such a request first tries to leave the cluster,
    ``refused`` that pods call none of its models.
    """

    name: str
    model: str
    services: tuple[str, ...]
    asks: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...] = field(default=())
    status: int = 200
    leaves: bool = False
    refused: bool = False


LLAMA: Final = "vllm-llama-8b"
EXAMPLES: Final = (
    Example(
        "01-quick-start",
        "chat",
        (),
        # Its models are at addresses of the machine of whoever tries it: those are no pod's.
        asks=(({}, {"reason": "no_candidate"}),),
        status=503,
        refused=True,
    ),
    Example(
        "02-in-cluster",
        "assistant",
        (LLAMA,),
        asks=(({}, {"rule": "default", "tier": "in-cluster"}),),
    ),
    Example(
        "04-choose",
        "chat",
        (LLAMA, "vllm-llama-70b"),
        asks=(({}, {"rule": "default", "tier": "small"}),),
    ),
    Example(
        "05-compare",
        "chat",
        (LLAMA,),
        # Whichever arm it is: the large model is away, and the small one answers.
        asks=(({}, {"tier": "small"}),),
        leaves=True,
    ),
    Example(
        "06-check",
        "checked",
        (LLAMA, "vllm-qwen-7b"),
        # The two cheap ones agree.
        asks=(({}, {"rule": "default", "tier": "small"}),),
    ),
    Example(
        "07-access",
        "assistant",
        (LLAMA,),
        # The callers' key says nothing of a tier.
        asks=(({}, {"rule": "default", "tier": "small"}),),
    ),
    Example(
        "08-sidecar",
        "assistant",
        (LLAMA,),
        # Who asks here asks the gateway: it has the policy, too.
        asks=(({}, {"rule": "default", "tier": "in-cluster"}),),
    ),
)
"""Those whose models, if any, are there from the start."""
SCALED_TO_ZERO: Final = Example("03-scale-to-zero", "assistant", (LLAMA,))
"""The one whose model is brought up by a request that waits for it."""


def deployment(name: str, *, namespace: str = "ai") -> JsonObject:
    """A fake model of this name, for a Service that selects ``app: NAME``."""
    container = {
        "name": "model",
        "image": parts.TOOLS,
        "imagePullPolicy": "IfNotPresent",
        # The same name for all: cheap ones that agree say the same.
        "args": ["-c", _RUN, "--listen=0.0.0.0:8000", "--any-model", "--ttft-ms=20"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"requests": {"cpu": "50m"}},
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 10,
        },
    }
    labels = {"app": name}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


_RUN: Final = (parts.REPO / "tests/e2e/inside/fake_model.py").read_text()
