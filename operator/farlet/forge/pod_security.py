"""Finds what in a pod reaches beyond it: to its node, to other pods, or to other identities.

The tables follow the Pod Security level "baseline" of Kubernetes 1.37 (package `policy` of
`k8s.io/pod-security-admission`); upstream's own fixtures test them. Baseline does not cover the
priority of a pod, its placement on the control plane, or volumes that a node mounts with its own
network address and identity. In a foreign cluster these reach other tenants too, so they are here.

One pass over the pod; nothing here knows what is allowed, see `guards`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast

from farlet.constants import JSON
from farlet.context import Allowance
from farlet.forge.scheduling import PREFERRED, REQUIRED
from farlet.k8s_types import Pod

LONGEST_VALUE = 64
"""Characters of a value in a message."""


class Finding(NamedTuple):
    """A part of a pod that farlet refuses unless one of the allowances is set; none: always."""

    path: str
    problem: str
    allowances: tuple[Allowance, ...]
    value: str = ""

    def __str__(self) -> str:
        value = f" ({self.value[:LONGEST_VALUE]})" if self.value else ""
        return f"{self.path}{value} {self.problem}"


class Rule(NamedTuple):
    """A field, the values that stay inside the pod (an absent field does), and what others do."""

    path: str
    """Keys from a pod's spec or a container down, with dots; `[]` stands for every item."""
    allowance: Allowance
    harmless: tuple[object, ...]
    problem: str


BASELINE = frozenset(Allowance) - {
    Allowance.CRITICAL_PRIORITY,
    Allowance.CONTROL_PLANE_NODES,
    Allowance.INLINE_CSI,
    Allowance.FLEX_VOLUME,
    Allowance.NETWORK_VOLUMES,
    Allowance.RESOURCE_CLAIMS,
    Allowance.CLUSTER_TRUST_BUNDLE,
    Allowance.POD_CERTIFICATE,
    Allowance.LEGACY_TOKEN_SECRETS,
}
"""Features that the Pod Security level `baseline` forbids, so that a namespace must be labelled
`privileged` for them."""

_CONFINED = ("RuntimeDefault", "Localhost")
_UNSET = ("",)
_OFF = (False,)
_SELINUX_TYPES = (
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
)
_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)
"""Those of 1.37. A kubelet that does not regard one of them as safe refuses the mirror itself."""

_SECURITY_CONTEXT = (
    Rule(
        "securityContext.appArmorProfile.type",
        Allowance.APPARMOR,
        _CONFINED,
        "removes the AppArmor confinement by the foreign node",
    ),
    Rule(
        "securityContext.seLinuxOptions.type",
        Allowance.SELINUX,
        _SELINUX_TYPES,
        "selects an SELinux type other than those of containers",
    ),
    Rule(
        "securityContext.seLinuxOptions.user",
        Allowance.SELINUX,
        _UNSET,
        "selects an SELinux user",
    ),
    Rule(
        "securityContext.seLinuxOptions.role",
        Allowance.SELINUX,
        _UNSET,
        "selects an SELinux role",
    ),
    Rule(
        "securityContext.seccompProfile.type",
        Allowance.SECCOMP,
        _CONFINED,
        "opens all system calls of the foreign node",
    ),
    Rule(
        "securityContext.windowsOptions.hostProcess",
        Allowance.WINDOWS_HOST_PROCESS,
        _OFF,
        "runs as a process of a foreign Windows node",
    ),
)
"""Fields that pods and containers have."""

_POD = (
    Rule("hostNetwork", Allowance.HOST_NETWORK, _OFF, "uses the network of a foreign node"),
    Rule("hostPID", Allowance.HOST_PID, _OFF, "sees the processes of a foreign node"),
    Rule("hostIPC", Allowance.HOST_IPC, _OFF, "shares the memory of a foreign node"),
    Rule(
        "securityContext.sysctls[].name",
        Allowance.SYSCTLS,
        _SYSCTLS,
        "sets a kernel parameter that is not safe for other pods of the foreign node",
    ),
    *_SECURITY_CONTEXT,
)

