"""Names, addresses and ports of the node, all of them inside its own network."""

from typing import Final

NODE: Final = "node-0"
NODE_IP: Final = "10.97.0.10"
SERVICES: Final = "10.96.0.0/16"
API_IP: Final = "10.96.0.1"
DNS_IP: Final = "10.96.0.10"
PODS: Final = "10.244.0.0/24"
API_PORT: Final = 6443
API_URL: Final = f"https://127.0.0.1:{API_PORT}"
ETCD_PORT: Final = 2379
DOMAIN: Final = "cluster.local"
ZONE: Final = "zone-a"
