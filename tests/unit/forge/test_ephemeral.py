"""An ephemeral container is forged as if it were one of the pod's other containers."""

from typing import Any, cast

import pytest

import pods
from farlet import access, names
from farlet.constants import API_ACCESS_MOUNT, KUBE_ROOT_CA, Reason
from farlet.context import Allowance, SCCRanges
from farlet.errors import Refused
from farlet.forge import copies, ephemeral, guards
from farlet.forge import pod as forge
from farlet.k8s_types import Container, Pod

STRATEGIES = access.load_strategies()
CONTAINERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "variables": {"env": [{"name": "A", "value": "$(KUBERNETES_SERVICE_HOST)"}]},
    "its own address of an API server": {
        "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"}]
    },
    "its identity": {
        "env": [
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "S", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
        ]
    },
    "a proxy": {"env": [{"name": "https_proxy", "value": "http://proxy:3128"}]},
    "ConfigMaps and Secrets": {
        "envFrom": [{"configMapRef": {"name": "app"}}, {"secretRef": {"name": "login"}}],
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "login", "key": "p"}}}],
    },
    "the CA": {
        "env": [
            {
                "name": "CA",
                "valueFrom": {"configMapKeyRef": {"name": KUBE_ROOT_CA, "key": "ca.crt"}},
            }
        ]
    },
    "mounts": {
        "volumeMounts": [
            {"name": "access", "mountPath": API_ACCESS_MOUNT},
            {"name": "data", "mountPath": "/data"},
        ]
    },
    "ids that OpenShift chose": {"securityContext": {"runAsUser": 1_000_680_000}},
}
VOLUMES = [pods.projected(pods.token()), {"name": "data", "emptyDir": {}}]


def _pod(container: dict[str, Any], **spec: Any) -> Pod:
    return pods.pod(
        annotations={"openshift.io/scc": "restricted"},
        containers=[container],
        volumes=VOLUMES,
        **spec,
    )


@pytest.mark.parametrize("mode", ["home", "remote", "disabled"])
@pytest.mark.parametrize("fields", CONTAINERS.values(), ids=CONTAINERS)
def test_it_has_what_another_container_would_have(fields: dict[str, Any], mode: str) -> None:
    container, strategy = pods.container("debug", **fields), STRATEGIES[mode]
    ctx = pods.context(scc_ranges=SCCRanges.DROP)
    usual = forge.forge_mirror(
        _pod(container), strategy=strategy, ctx=ctx, anchor=None, token_times={}, restarts={}
    )
    home = _pod(pods.container("main"), ephemeralContainers=[container])
    forged = ephemeral.forge(home, cast("Container", container), strategy=strategy, ctx=ctx)
    assert [forged] == usual.pod["spec"]["containers"]


def test_fields_of_ephemeral_containers_alone_stay() -> None:
    container = pods.container("debug", targetContainerName="main", tty=True, stdin=True)
    ctx, strategy = pods.context(), STRATEGIES["disabled"]
    forged: Any = ephemeral.forge(
        pods.pod(), cast("Container", container), strategy=strategy, ctx=ctx
    )
    assert (forged["targetContainerName"], forged["tty"], forged["stdin"]) == ("main", True, True)


def test_a_pod_of_mode_home_gets_a_secret_for_the_ca_of_its_ephemeral_container() -> None:
    owner: Any = {"kind": "Pod", "name": "web", "uid": "m", "apiVersion": "v1"}
    reads = pods.container("debug", **CONTAINERS["the CA"])
    for containers, number in (([], 0), ([reads], 1)):
        pod = pods.pod(ephemeralContainers=containers)
        assert len(STRATEGIES["home"].objects(pod, {}, pods.context(), owner)) == number


@pytest.mark.parametrize(
    ("fields", "allowed", "words"),
    [
        pytest.param({}, [], [], id="an ordinary one"),
        pytest.param(
            {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
            [],
            ["SYS_PTRACE", "--profile=baseline", "--allow-pod-feature=debug-tracing"],
            id="kubectl debug as it is by default",
        ),
        pytest.param(
            {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
            ["debug-tracing"],
            [],
            id="kubectl debug, allowed",
        ),
        pytest.param(
            {"securityContext": {"privileged": True}},
            ["debug-tracing"],
            ["securityContext.privileged", "--allow-pod-feature=privileged"],
            id="kubectl debug --profile=sysadmin",
        ),
        pytest.param(
            {"envFrom": [{"secretRef": {"name": names.secret_name(pods.UID)}}]},
            [a.value for a in Allowance],
            ["tokens of one home pod", "Add one without it"],
            id="the tokens of another pod, whatever is allowed",
        ),
    ],
)
def test_the_guards_check_one_ephemeral_container_alone(
    fields: dict[str, Any], allowed: list[str], words: list[str]
) -> None:
    bad = pods.container("bad", securityContext={"privileged": True})
    container = pods.container("debug", **fields)
    ctx = pods.context(allow_pod_feature=frozenset(map(Allowance, allowed)))
    pod = pods.pod(ephemeralContainers=[bad, container])
    if not words:
        guards.check_ephemeral(pod, cast("Container", container), ctx)
        return
    with pytest.raises(Refused) as caught:
        guards.check_ephemeral(pod, cast("Container", container), ctx)
    assert caught.value.reason is Reason.EPHEMERAL_CONTAINER_REJECTED
    assert all(word in caught.value.message for word in ("container debug", *words))


@pytest.mark.parametrize(
    ("state", "found"),
    [
        pytest.param(None, {"app", "login"}, id="new"),
        pytest.param({"waiting": {}}, {"app", "login"}, id="waits"),
        pytest.param({"running": {}}, {"app", "login"}, id="runs"),
        pytest.param({"terminated": {"exitCode": 0}}, set(), id="has ended"),
    ],
)
def test_an_ephemeral_container_refers_to_objects_until_it_has_ended(
    state: dict[str, Any] | None, found: set[str]
) -> None:
    container = pods.container("debug", **CONTAINERS["ConfigMaps and Secrets"])
    pod = pods.pod(ephemeralContainers=[container])
    if state is not None:
        row: Any = {"name": "debug", "state": state}
        pod["status"] = {"ephemeralContainerStatuses": [row]}
    assert {one.name for one in copies.sources(pod)} == found
