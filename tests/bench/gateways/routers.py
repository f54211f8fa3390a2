"""The routers made for language models: vllm-router (Rust) and LiteLLM's proxy (Python)."""

import json

from gateways.place import Gateway, Place, clean_environment
from gateways.tools import peer_environment, pinned_version

from cluster.processes import LOOPBACK, free_port

_START_S = 120.0
_LOGGING = {"version": 1, "disable_existing_loggers": False}
#: Without a handler uvicorn writes no access log at all.
_SILENT = {"handlers": [], "propagate": False}


def start_vllm_router(place: Place) -> Gateway:
    """Start vllm-router with one worker URL; raises Missing, StartFailed."""
    program = peer_environment("vllm-router") / "vllm-router"
    port = free_port()
    process = place.start_gateway(
        "vllm-router",
        [
            *(program, "--host", LOOPBACK, "--port", str(port), "--log-level", "error"),
            *("--worker-urls", f"http://{LOOPBACK}:{place.model_port}"),
            *("--policy", "round_robin", "--max-concurrent-requests", "8192"),
            *("--prometheus-host", LOOPBACK, "--prometheus-port", str(free_port())),
        ],
        env=clean_environment(place.own_folder("vllm-router")),
    )
    process.wait_for_http(f"http://{LOOPBACK}:{port}/health", timeout_s=_START_S)
    version = pinned_version("vllm-router", "vllm-router")
    return Gateway("vllm-router", version, port, process)


def start_litellm(place: Place) -> Gateway:
    """Start LiteLLM's proxy with one worker; raises Missing, StartFailed."""
    program = peer_environment("litellm") / "litellm"
    folder, port = place.own_folder("litellm"), free_port()
    config = folder / "config.yaml"
    model = {
        "model": "openai/mock",
        "api_base": f"http://{LOOPBACK}:{place.model_port}/v1",
        "api_key": "none",
    }
    said = {
        "model_list": [{"model_name": "chat", "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "set_verbose": False},
        "router_settings": {"num_retries": 0, "routing_strategy": "simple-shuffle"},
    }
    # JSON is YAML.
    config.write_text(json.dumps(said))
    log_config = folder / "logging.json"
    log_config.write_text(json.dumps({**_LOGGING, "loggers": {"uvicorn.access": _SILENT}}))
    process = place.start_gateway(
        "litellm",
        [
            *(program, "--config", config, "--host", LOOPBACK, "--port", str(port)),
            *("--num_workers", "1", "--telemetry", "False", "--log_config", log_config),
        ],
        # The map of prices is fetched from the network otherwise.
        env=clean_environment(folder, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR"),
    )
    process.wait_for_http(f"http://{LOOPBACK}:{port}/health/liveliness", timeout_s=_START_S)
    return Gateway("litellm", pinned_version("litellm", "litellm"), port, process)
