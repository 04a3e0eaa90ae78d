"""A real node: containerd, kubelet, kube-proxy and DNS, with runc and the CNI bridge of the system.

For tests that require real containers: unmodified clients, refreshed files, host aliases, exec and
exit codes, probes, restarts. The node has the label `farlet.test/node: real`, and in tests
a soft taint (PreferNoSchedule): pods without a nodeSelector then run on a fake node, and a
nodeSelector on that label places a pod here.

Secrets reach a running container after at most `SYNC`, at once when the pod's annotations change.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clusters import errors, images, kubeconfig, kwok, packages, processes
from clusters.controlplane import FIRST_SERVICE, ControlPlane
from clusters.instance import CGROUPS, Instance
from clusters.netns import BRIDGE, Network

SYNC = "10s"
_DOMAIN = "cluster.local"
_API = f"kubernetes.default.svc.{_DOMAIN}"  # the one name that the cluster's DNS knows
SOFT_TAINT = "farlet.test/real"
_CAP_SYS_RESOURCE = 24


@dataclasses.dataclass(frozen=True)
class RealNode:
    """The running parts of a real node."""

    name: str
    containerd: processes.Process
    kubelet: processes.Process
    proxy: processes.Process
    resolver: processes.Process
    control: Path
    socket: Path

    def load(self, image: str, archive: Path) -> None:
        """Give the node an image that its prepared folder lacks."""
        images.load(self.control, self.socket, image, archive)

    def stop(self) -> None:
        """Kill all processes; containers end with the holder of the network namespace."""
        for process in (self.resolver, self.proxy, self.kubelet, self.containerd):
            process.kill()


def start(
    owner: Instance,
    *,
    name: str,
    folder: Path,
    programs: Mapping[str, Path],
    plane: ControlPlane,
    network: Network,
    prepared: images.Prepared,
    taints: Sequence[str],
) -> RealNode:
    """A node that has been started and registers itself; `kubelet` is not ready yet."""

    def login(user: str, *, file: str, groups: list[str]) -> Path:
        return kubeconfig.write(
            folder / f"{file}.kubeconfig",
            server=plane.internal,
            authority=plane.authority.files.certificate.read_bytes(),
            user=plane.authority.client(file, user=user, groups=groups),
            cluster=name,
        )

    def spawn(program: str, flags: list[str], *, restarted: bool = False) -> processes.Process:
        process = processes.Process(
            program,
            network.on_node([programs[program], *flags]),
            log=folder / "logs" / f"{program}.log",
            environment={
                **owner.environment,
                # containerd looks for its shim there
                "PATH": f"{programs['containerd-shim-runc-v2'].parent}:{_path(owner)}",
            },
            restarted=restarted,
        )
        process.start()
        return process

    images.lay_out(prepared, root=folder / "containerd")
    socket = folder / "containerd.sock"
    settings = folder / "containerd.toml"
    settings.write_text(_containerd_settings(folder, socket, network))
    containerd = spawn("containerd", [f"--config={settings}"])
    cgroup = owner.cgroup(name)
    version = _make_cgroup(cgroup)
    kubelet_settings = folder / "kubelet.yaml"
    kubelet_settings.write_text(
        yaml.safe_dump(_kubelet_settings(folder, socket, network, plane, name, cgroup, version))
    )
    processes.wait_for("containerd", socket.exists, seconds=120, process=containerd)
    kubelet = spawn(
        "kubelet",
        [
            f"--config={kubelet_settings}",
            f"--kubeconfig={login(f'system:node:{name}', file='kubelet', groups=['system:nodes'])}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'kubelet-pki'}",
            f"--hostname-override={name}",
            f"--node-ip={network.gateway}",
            f"--node-labels={kwok.LABEL}=real",
            f"--register-with-taints={','.join(taints)}",
        ],
    )
    proxy = spawn(
        "kube-proxy",
        [
            f"--kubeconfig={login('system:kube-proxy', file='proxy', groups=[])}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={network.subnet}",
            f"--hostname-override={name}",
            "--conntrack-max-per-core=0",
        ],
        restarted=True,
    )
    resolver = spawn(
        "resolver", [f"--listen={network.gateway}:53", f"--record={_API}={FIRST_SERVICE}"]
    )
    return RealNode(
        name, containerd, kubelet, proxy, resolver, control=programs["ctr"], socket=socket
    )


def _path(owner: Instance) -> str:
    return f"{owner.environment.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _containerd_settings(folder: Path, socket: Path, network: Network) -> str:
    runc = packages.path("runc")
    conflist = folder / "cni" / "10-pods.conflist"
    conflist.parent.mkdir()
    conflist.write_text(
        json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "pods",
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": BRIDGE,
                        "isGateway": True,
                        "ipMasq": False,
                        "hairpinMode": True,
                        "ipam": {
                            "type": "host-local",
                            "dataDir": str(folder / "cni-addresses"),
                            "ranges": [[{"subnet": network.subnet, "gateway": network.gateway}]],
                            "routes": [{"dst": "0.0.0.0/0"}],
                        },
                    }
                ],
            }
        )
    )
    return f"""\
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
{images.CONTAINERD_COMMON}
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
  path = "{folder}/opt"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{images.PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Without the capability every sandbox would die with "can't get final child's PID from pipe".
  restrict_oom_score_adj = {str(not _may_lower_oom_score()).lower()}
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{folder}/runc"
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "{conflist.parent}"
"""


def _kubelet_settings(
    folder: Path,
    socket: Path,
    network: Network,
    plane: ControlPlane,
    name: str,
    cgroup: str,
    cgroup_version: int,
) -> dict[str, Any]:
    serving = plane.authority.server(
        "kubelet-serving",
        user=f"system:node:{name}",
        groups=["system:nodes"],
        hosts=[name, network.gateway],
    )
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {network.gateway}\n")
    version_settings = {"failCgroupV1": False} if cgroup_version == 1 else {}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.gateway,
        "readOnlyPort": 0,
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.files.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        **version_settings,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(folder / "pod-logs"),
        "resolvConf": str(resolver),
        "clusterDomain": _DOMAIN,
        "clusterDNS": [network.gateway],
        "imageMaximumGCAge": "0s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "volumePluginDir": str(folder / "volume-plugins"),
        "syncFrequency": SYNC,
        "nodeStatusUpdateFrequency": "10s",
        "maxPods": 200,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    }


def _make_cgroup(name: str) -> int:
    """Make the kubelet's root control group and tell which version of control groups this is."""
    if (CGROUPS / "cgroup.controllers").exists():
        (CGROUPS / name).mkdir()
        return 2
    hierarchies = [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()]
    if not hierarchies:
        raise errors.HarnessError(
            f"no control groups are mounted at {CGROUPS}: a real node cannot run here. "
            f"{errors.OTHER_WAY}"
        )
    for hierarchy in {path.resolve() for path in hierarchies}:
        (hierarchy / name).mkdir()
        if (hierarchy / "cpuset.cpus").exists():  # a new cpuset is empty and admits no process
            for file in ("cpuset.cpus", "cpuset.mems"):
                shutil.copyfile(hierarchy / file, hierarchy / name / file)
    return 1


def _may_lower_oom_score() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False
