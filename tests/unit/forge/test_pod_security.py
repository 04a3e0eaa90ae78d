"""Access beyond the pod: upstream's fixtures of the level baseline, and what it does not cover."""

import re
import time
from pathlib import Path
from typing import Any, cast

import pytest

import pods
from farlet.context import Allowance
from farlet.errors import Refused
from farlet.forge import guards, pod_security
from farlet.k8s_types import Pod
from golden import podsecurity

NAMES = {
    "apparmorprofile": {"apparmor"},
    "capabilities_baseline": {"capabilities"},
    "hostpathvolumes": {"host-path"},
    "hostports": {"host-ports"},
    "hostprobesandhostlifecycle": {"host-probes"},
    "privileged": {"privileged"},
    "procmount": {"proc-mount"},
    "seccompprofile_baseline": {"seccomp"},
    "selinuxoptions": {"selinux"},
    "sysctls": {"sysctls"},
    "windowshostprocess": {"windows-host-process", "host-network"},
}
HOST_NAMESPACES = ("host-ipc", "host-network", "host-pid")


def _expected(fixture: podsecurity.Fixture) -> set[str]:
    if fixture.check == "hostnamespaces":
        return {HOST_NAMESPACES[int(fixture.name[-1])]}
    return NAMES[fixture.check]


def _named(fixture: podsecurity.Fixture) -> str:
    return f"{fixture.name} of {fixture.version}"


def _found(pod: Pod) -> list[pod_security.Finding]:
    return list(pod_security.findings(pod))


def _refused_for(pod: Pod, *allowed: str) -> set[str]:
    ctx = pods.context(allow_pod_feature=frozenset(map(Allowance, allowed)))
    try:
        guards.check(pod, "home", ctx)
    except Refused as refused:
        return set(re.findall("--allow-pod-feature=([a-z-]+)", refused.message))
    return set()


@pytest.mark.parametrize("fixture", podsecurity.fixtures("pass"), ids=_named)
def test_a_pod_that_baseline_allows_passes(fixture: podsecurity.Fixture) -> None:
    assert _found(cast("Pod", fixture.pod)) == []


