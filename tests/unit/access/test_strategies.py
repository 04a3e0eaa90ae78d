"""What the three access modes guarantee for every pod."""

from typing import Any, cast

import pytest

import pods
from farlet import access
from farlet.access import ServiceAccountRequirement
from farlet.constants import JSON, Reason
from farlet.context import NotConfigured, Reflection, RemoteServiceAccounts
from farlet.errors import Refused
from farlet.k8s_types import OwnerReference

STRATEGIES = access.load_strategies()
OWNER: OwnerReference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "m"}
ACCOUNT = "liqo.io/remote-service-account-name"
DOWNWARD: dict[str, Any] = {
    "downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}
}


def _busy_pod() -> Any:
    env = [{"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]
    volumes = [pods.projected(pods.token(), pods.token("v", audience="vault"), DOWNWARD)]
    return pods.pod(
        containers=[pods.container(env=env)],
        initContainers=[
            pods.container("init", env=env),
            pods.container("sidecar", restartPolicy="Always"),
        ],
        volumes=volumes,
        serviceAccountName="builder",
    )


def test_each_entry_point_is_an_access_mode_of_its_name_with_a_summary() -> None:
    assert sorted(STRATEGIES) == ["disabled", "home", "remote"]
    assert all(strategy.summary for strategy in STRATEGIES.values())


@pytest.mark.parametrize("mode", ["disabled", "remote"])
def test_only_home_pods_get_home_tokens(mode: str) -> None:
    pod, ctx = _busy_pod(), pods.context()
    assert STRATEGIES[mode].token_specs(pod, ctx) == ()
    assert STRATEGIES[mode].objects(pod, {}, ctx, OWNER) == ()
    assert "farlet-" not in str(STRATEGIES[mode].mutate(pod["spec"], pod, ctx).spec)


@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_a_mirror_has_no_foreign_account_unless_its_mode_is_remote(mode: str) -> None:
    pod, ctx = _busy_pod(), pods.context()
    spec = STRATEGIES[mode].mutate(pod["spec"], pod, ctx).spec
    assert spec.keys().isdisjoint({"serviceAccountName", "serviceAccount"})
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountToken" not in str(spec.get("volumes"))


@pytest.mark.parametrize("links", [None, True, False])
@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_foreign_services_are_no_variables_unless_the_mode_is_remote(
    mode: str, links: bool | None
) -> None:
    pod, ctx = _busy_pod(), pods.context()
    if links is not None:
        cast("JSON", pod["spec"])["enableServiceLinks"] = links
    made = STRATEGIES[mode].mutate(pod["spec"], pod, ctx)
    assert cast("JSON", made.spec)["enableServiceLinks"] is False
    about = [change for change in made.changes if change.path == "spec.enableServiceLinks"]
    assert [change.routine for change in about] == ([] if links is False else [True])


@pytest.mark.parametrize("links", [None, True, False])
@pytest.mark.parametrize("mode", sorted(STRATEGIES))
def test_reflected_services_are_variables_as_the_pod_says(mode: str, links: bool | None) -> None:
    pod, ctx = _busy_pod(), pods.context(reflect=frozenset({Reflection.SERVICES}))
    if links is not None:
        cast("JSON", pod["spec"])["enableServiceLinks"] = links
    made = STRATEGIES[mode].mutate(pod["spec"], pod, ctx)
    assert made.spec.get("enableServiceLinks") is links


@pytest.mark.parametrize("mode", ["disabled", "home"])
def test_every_container_gets_the_variables_and_its_home_identity(mode: str) -> None:
    pod, ctx = _busy_pod(), pods.context()
    spec = STRATEGIES[mode].mutate(pod["spec"], pod, ctx).spec
    expected = "192.0.2.10" if mode == "home" else ""
    containers = [*spec["initContainers"], *spec["containers"]]
    assert [c["name"] for c in containers] == ["init", "sidecar", "app"]
    for container in containers:
        env = container["env"]
        assert env[0] == {"name": "KUBERNETES_SERVICE_HOST", "value": expected}
    for container in (containers[0], containers[2]):
        assert container["env"][-1] == {"name": "NS", "value": "shop"}


@pytest.mark.parametrize("mode", sorted(STRATEGIES))
def test_a_strategy_does_not_change_its_argument(mode: str) -> None:
    pod = _busy_pod()
    STRATEGIES[mode].mutate(pod["spec"], pod, pods.context())
    assert pod == _busy_pod()


def test_remote_changes_only_the_account() -> None:
    pod = _busy_pod()
    pod["metadata"]["annotations"] = {ACCOUNT: "runner"}
    spec = STRATEGIES["remote"].mutate(pod["spec"], pod, pods.context()).spec
    assert spec == {**pod["spec"], "serviceAccountName": "runner"}


LABELLED = ServiceAccountRequirement("runner", label="farlet.io/offloadable")


@pytest.mark.parametrize(
    ("policy", "annotation", "expected"),
    [
        pytest.param("all", None, ServiceAccountRequirement("builder"), id="the same name"),
        pytest.param("all", "runner", ServiceAccountRequirement("runner"), id="another"),
        pytest.param("same-name", None, ServiceAccountRequirement("builder"), id="only the same"),
        pytest.param("same-name", "builder", ServiceAccountRequirement("builder"), id="explicit"),
        pytest.param("labelled", "runner", LABELLED, id="only labelled"),
    ],
)
def test_the_foreign_account_that_must_exist(
    policy: str, annotation: str | None, expected: ServiceAccountRequirement
) -> None:
    pod = _busy_pod()
    pod["metadata"]["annotations"] = {} if annotation is None else {ACCOUNT: annotation}
    ctx = pods.context(remote_service_accounts=RemoteServiceAccounts(policy))
    assert STRATEGIES["remote"].requirements(pod, ctx) == (expected,)


def test_another_account_is_refused_where_only_the_same_name_is_allowed() -> None:
    pod = _busy_pod()
    pod["metadata"]["annotations"] = {ACCOUNT: "runner"}
    ctx = pods.context(remote_service_accounts=RemoteServiceAccounts.SAME_NAME)
    with pytest.raises(Refused, match=r"runner.*builder.*same-name") as caught:
        STRATEGIES["remote"].requirements(pod, ctx)
    assert caught.value.reason is Reason.SERVICE_ACCOUNT_NOT_ALLOWED


@pytest.mark.parametrize("mode", ["disabled", "remote"])
def test_only_home_mode_needs_the_home_api(mode: str) -> None:
    pod, ctx = _busy_pod(), pods.context(home_api=NotConfigured(), home_ca="")
    STRATEGIES[mode].requirements(pod, ctx)
    assert STRATEGIES[mode].mutate(pod["spec"], pod, ctx).spec["containers"]


@pytest.mark.parametrize(
    ("mode", "reported"),
    [
        ("home", []),
        ("remote", ["spec.volumes[cloud].projected.sources[0]"]),
        ("disabled", ["spec.volumes[cloud]"]),
    ],
)
def test_a_token_for_a_cloud_is_reported_where_the_pod_gets_another_or_none(
    mode: str, reported: list[str]
) -> None:
    pod = pods.pod(
        volumes=[
            pods.projected(pods.token()),
            pods.projected(pods.token(audience="sts.amazonaws.com"), name="cloud"),
        ]
    )
    changes = STRATEGIES[mode].mutate(pod["spec"], pod, pods.context()).changes
    found = [change for change in changes if not change.routine]
    assert [change.path for change in found] == reported
    assert all("sts.amazonaws.com" in change.why for change in found)


def test_without_an_api_no_mount_of_a_removed_file_is_left() -> None:
    """A kubelet would create an empty directory in place of a file that the volume lacks."""
    ca = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "home/ca.pem"}]}
    mounts = [
        {"name": "api", "mountPath": f"/etc/{path}", "subPath": path}
        for path in ("token", "./token/", "home//ca.pem", "ca.crt", "settings.yaml")
    ]
    expressions = [
        {"name": "api", "mountPath": f"/expressions/{path}", "subPathExpr": path}
        for path in ("token", "./home//ca.pem", "settings.yaml", "$(FILE)")
    ]
    whole = {"name": "api", "mountPath": "/api"}
    pod = pods.pod(
        containers=[pods.container(volumeMounts=[*mounts, *expressions, whole])],
        volumes=[
            pods.projected(
                pods.token(),
                {"configMap": {"name": "kube-root-ca.crt"}},
                {"configMap": ca},
                {"configMap": {"name": "settings"}},
                name="api",
            )
        ],
    )
    spec = STRATEGIES["disabled"].mutate(pod["spec"], pod, pods.context()).spec
    kept = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    assert kept == [
        "/etc/settings.yaml",
        "/expressions/settings.yaml",
        "/expressions/$(FILE)",
        "/api",
    ]


def test_an_api_server_that_a_native_pod_names_itself_is_reported() -> None:
    env = [{"name": "KUBERNETES_SERVICE_HOST", "value": "home.example"}, {"name": "A", "value": ""}]
    pod = pods.pod(containers=[pods.container(env=env)])
    mutation = STRATEGIES["remote"].mutate(pod["spec"], pod, pods.context())
    assert [change.path for change in mutation.changes] == [
        "spec.containers[app].env[KUBERNETES_SERVICE_HOST]"
    ]
    assert mutation.spec == pod["spec"]
