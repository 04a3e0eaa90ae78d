"""Where a caller is led, and what he is told where that is nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from farlet.kubelet import pod_target as targets
from farlet.kubelet.pod_target import PodTarget
from farlet.kubelet.responses import Refusal
from farlet.kubelet.routes import Endpoint, Route
from farlet.store import Store
from unit.kubelet import stage

LOGS = Route(Endpoint.CONTAINER_LOGS, "shop", "web", None, "main")
EXEC = Route(Endpoint.EXEC, "shop", "web", None, "main")
PORTS = Route(Endpoint.PORT_FORWARD, "shop", "web")


def store(*, mirrored: bool = True, recorded: bool = True, **status: Any) -> Store:
    """The pod `shop/web`, with or without its mirror."""
    made = Store()
    home, mirror = stage.pods(recorded=recorded)
    home["spec"]["initContainers"] = [{"name": "first"}]
    home["spec"]["ephemeralContainers"] = [{"name": "debugger"}]
    home["status"] |= status
    made.home.put(home)
    if mirrored:
        made.mirrors.put(mirror)
    return made


def find(route: Route, known: Store, *, previous: bool = False) -> PodTarget:
    return targets.resolve(route, known, stage.CONTEXT, previous=previous)


def refused(route: Route, known: Store, *, previous: bool = False) -> tuple[int, str]:
    with pytest.raises(Refusal) as raised:
        find(route, known, previous=previous)
    body = raised.value.response.body
    assert isinstance(body, bytes)
    return raised.value.response.status, body.decode()


@pytest.mark.parametrize("container", ["main", "first", "debugger"])
@pytest.mark.parametrize(
    "endpoint", [Endpoint.CONTAINER_LOGS, Endpoint.EXEC, Endpoint.ATTACH], ids=str
)
def test_every_container_that_home_knows_is_reached(endpoint: Endpoint, container: str) -> None:
    route = Route(endpoint, "shop", "web", None, container)
    assert find(route, store()) == PodTarget("shop-h", "web", container)


def test_ports_are_those_of_the_whole_pod() -> None:
    assert find(PORTS, store()) == PodTarget("shop-h", "web", "")


@pytest.mark.parametrize("uid", [None, "home-web"])
def test_a_uid_has_to_be_the_pod_s_own_at_home(uid: str | None) -> None:
    assert find(Route(Endpoint.EXEC, "shop", "web", uid, "main"), store()).pod == "web"
    assert find(Route(Endpoint.PORT_FORWARD, "shop", "web", uid), store()).pod == "web"


@pytest.mark.parametrize(
    ("route", "told"),
    [
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop", "other", None, "main"),
            (404, 'pod "other" does not exist'),
            id="logs of a pod that is not ours",
        ),
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop-h", "web", None, "main"),
            (404, 'pod "web" does not exist'),
            id="logs by the name abroad",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "other", "web", None, "main"),
            (404, "pod does not exist"),
            id="exec in another namespace",
        ),
        pytest.param(
            Route(Endpoint.PORT_FORWARD, "shop", "other"),
            (404, "pod does not exist"),
            id="ports of a pod that is not ours",
        ),
        pytest.param(
            Route(Endpoint.CONTAINER_LOGS, "shop", "web", None, "sidecar"),
            (404, 'container "sidecar" not found in pod "web"'),
            id="logs of a container that home does not know",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "shop", "web", None, "sidecar"),
            (500, 'container not found ("sidecar")'),
            id="exec in a container that home does not know",
        ),
        pytest.param(
            Route(Endpoint.EXEC, "shop", "web", "mirror-web", "main"),
            (500, 'container not found ("main")'),
            id="exec by the uid abroad",
        ),
        pytest.param(
            Route(Endpoint.PORT_FORWARD, "shop", "web", "other"),
            (404, "pod not found"),
            id="ports by another uid",
        ),
    ],
)
def test_what_is_not_ours_does_not_exist(route: Route, told: tuple[int, str]) -> None:
    assert refused(route, store()) == told


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(store(mirrored=False), id="gone"),
        pytest.param(store(recorded=False), id="not recorded at home"),
    ],
)
def test_without_a_mirror_that_home_has_recorded_nothing_is_reached(known: Store) -> None:
    assert refused(EXEC, known) == (500, 'container not found ("main")')
    assert refused(PORTS, known) == (500, 'pod not found ("web_shop")')


def test_a_pod_abroad_that_took_the_mirror_s_name_is_not_reached() -> None:
    known = store()
    _, other = stage.pods()
    other["metadata"] |= {"uid": "a stranger", "resourceVersion": "9"}
    known.mirrors.put(other)  # it has the mirror's name, label and annotations
    assert refused(EXEC, known) == (500, 'container not found ("main")')
    assert refused(LOGS, known)[0] == 400


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", **state}]}


@pytest.mark.parametrize(
    ("status", "previous", "told"),
    [
        pytest.param(
            {"phase": "Pending"},
            False,
            'container "main" in pod "web" is waiting to start: ContainerCreating',
            id="nothing known",
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
            id="pulling",
        ),
        pytest.param(
            {"reason": "ServiceAccountNotFound"}
            | container(state={"waiting": {"reason": "ContainerCreating"}}),
            False,
            'container "main" in pod "web" is waiting to start: ServiceAccountNotFound',
            id="the pod waits",
        ),
        pytest.param(
            container(state={"terminated": {"exitCode": 0}}),
            False,
            'container "main" in pod "web" is terminated',
            id="ended",
        ),
        pytest.param(
            container(state={"waiting": {}}, lastState={"terminated": {}}),
            False,
            'container "main" in pod "web" is terminated',
            id="ended once",
        ),
        pytest.param(
            container(state={"running": {}}),
            False,
            'container "main" in pod "web" is not available',
            id="running, as far as home knows",
        ),
        pytest.param(
            container(state={"running": {}}),
            True,
            'previous terminated container "main" in pod "web" not found',
            id="an earlier run",
        ),
    ],
)
def test_why_there_are_no_logs(status: dict[str, Any], previous: bool, told: str) -> None:
    assert refused(LOGS, store(mirrored=False, **status), previous=previous) == (400, told)
