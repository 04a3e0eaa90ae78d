"""Resolving a request to a mirror, and the errors of a kubelet if there is none."""

from __future__ import annotations

from typing import Any

import pytest

from farlet.kubelet import pod_target
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Route
from farlet.store import Store
from unit.kubelet import harness

LOGS = Route(Endpoint.CONTAINER_LOGS, "shop", "web", None, "main")
EXEC = Route(Endpoint.EXEC, "shop", "web", None, "main")
PORTS = Route(Endpoint.PORT_FORWARD, "shop", "web")


def store(*, mirrored: bool = True, recorded: bool = True, **status: Any) -> Store:
    """A store with the pod `shop/web`, with or without its mirror."""
    result = Store()
    home, mirror = harness.pods(recorded=recorded)
    home["spec"]["initContainers"] = [{"name": "first"}]
    home["spec"]["ephemeralContainers"] = [{"name": "debugger"}]
    home["status"] |= status
    result.home.put(home)
    if mirrored:
        result.mirrors.put(mirror)
    return result


def resolve(route: Route, pods: Store, *, previous: bool = False) -> PodTarget:
    return pod_target.resolve(route, pods, harness.CONTEXT, previous=previous)


def refused(route: Route, pods: Store, *, previous: bool = False) -> tuple[int, str]:
    with pytest.raises(Refusal) as raised:
        resolve(route, pods, previous=previous)
    body = raised.value.response.body
    assert isinstance(body, bytes)
    return raised.value.response.status, body.decode()


@pytest.mark.parametrize("container", ["main", "first", "debugger"])
@pytest.mark.parametrize(
    "endpoint", [Endpoint.CONTAINER_LOGS, Endpoint.EXEC, Endpoint.ATTACH], ids=str
)
def test_every_container_of_the_home_pod_is_reached(endpoint: Endpoint, container: str) -> None:
    route = Route(endpoint, "shop", "web", None, container)
    assert resolve(route, store()) == PodTarget(
        "shop-h", "web", container, node="far", home_namespace="shop"
    )


def test_port_forward_leads_to_the_whole_pod() -> None:
    assert resolve(PORTS, store()) == PodTarget(
        "shop-h", "web", "", node="far", home_namespace="shop"
    )


@pytest.mark.parametrize("uid", [None, "home-web"])
def test_a_uid_must_be_that_of_the_home_pod(uid: str | None) -> None:
    assert resolve(Route(Endpoint.EXEC, "shop", "web", uid, "main"), store()).pod == "web"
    assert resolve(Route(Endpoint.PORT_FORWARD, "shop", "web", uid), store()).pod == "web"


@pytest.mark.parametrize(
    ("route", "error"),
    [
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop", "other", None, "main"),
            (404, 'pod "other" does not exist'),
            id="logs of an unknown pod",
        ),
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop-h", "web", None, "main"),
            (404, 'pod "web" does not exist'),
            id="logs by the foreign namespace",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "other", "web", None, "main"),
            (404, "pod does not exist"),
            id="exec in another namespace",
        ),
        pytest.param(
            Route(Endpoint.PORT_FORWARD, "shop", "other"),
            (404, "pod does not exist"),
            id="ports of an unknown pod",
        ),
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop", "web", None, "sidecar"),
            (404, 'container "sidecar" not found in pod "web"'),
            id="logs of a container that only the mirror has",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "shop", "web", None, "sidecar"),
            (500, 'container not found ("sidecar")'),
            id="exec in a container that only the mirror has",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "shop", "web", "mirror-web", "main"),
            (500, 'container not found ("main")'),
            id="exec by the uid of the mirror",
        ),
        pytest.param(
            Route(Endpoint.PORT_FORWARD, "shop", "web", "other"),
            (404, "pod not found"),
            id="ports by another uid",
        ),
    ],
)
def test_other_pods_and_containers_do_not_exist(route: Route, error: tuple[int, str]) -> None:
    assert refused(route, store()) == error


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param(store(mirrored=False), id="no mirror"),
        pytest.param(store(recorded=False), id="not recorded in the home pod"),
    ],
)
def test_without_a_recorded_mirror_nothing_is_reached(pods: Store) -> None:
    assert refused(EXEC, pods) == (500, 'container not found ("main")')
    assert refused(PORTS, pods) == (500, 'pod not found ("web_shop")')


def test_a_foreign_pod_with_the_name_of_the_mirror_is_not_reached() -> None:
    pods = store()
    _, other = harness.pods()
    other["metadata"] |= {"uid": "another", "resourceVersion": "9"}
    pods.mirrors.put(other)  # with the mirror's name, label and annotations
    assert refused(EXEC, pods) == (500, 'container not found ("main")')
    assert refused(LOGS, pods)[0] == 400


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", **state}]}


@pytest.mark.parametrize(
    ("status", "previous", "error"),
    [
        pytest.param(
            {"phase": "Pending"},
            False,
            'container "main" in pod "web" is waiting to start: ContainerCreating',
            id="no status",
        ),
        pytest.param(
            container(state={"waiting": {"reason": "PodInitializing"}}),
            False,
            'container "main" in pod "web" is waiting to start: PodInitializing',
            id="waiting",
        ),
        pytest.param(
            container(state={"waiting": {"reason": "ImagePullBackOff"}}),
            False,
            'container "main" in pod "web" is waiting to start: trying and failing to pull image',
            id="image pull fails",
        ),
        pytest.param(
            {"reason": "ServiceAccountNotFound"}
            | container(state={"waiting": {"reason": "ContainerCreating"}}),
            False,
            'container "main" in pod "web" is waiting to start: ServiceAccountNotFound',
            id="the pod has a reason",
        ),
        pytest.param(
            container(state={"terminated": {"exitCode": 0}}),
            False,
            'container "main" in pod "web" is terminated',
            id="terminated",
        ),
        pytest.param(
            container(state={"waiting": {}}, lastState={"terminated": {}}),
            False,
            'container "main" in pod "web" is terminated',
            id="terminated before",
        ),
        pytest.param(
            container(state={"running": {}}),
            False,
            'container "main" in pod "web" is not available',
            id="running",
        ),
        pytest.param(
            container(state={"running": {}}),
            True,
            'previous terminated container "main" in pod "web" not found',
            id="previous run",
        ),
    ],
)
def test_the_error_for_missing_logs(status: dict[str, Any], previous: bool, error: str) -> None:
    assert refused(LOGS, store(mirrored=False, **status), previous=previous) == (400, error)


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        (Endpoint.CONTAINER_LOGS, (400, 'container "debugger" in pod "web" is terminated: no')),
        (Endpoint.ATTACH, (500, 'container not found ("debugger"): no')),
        (Endpoint.EXEC, (500, 'container not found ("debugger"): no')),
    ],
    ids=str,
)
def test_the_user_of_kubectl_debug_learns_why_the_container_was_rejected(
    endpoint: Endpoint, error: tuple[int, str]
) -> None:
    ended = {"exitCode": 128, "reason": "EphemeralContainerRejected", "message": "no"}
    pods = store(ephemeralContainerStatuses=[{"name": "debugger", "state": {"terminated": ended}}])
    assert refused(Route(endpoint, "shop", "web", None, "debugger"), pods) == error
