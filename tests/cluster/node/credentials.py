"""Who is who on the node: certificates, tokens, and a kubeconfig for each component."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cluster.control_plane import client_config, new_rsa_key, write_private
from cluster.node.places import API_IP, API_URL, DOMAIN, NODE, NODE_IP
from cluster.tls import Authority

USERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "admin": ("admin", "system:masters"),
        "controller-manager": ("system:kube-controller-manager", ""),
        "scheduler": ("system:kube-scheduler", ""),
        "kubelet": (f"system:node:{NODE}", "system:nodes"),
        "proxy": ("system:kube-proxy", ""),
    }
)
"""Component to its user and its group."""
_SERVICE_NAMES: Final = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Credentials:
    """Files in ``folder``. A token is the component's name: nobody else reaches the network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = Authority(folder, "cluster")
        self.authority = self._authority.file
        names = (*_SERVICE_NAMES, f"kubernetes.default.svc.{DOMAIN}", "localhost")
        self.api_server = self._authority.issue(*names, "127.0.0.1", API_IP, NODE_IP)
        self.kubelet = self._authority.issue(NODE, NODE_IP)
        self.kubelet_client = self._authority.issue("kubelet-client", group="system:masters")
        self.service_accounts = write_private(folder / "service-accounts.key", new_rsa_key())
        lines = (f'{token},{user},{token},"{group}"' for token, (user, group) in USERS.items())
        self.tokens = write_private(folder / "tokens.csv", "\n".join(lines) + "\n")

    def kubeconfig(self, component: str) -> Path:
        """The kubeconfig of a component, or of ``admin``."""
        config = client_config(API_URL, authority=self.authority, token=component)
        return write_private(self._folder / f"{component}.kubeconfig", json.dumps(config))
