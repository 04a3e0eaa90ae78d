"""A real home API server accepts every golden status from the node.

The home pod of a case is created with its status; then the PATCH of the case is sent with the
permissions of a kubelet (node authorizer, NodeRestriction). The response must contain the desired
status, so that the next comparison finds nothing to write.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from clusters import pair, rest
from clusters.workspace import Workspace
from farlet.forge import conditions as owned
from farlet.forge import desired_status as wanteds
from golden import statuscases

pytestmark = pytest.mark.takes(110)


@pytest.fixture
async def kubelet(clusters: pair.Clusters, node: str) -> AsyncIterator[rest.Api]:
    """The home API with the identity of the virtual node, which the test creates itself."""
    clusters.home.create_virtual_node(node)
    login = clusters.home.login(f"system:node:{node}", groups=("system:nodes",))
    async with rest.Api(login) as api:
        yield api


async def make(home: rest.Api, golden: Any, *, node: str, namespace: str) -> Any:
    """A bound pod with this spec and status."""
    spec = {**golden["spec"], "nodeName": node, "automountServiceAccountToken": False}
    ephemeral = spec.pop("ephemeralContainers", None)
    meta = {"name": "golden", "annotations": golden["metadata"].get("annotations", {})}
    pod = await home.create("pods", {"metadata": meta, "spec": spec}, namespace=namespace)
    if ephemeral:
        await patch(
            home, pod, {"spec": {"ephemeralContainers": ephemeral}}, part="ephemeralcontainers"
        )
    status = {k: v for k, v in golden["status"].items() if k != "qosClass"}
    return await patch(home, pod, {"status": status})


async def patch(api: rest.Api, pod: Any, body: Any, *, part: str = "status") -> Any:
    meta = pod["metadata"]
    return await api.patch(
        "pods",
        body,
        name=meta["name"],
        namespace=meta["namespace"],
        subresource=part,
        kind="strategic",
    )


def plain(value: Any) -> Any:
    """Without nulls, which a server returns for unknown times."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def conditions(status: Any) -> dict[str, Any]:
    return {c["type"]: plain(c) for c in status.get("conditions", [])}


@pytest.mark.parametrize("name", statuscases.names())
async def test_a_golden_status_is_accepted_and_stored_unchanged(
    name: str, home: rest.Api, kubelet: rest.Api, workspace: Workspace, node: str
) -> None:
    case = statuscases.load(name)
    before = await make(home, case.home, node=node, namespace=workspace.home)
    body = case.stored("patch.yaml")
    if body is None:
        after = before
    else:
        body["metadata"]["uid"] = before["metadata"]["uid"]
        after = await patch(kubelet, before, body)

    desired = case.desired()
    sent = conditions(desired.status)
    others = {k: v for k, v in conditions(before["status"]).items() if k not in owned.OWNED}
    assert conditions(after["status"]) == {**sent, **others}
    for field in wanteds.WRITTEN:
        if field != "conditions":
            assert plain(after["status"].get(field)) == plain(desired.status.get(field)), field
    for key, value in desired.annotations.items():
        assert after["metadata"].get("annotations", {}).get(key) == value
    assert wanteds.patch(after, desired) is None


NEVER: Any = {
    "metadata": {},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "example/app:1"}]},
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "app",
                "image": "example/app:1",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": {"exitCode": 0}},
            }
        ],
    },
}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(
            {
                "status": {
                    "containerStatuses": [
                        {**NEVER["status"]["containerStatuses"][0], "state": {"running": {}}}
                    ]
                }
            },
            422,
            id="leaving-terminated",
        ),
        pytest.param({"status": {"qosClass": "Guaranteed"}}, 422, id="another-quality-of-service"),
        pytest.param({"status": {"nominatedNodeName": "worker-1"}}, 422, id="nominating-a-node"),
        pytest.param(
            {"status": {"hostIP": "10.0.0.9", "hostIPs": [{"ip": "10.0.0.8"}]}},
            422,
            id="two-host-addresses",
        ),
        pytest.param(
            {"metadata": {"uid": "44444444-4444-4444-8444-444444444444"}, "status": {}},
            422,
            id="another-uid",
        ),
        pytest.param({"metadata": {"labels": {"a": "b"}}}, 403, id="a-label"),
    ],
)
async def test_the_home_server_still_rejects_what_the_rules_avoid(
    body: Any, code: int, home: rest.Api, kubelet: rest.Api, workspace: Workspace, node: str
) -> None:
    pod = await make(home, NEVER, node=node, namespace=workspace.home)
    with pytest.raises(rest.ApiError) as refused:
        await patch(kubelet, pod, body)
    assert refused.value.code == code