_HOST_PORT = Rule(
    "ports[].hostPort", Allowance.HOST_PORTS, (0,), "opens a port of the foreign node"
)
_PROC_MOUNT = Rule(
    "securityContext.procMount",
    Allowance.PROC_MOUNT,
    ("Default",),
    "unmasks parts of /proc of the foreign node",
)
_CONTAINER = (
    Rule(
        "securityContext.privileged",
        Allowance.PRIVILEGED,
        _OFF,
        "has root access to a foreign node",
    ),
    Rule(
        "securityContext.capabilities.add[]",
        Allowance.CAPABILITIES,
        _CAPABILITIES,
        "adds a capability that containers do not have by default",
    ),
    _PROC_MOUNT,
    _HOST_PORT,
    *(
        Rule(
            f"{handler}.{action}.host",
            Allowance.HOST_PROBES,
            _UNSET,
            "makes the kubelet of the foreign node connect to another host",
        )
        for handler in (
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle.postStart",
            "lifecycle.preStop",
        )
        for action in ("httpGet", "tcpSocket")
    ),
    *_SECURITY_CONTEXT,
)


_Paths: TypeAlias = Mapping[str, list[tuple[list[str], Rule]]]


def _by_first_key(rules: Sequence[Rule]) -> _Paths:
    """The rules, with the keys of their paths, by the first key: few pods have many of them."""
    found: dict[str, list[tuple[list[str], Rule]]] = {}
    for rule in rules:
        keys = rule.path.split(".")
        found.setdefault(keys[0].removesuffix("[]"), []).append((keys, rule))
    return found


_POD_PATHS = _by_first_key(_POD)
_CONTAINER_PATHS = _by_first_key(_CONTAINER)


class Annotation(NamedTuple):
    """Annotations that were fields before they became fields; older API servers obey them."""

    prefix: str
    allowance: Allowance
    harmless: tuple[str, ...]
    """Besides these, every value that begins with `localhost/`."""
    problem: str


_ANNOTATIONS = (
    Annotation(
        "container.apparmor.security.beta.kubernetes.io/",
        Allowance.APPARMOR,
        ("", "runtime/default"),
        "removes the AppArmor confinement by the foreign node",
    ),
    *(
        Annotation(
            prefix,
            Allowance.SECCOMP,
            ("runtime/default", "docker/default"),
            "opens all system calls of the foreign node",
        )
        for prefix in (
            "seccomp.security.alpha.kubernetes.io/pod",
            "container.seccomp.security.alpha.kubernetes.io/",
        )
    ),
)

_VOLUMES: Mapping[str, tuple[Allowance, str] | None] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "configMap",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "image",
                "persistentVolumeClaim",
                "projected",
                "secret",
            )
        ),
        "hostPath": (Allowance.HOST_PATH, "mounts a directory of a foreign node"),
        "csi": (
            Allowance.INLINE_CSI,
            "passes parameters of this pod to a storage driver of the foreign cluster",
        ),
        "flexVolume": (
            Allowance.FLEX_VOLUME,
            "runs a program of the foreign node with parameters of this pod",
        ),
    }
)
"""Volume type -> allowance and problem; `None`: an object of the pod's namespace, or its own."""

_NETWORK_VOLUME = (
    Allowance.NETWORK_VOLUMES,
    "is mounted by the foreign node, with its network address and identity",
)
"""All other types, also those that are newer than farlet."""

_CONTROL_PLANE = (
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/controlplane",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/master",
)
"""Labels and taints of nodes of the control plane, by kubeadm and by Rancher."""

_HIGHEST_USER_PRIORITY = 1_000_000_000
"""`HighestUserDefinablePriority` in `pkg/apis/scheduling/types.go`."""

_DEBUGGER = "SYS_PTRACE"
"""What `kubectl debug --profile=general` adds to its container (`allowProcessTracing` in
`k8s.io/kubectl/pkg/cmd/debug/profiles.go`)."""


def findings(pod: Pod) -> Iterator[Finding]:
    """What reaches beyond the pod, of everything that its mirror is created with."""
    spec = cast("JSON", pod["spec"])
    yield from _judge(spec, _POD_PATHS, "spec", spec)
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)
    for group in ("initContainers", "containers"):
        for container in spec.get(group) or ():
            path = f"spec.{group}[{container['name']}]"
            yield from _judge(container, _CONTAINER_PATHS, path, spec)
    yield from _annotations(pod["metadata"].get("annotations") or {})
    yield from _priority(spec)
    yield from _placement(spec)


