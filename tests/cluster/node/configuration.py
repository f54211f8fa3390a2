"""The configuration files and flags of the node's components."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.control_plane import etcd_command
from cluster.node.credentials import Credentials
from cluster.node.places import (
    API_PORT,
    DNS_IP,
    DOMAIN,
    ETCD_PORT,
    NODE,
    NODE_IP,
    PODS,
    SERVICES,
)

CNI_PROGRAMS = Path("/usr/lib/cni")
PAUSE_IMAGE = "localhost/pause:1"
Command = list[str | Path]

_CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_programs}"
    conf_dir = "{folder}/cni"
"""


@dataclass(frozen=True, slots=True)
class Components:
    """The commands of the components of a node whose files are in ``folder``.

    ``binaries`` holds those of Kubernetes; ``cgroup`` is the one that pods are to be in.
    """

    folder: Path
    binaries: Path
    credentials: Credentials
    cgroup: str

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.folder / "containerd.sock"

    def containerd(self) -> Command:
        text = _CONTAINERD.format(
            folder=self.folder, socket=self.socket, pause=PAUSE_IMAGE, cni_programs=CNI_PROGRAMS
        )
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "pods.conflist").write_text(json.dumps(self._pod_network()))
        return ["containerd", "--config", self._written("containerd.toml", text)]

    def etcd(self) -> Command:
        ports = {"port": ETCD_PORT, "peer_port": ETCD_PORT + 1}
        return etcd_command(self.binaries, self.folder, **ports)

    def api_server(self) -> Command:
        known = self.credentials
        return [
            self.binaries / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
            f"--secure-port={API_PORT}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_IP}",
            f"--tls-cert-file={known.api_server.chain}",
            f"--tls-private-key-file={known.api_server.key}",
            f"--client-ca-file={known.authority}",
            f"--token-auth-file={known.tokens}",
            f"--kubelet-client-certificate={known.kubelet_client.chain}",
            f"--kubelet-client-key={known.kubelet_client.key}",
            f"--kubelet-certificate-authority={known.authority}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={known.service_accounts}",
            f"--service-account-signing-key-file={known.service_accounts}",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
        ]

    def controller_manager(self) -> Command:
        return [
            self.binaries / "kube-controller-manager",
            f"--kubeconfig={self.credentials.kubeconfig('controller-manager')}",
            f"--service-account-private-key-file={self.credentials.service_accounts}",
            f"--root-ca-file={self.credentials.authority}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ]

    def scheduler(self) -> Command:
        return [
            self.binaries / "kube-scheduler",
            f"--kubeconfig={self.credentials.kubeconfig('scheduler')}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ]

    def kubelet(self) -> Command:
        return [
            self.binaries / "kubelet",
            f"--config={self._written('kubelet.json', self._kubelet())}",
            f"--kubeconfig={self.credentials.kubeconfig('kubelet')}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
        ]

    def kube_proxy(self) -> Command:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "bindAddress": NODE_IP,
            "clientConnection": {"kubeconfig": str(self.credentials.kubeconfig("proxy"))},
            "hostnameOverride": NODE,
            "clusterCIDR": PODS,
            # The machine's own limits stay as they are.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
        path = self._written("kube-proxy.json", config)
        return [self.binaries / "kube-proxy", f"--config={path}"]

    def _kubelet(self) -> Mapping[str, Any]:
        resolver = self._written("resolv.conf", "")
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_IP,
            "tlsCertFile": str(self.credentials.kubelet.chain),
            "tlsPrivateKeyFile": str(self.credentials.kubelet.key),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.credentials.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDomain": DOMAIN,
            "clusterDNS": [DNS_IP],
            "resolvConf": str(resolver),
            # What is loaded stays, however full the disk is.
            "imageMinimumGCAge": "87600h",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "nodeStatusUpdateFrequency": "5s",
        }

    def _pod_network(self) -> Mapping[str, Any]:
        addresses = {
            "type": "host-local",
            "dataDir": f"{self.folder}/addresses",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": addresses,
        }
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}

    def _written(self, name: str, content: str | Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path