@pytest.mark.parametrize("fixture", podsecurity.fixtures("fail"), ids=_named)
def test_a_pod_that_baseline_forbids_needs_exactly_its_allowance(
    fixture: podsecurity.Fixture,
) -> None:
    pod, expected = cast("Pod", fixture.pod), _expected(fixture)
    assert _refused_for(pod) == expected
    assert _refused_for(pod, *(set(Allowance) - expected)) == expected
    assert _refused_for(pod, *expected) == set()
    assert pod_security.BASELINE.issuperset(expected)


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        pytest.param({"hostPID": True}, True, id="baseline forbids it"),
        pytest.param({"priorityClassName": "system-node-critical"}, False, id="only farlet does"),
    ],
)
def test_a_refusal_names_the_field_and_the_label_that_allow_the_feature(
    spec: dict[str, Any], command: bool
) -> None:
    pod = cast("Pod", {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    with pytest.raises(Refused, match=r"with spec.allowPodFeatures of the VirtualNode") as raised:
        guards.check(pod, "home", pods.context())
    label = "kubectl label namespace shop-home pod-security.kubernetes.io/enforce=privileged"
    assert (label in raised.value.message) is command


def test_the_fixtures_cover_every_check_and_both_verdicts() -> None:
    checks = {fixture.check for fixture in podsecurity.fixtures("fail")}
    assert checks == {*NAMES, "hostnamespaces"}
    assert podsecurity.fixtures("pass")


def _probe(handler: str, action: str) -> dict[str, Any]:
    probe = {action: {"host": "192.0.2.1", "port": 80}}
    name, _, hook = handler.partition(".")
    return {name: {hook: probe} if hook else probe}


CONTAINERS = {
    "privileged": {"securityContext": {"privileged": True}},
    "capabilities": {"securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}},
    "proc-mount": {"securityContext": {"procMount": "Unmasked"}},
    "host-ports": {"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]},
    "apparmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "selinux": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "windows-host-process": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
}
IN_CONTAINERS = [
    *(pytest.param(fields, name, id=name) for name, fields in CONTAINERS.items()),
    *(
        pytest.param(_probe(handler, action), "host-probes", id=f"{handler} {action}")
        for handler in (
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle.postStart",
            "lifecycle.preStop",
        )
        for action in ("httpGet", "tcpSocket")
    ),
]
GROUPS = [
    pytest.param("containers", {}, id="a container"),
    pytest.param("initContainers", {}, id="an init container"),
    pytest.param("initContainers", {"restartPolicy": "Always"}, id="a sidecar"),
]


@pytest.mark.parametrize(("group", "kind"), GROUPS)
@pytest.mark.parametrize(("fields", "allowance"), IN_CONTAINERS)
def test_all_containers_are_checked(
    fields: dict[str, Any], allowance: str, group: str, kind: dict[str, Any]
) -> None:
    pod = pods.pod()
    cast("dict[str, Any]", pod["spec"])[group] = [pods.container("x", **fields, **kind)]
    [found] = _found(pod)
    assert found.path.startswith(f"spec.{group}[x].")
    assert found.allowances == (Allowance(allowance),)


@pytest.mark.parametrize(("fields", "allowance"), IN_CONTAINERS)
def test_an_ephemeral_container_is_reported_and_the_pod_runs(
    fields: dict[str, Any], allowance: str
) -> None:
    pod = pods.pod(ephemeralContainers=[pods.container("x", **fields)])
    assert _refused_for(pod) == set()
    [(path, why)] = guards.refused_ephemeral(pod, pods.context())
    assert path.startswith("spec.ephemeralContainers[x].")
    assert why.endswith(f"--allow-pod-feature={allowance}")


@pytest.mark.parametrize(
    ("added", "allowed", "refused"),
    [
        pytest.param(["SYS_PTRACE"], [], ["debug-tracing"], id="the debugger"),
        pytest.param(["SYS_PTRACE"], ["debug-tracing"], [], id="the debugger, allowed"),
        pytest.param(["SYS_PTRACE"], ["capabilities"], [], id="all capabilities allowed"),
        pytest.param(["NET_ADMIN"], ["debug-tracing"], ["capabilities"], id="another capability"),
        pytest.param(
            ["SYS_PTRACE", "NET_RAW"], ["debug-tracing"], ["capabilities"], id="one more capability"
        ),
    ],
)
def test_debug_tracing_allows_what_kubectl_debug_adds(
    added: list[str], allowed: list[str], refused: list[str]
) -> None:
    security: dict[str, Any] = {"capabilities": {"add": added}}
    container = pods.container("debugger-1", securityContext=security)
    pod = pods.pod(ephemeralContainers=[container])
    ctx = pods.context(allow_pod_feature=frozenset(map(Allowance, allowed)))
    found = [why.rpartition("=")[2] for _, why in guards.refused_ephemeral(pod, ctx)]
    assert found == refused
    # an ordinary container needs `capabilities`, whatever kubectl debug does
    usual = pods.pod(containers=[container])
    assert _refused_for(usual, "debug-tracing") == {"capabilities"}


CP = "node-role.kubernetes.io/control-plane"


def _pod_affinity(*, required: bool = True, **term: Any) -> dict[str, Any]:
    """Near pods of the API server."""
    near = {"labelSelector": {"matchLabels": {"component": "kube-apiserver"}}, **term}
    near["topologyKey"] = "kubernetes.io/hostname"
    if required:
        return {"affinity": {"podAffinity": {f"required{_DURING}": [near]}}}
    preferred = {"weight": 1, "podAffinityTerm": near}
    return {"affinity": {"podAffinity": {f"preferred{_DURING}": [preferred]}}}


_DURING = "DuringSchedulingIgnoredDuringExecution"


def _node_affinity(term: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    rule: Any = {"nodeSelectorTerms": [term]} if required else [{"weight": 1, "preference": term}]
    kind = "required" if required else "preferred"
    return {"affinity": {"nodeAffinity": {f"{kind}DuringSchedulingIgnoredDuringExecution": rule}}}


def _expression(operator: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": CP, "operator": operator}]}


@pytest.mark.parametrize(
    ("spec", "allowance"),
    [
        pytest.param(
            {"priorityClassName": "system-node-critical"}, "critical-priority", id="node critical"
        ),
        pytest.param(
            {"priorityClassName": "system-cluster-critical"},
            "critical-priority",
            id="cluster critical",
        ),
        pytest.param({"priority": 2_000_000_000}, "critical-priority", id="a system priority"),
        pytest.param({"nodeSelector": {CP: ""}}, "control-plane-nodes", id="a node selector"),
        pytest.param(
            _node_affinity(_expression("Exists")), "control-plane-nodes", id="a required affinity"
        ),
        pytest.param(
            _node_affinity(_expression("In"), required=False),
            "control-plane-nodes",
            id="a preferred affinity",
        ),
        pytest.param(
            {"tolerations": [{"key": CP, "operator": "Exists"}]},
            "control-plane-nodes",
            id="a toleration",
        ),
        pytest.param(
            {
                "tolerations": [{"operator": "Exists"}],
                "nodeSelector": {"node-role.kubernetes.io/master": ""},
            },
            "control-plane-nodes",
            id="every taint tolerated, and the former label",
        ),
        pytest.param(
            {"tolerations": [{"operator": "Exists"}], **_pod_affinity(namespaces=["kube-system"])},
            "control-plane-nodes",
            id="every taint tolerated, near pods of the control plane",
        ),
        pytest.param(
            {
                "tolerations": [{"operator": "Exists"}],
                **_pod_affinity(required=False, namespaceSelector={}),
            },
            "control-plane-nodes",
            id="every taint tolerated, preferably near pods of any namespace",
        ),
        *(
            pytest.param({"volumes": [{"name": "v", kind: {}}]}, allowance, id=f"a volume {kind}")
            for kind, allowance in {
                "csi": "inline-csi",
                "flexVolume": "flex-volume",
                "nfs": "network-volumes",
                "iscsi": "network-volumes",
                "gitRepo": "network-volumes",
                "azureFile": "network-volumes",
                "invented": "network-volumes",
            }.items()
        ),
    ],
)
def test_reach_that_baseline_does_not_cover_needs_an_allowance(
    spec: dict[str, Any], allowance: str
) -> None:
    pod = pods.pod(**spec)
    assert _refused_for(pod) == {allowance}
    assert _refused_for(pod, allowance) == set()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"priorityClassName": "high", "priority": 1_000_000_000}, id="a user's class"),
        pytest.param({"tolerations": [{"operator": "Exists"}]}, id="every taint tolerated"),
        pytest.param(_node_affinity(_expression("DoesNotExist")), id="no control plane, please"),
        pytest.param(_pod_affinity(namespaces=["kube-system"]), id="near other pods"),
        pytest.param(
            {"tolerations": [{"operator": "Exists"}], **_pod_affinity()},
            id="every taint tolerated, near pods of its own namespace",
        ),
        pytest.param({"securityContext": None, "volumes": None}, id="null fields"),
        pytest.param(
            {"volumes": [{"name": "v", "nfs": None, "emptyDir": {}}]}, id="a null volume type"
        ),
        *(
            pytest.param({"volumes": [{"name": "v", kind: {}}]}, id=f"a volume {kind}")
            for kind in (
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
    ],
)
def test_what_stays_inside_the_pod_passes(spec: dict[str, Any]) -> None:
    assert _refused_for(pods.pod(**spec)) == set()


def test_ports_of_the_node_need_no_second_allowance_with_its_network() -> None:
    ports = [{"containerPort": 80, "hostPort": 80}]  # an API server fills in hostPort
    pod = pods.pod(hostNetwork=True, containers=[pods.container(ports=ports)])
    assert _refused_for(pod) == {"host-network"}


def test_a_long_value_is_shortened() -> None:
    security = {"seLinuxOptions": {"type": "x" * 100_000}}
    [found] = _found(pods.pod(securityContext=security))
    assert len(str(found)) < 300


def test_the_largest_pods_take_linear_time() -> None:
    ports = [{"containerPort": 1, "hostPort": 1}] * 20_000
    pod = pods.pod(containers=[pods.container(ports=ports)])
    started = time.perf_counter()
    assert len(_found(pod)) == 20_000
    assert time.perf_counter() - started < 1


def test_the_page_describes_every_allowance() -> None:
    page = (Path(__file__).parents[3] / "docs" / "pod-features.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([a-z][a-z-]+)`", row)]
    assert sorted(named) == sorted([*Allowance])