def ephemeral_findings(pod: Pod) -> Iterator[Finding]:
    """The same of the ephemeral containers, which no mirror is created with.

    Each is judged alone: it cannot be removed from a pod, so it must not keep the pod from running.
    """
    spec = cast("JSON", pod["spec"])
    for container in spec.get("ephemeralContainers") or ():
        path = f"spec.ephemeralContainers[{container['name']}]"
        for finding in _judge(container, _CONTAINER_PATHS, path, spec):
            if (*finding.allowances, finding.value) == (Allowance.CAPABILITIES, _DEBUGGER):
                allowances = (Allowance.DEBUG_TRACING, Allowance.CAPABILITIES)
                yield finding._replace(allowances=allowances)
            else:
                yield finding


def _judge(owner: JSON, paths: _Paths, at: str, spec: JSON) -> Iterator[Finding]:
    for name in owner:
        for keys, rule in paths.get(name, ()):
            if rule is _PROC_MOUNT and spec.get("hostUsers") is False:
                continue  # baseline allows it in a user namespace since 1.35
            if rule is _HOST_PORT and spec.get("hostNetwork"):
                continue  # every port is one of the node; API servers write it to `hostPort`, too
            for path, value in _values(owner, keys, at):
                if value not in rule.harmless:
                    shown = "" if value is True else str(value)
                    yield Finding(path, rule.problem, (rule.allowance,), shown)


def _values(node: Any, keys: Sequence[str], at: str) -> Iterator[tuple[str, object]]:
    """The values at a path, and the path of each. Absent and null ones are skipped."""
    for depth, key in enumerate(keys):
        name = key.removesuffix("[]")
        node = node.get(name)
        at = f"{at}.{name}"
        if node is None:
            return
        if name is not key:
            for index, item in enumerate(node):
                yield from _values(item, keys[depth + 1 :], f"{at}[{index}]")
            return
    yield at, node


def _volume(volume: JSON) -> Iterator[Finding]:
    for kind, source in volume.items():
        if kind == "name" or source is None:
            continue
        reach = _VOLUMES.get(kind, _NETWORK_VOLUME)
        if reach is not None:
            allowance, problem = reach
            yield Finding(f"spec.volumes[{volume['name']}].{kind}", problem, (allowance,))


def _annotations(annotations: Mapping[str, str]) -> Iterator[Finding]:
    for key, value in annotations.items():
        for row in _ANNOTATIONS:
            if key.startswith(row.prefix) and not (
                value in row.harmless or value.startswith("localhost/")
            ):
                path = f"metadata.annotations[{key}]"
                yield Finding(path, row.problem, (row.allowance,), value)


def _priority(spec: JSON) -> Iterator[Finding]:
    """The mirror gets the class by name, and its number from the foreign cluster's class."""
    name = str(spec.get("priorityClassName") or "")
    if name.startswith("system-") or (spec.get("priority") or 0) > _HIGHEST_USER_PRIORITY:
        yield Finding(
            "spec.priorityClassName",
            "lets the pod evict pods of all other users of the foreign cluster",
            (Allowance.CRITICAL_PRIORITY,),
            name,
        )


def _placement(spec: JSON) -> Iterator[Finding]:
    """A toleration of every taint alone is common, and selects no node. Together with an affinity
    to pods of other namespaces, it selects the nodes of such pods as those of `kube-system`.
    """
    selector = spec.get("nodeSelector") or {}
    selected = [f"nodeSelector[{key}]" for key in selector if key in _CONTROL_PLANE]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = chain(
        (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or (),
        (entry.get("preference") or {} for entry in affinity.get(PREFERRED) or ()),
    )
    selected += [
        f"affinity.nodeAffinity[{expression['key']}]"
        for term in terms
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") in _CONTROL_PLANE
        and expression.get("operator") in ("In", "Exists")
    ]
    selected += [
        f"tolerations[{toleration['key']}]"
        for toleration in spec.get("tolerations") or ()
        if toleration.get("key") in _CONTROL_PLANE
    ]
    if any(toleration.get("key") in (None, "") for toleration in spec.get("tolerations") or ()):
        pods = (spec.get("affinity") or {}).get("podAffinity") or {}
        near = chain(
            pods.get(REQUIRED) or (),
            (entry.get("podAffinityTerm") or {} for entry in pods.get(PREFERRED) or ()),
        )
        if any(
            term.get("namespaces") or term.get("namespaceSelector") is not None for term in near
        ):
            selected.append("affinity.podAffinity")
    for path in selected:
        yield Finding(
            f"spec.{path}",
            "places the pod on nodes of the foreign control plane",
            (Allowance.CONTROL_PLANE_NODES,),
        )
