"""Pods that are refused unless an allowance names the feature they use."""

from typing import Any, cast

import pytest

import pods
from farlet.constants import Reason
from farlet.context import Allowance, DaemonSetPods
from farlet.errors import Refused
from farlet.forge import guards
from farlet.k8s_types import OwnerReference, Pod

P = pods.TOKEN_MOUNT


def _mounts(volume: dict[str, Any], path: str) -> dict[str, Any]:
    mount = {"name": volume["name"], "mountPath": path}
    return {"containers": [pods.container(volumeMounts=[mount])], "volumes": [volume]}


def _secret(name: str) -> dict[str, Any]:
    return {"name": "s", "secret": {"secretName": name}}


HOST = Reason.POD_FEATURE_NOT_ALLOWED
UNSUPPORTED = Reason.UNSUPPORTED_POD
GUARDED = [
    pytest.param({"hostNetwork": True}, "host-network", HOST, id="host network"),
    pytest.param({"hostPID": True}, "host-pid", HOST, id="host processes"),
    pytest.param({"hostIPC": True}, "host-ipc", HOST, id="host memory"),
    pytest.param(
        {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "host-path", HOST, id="host path"
    ),
    pytest.param({"resourceClaims": [{"name": "g"}]}, "resource-claims", UNSUPPORTED, id="claims"),
    pytest.param(
        {"volumes": [pods.projected({"podCertificate": {}})]},
        "pod-certificate",
        UNSUPPORTED,
        id="pod certificate",
    ),
    pytest.param(
        {"volumes": [pods.projected({"clusterTrustBundle": {}})]},
        "cluster-trust-bundle",
        UNSUPPORTED,
        id="trust bundle",
    ),
    *(
        pytest.param(spec, "legacy-token-secrets", UNSUPPORTED, id=f"legacy token, {how}")
        for how, spec in {
            "mounted where client libraries look": _mounts(_secret("any"), P),
            "with a slash at the end": _mounts(_secret("any"), f"{P}/"),
            "one file of it": _mounts(_secret("any"), f"{P}/token"),
            "in a projected volume": _mounts(pods.projected({"secret": {"name": "any"}}), P),
        }.items()
    ),
]


@pytest.mark.parametrize(("spec", "allowance", "reason"), GUARDED)
def test_a_guarded_pod_is_refused_with_the_flag_that_allows_it(
    spec: dict[str, Any], allowance: str, reason: Reason
) -> None:
    with pytest.raises(Refused) as caught:
        guards.check(pods.pod(**spec), "home", pods.context())
    assert caught.value.reason is reason
    assert f"--allow-pod-feature={allowance}" in caught.value.message
    others = frozenset(Allowance) - {Allowance(allowance)}
    with pytest.raises(Refused):
        guards.check(pods.pod(**spec), "home", pods.context(allow_pod_feature=others))


@pytest.mark.parametrize(("spec", "allowance", "reason"), GUARDED)
def test_an_allowed_pod_passes(spec: dict[str, Any], allowance: str, reason: Reason) -> None:
    allowed = pods.context(allow_pod_feature=frozenset({Allowance(allowance)}))
    assert guards.check(pods.pod(**spec), "home", allowed) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"hostNetwork": False, "resourceClaims": []}, id="fields that are off"),
        pytest.param(_mounts(_secret("credentials"), "/credentials"), id="an ordinary Secret"),
        pytest.param(_mounts(_secret("any"), f"{P}-extra"), id="a path with the same beginning"),
        pytest.param(
            _mounts(pods.projected(pods.token(), {"secret": {"name": "more"}}), P),
            id="a Secret beside a projected token",
        ),
    ],
)
def test_pods_that_only_look_alike_pass(spec: dict[str, Any]) -> None:
    assert guards.check(pods.pod(**spec), "home", pods.context()) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("mode", ["home", "disabled", "remote"])
@pytest.mark.parametrize(("spec", "allowance", "reason"), GUARDED)
def test_names_of_objects_are_foreign_ones_in_mode_remote_only(
    spec: dict[str, Any], allowance: str, reason: Reason, mode: str
) -> None:
    found = None
    try:
        guards.check(pods.pod(**spec), mode, pods.context())
    except Refused as refused:
        found = refused.reason
    assert found is (None if (mode, reason) == ("remote", UNSUPPORTED) else reason)


def test_a_message_names_at_most_eight_findings() -> None:
    ports = [{"hostPort": port} for port in range(1, 1001)]
    with pytest.raises(Refused) as caught:
        guards.check(pods.pod(containers=[pods.container(ports=ports)]), "home", pods.context())
    assert caught.value.message.count("opens a port") == 8
    assert "and 992 more." in caught.value.message
    assert caught.value.message.count("--allow-pod-feature=host-ports") == 1


def test_all_findings_are_in_one_message() -> None:
    spec = {"hostPID": True, "resourceClaims": [{"name": "g"}], **_mounts(_secret("any"), P)}
    with pytest.raises(Refused) as caught:
        guards.check(pods.pod(**spec), "home", pods.context())
    assert caught.value.reason is Reason.POD_FEATURE_NOT_ALLOWED
    for word in (
        "spec.hostPID",
        "spec.resourceClaims",
        "Secret any",
        "--allow-pod-feature=host-pid",
    ):
        assert word in caught.value.message


def _owned(**changes: Any) -> Pod:
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "controller": True}
    pod = pods.pod()
    pod["metadata"]["ownerReferences"] = [cast("OwnerReference", owner | changes)]
    return pod


def test_a_pod_of_a_daemonset_is_refused_with_both_fixes() -> None:
    with pytest.raises(Refused) as caught:
        guards.check_controller(_owned(), pods.context())
    assert caught.value.reason is Reason.DAEMONSET_NOT_ALLOWED
    for word in ("DaemonSet agent", "type NotIn [virtual-kubelet]", "--daemonset-pods=run"):
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("pod", "setting"),
    [
        pytest.param(_owned(), DaemonSetPods.RUN, id="where the setting allows it"),
        pytest.param(_owned(kind="StatefulSet"), DaemonSetPods.REFUSE, id="of another controller"),
        pytest.param(
            _owned(apiVersion="apps.kruise.io/v1beta1"),
            DaemonSetPods.REFUSE,
            id="of a DaemonSet of another group",
        ),
        pytest.param(
            _owned(controller=False),
            DaemonSetPods.REFUSE,
            id="that a DaemonSet owns but does not control",
        ),
        pytest.param(pods.pod(), DaemonSetPods.REFUSE, id="without a controller"),
    ],
)
def test_a_pod_passes(pod: Pod, setting: DaemonSetPods) -> None:
    ctx = pods.context(daemonset_pods=setting)
    assert guards.check_controller(pod, ctx) is None  # type: ignore[func-returns-value]
