"""`farlet connect` and `farlet disconnect` between two clusters in memory.

Both are killed before each of their writes, and then continue.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from farlet import errors
from farlet.install import credentials, installed_manager, requests
from farlet.install.connect import Connect
from farlet.install.connection import Connection
from farlet.install.credentials import ForeignServer
from farlet.install.disconnect import Disconnect
from farlet.install.foreign_search import virtual_node_id
from farlet.install.home_data import Volumes
from farlet.manager.virtual_node import Identity
from farlet.planning.api_refusals import CONTEXTS
from unit import examples
from unit.install.memory_cluster import (
    Killed,
    MemoryCluster,
    Object,
    Process,
    api_server,
    controllers,
    deployment,
)

FAR = Connection("far", "farlet:1", ("shop",))
SERVER = ForeignServer("https://192.0.2.7:6443", None)
POD = {
    "metadata": {"name": "web", "ownerReferences": [{"kind": "ReplicaSet", "controller": True}]},
    "spec": {"nodeName": "far"},
}
ID = virtual_node_id("h-home", "far")
OTHER_ID = virtual_node_id("h-home", "other")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(requests, "RETRY_SECONDS", 0.0)


class Pair:
    """Two clusters, and the lines that commands printed."""

    def __init__(self) -> None:
        self.process = Process()
        self.home = MemoryCluster("home", uid="h", process=self.process)
        self.foreign = MemoryCluster("foreign", uid="f", process=self.process)
        self.home.settle = controllers(self.home)
        self.home.put("namespaces", "", {"metadata": {"name": "shop"}})
        self.lines: list[str] = []
        self.unreached: str | None = None
        """Why the machine of the administrator does not reach the foreign server."""

    async def _unreached(self, _server: ForeignServer) -> str | None:
        return self.unreached

    async def connect(
        self, connection: Connection = FAR, *, server: ForeignServer = SERVER, seconds: float = 20
    ) -> tuple[str, ...]:
        """Returns the home namespaces that are offloaded."""
        work = Connect(
            connection,
            self.home,
            self.foreign,
            server=server,
            unreached=self._unreached,
            report=self.lines.append,
            seconds=seconds,
        )
        await work.run()
        return work.offloaded

    async def disconnect(
        self,
        node: str = "far",
        *,
        volumes: Volumes = Volumes.REFUSE,
        force: bool = False,
        home: bool = True,
        foreign: bool = True,
        home_id: str | None = None,
    ) -> list[str]:
        """Returns what remains."""
        work = Disconnect(
            node,
            self.home if home else None,
            self.foreign if foreign else None,
            system=None,
            home_id=home_id,
            volumes=volumes,
            force=force,
            report=self.lines.append,
            seconds=0 if node == "stuck" else 20,
        )
        await work.run()
        return work.left

    def run_pods(self, *, shared: bool = False) -> None:
        """What farlet creates for a pod of the node. `shared`: another node uses a copy, too."""
        namespace = "shop-home"
        labels = {"farlet.io/virtual-node-id": ID}
        mirror = {"name": "web", "labels": labels, "finalizers": ["farlet.io/observed"]}
        self.foreign.put("pods", namespace, {"metadata": mirror})
        self.foreign.put("secrets", namespace, {"metadata": {"name": "s", "labels": labels}})
        used = {f"farlet.io/used-by-{ID}": "true"}
        both = {**used, f"farlet.io/used-by-{OTHER_ID}": "true"}
        self.foreign.put("configmaps", namespace, {"metadata": {"name": "own", "labels": used}})
        if shared:
            copy = {"metadata": {"name": "both", "labels": both}}
            self.foreign.put("configmaps", namespace, copy)
        claim = {"metadata": {"name": "farlet-home-namespace"}}
        self.foreign.put("configmaps", namespace, claim)
        inventory = {"name": f"farlet-{ID}", "labels": labels}
        self.foreign.put("configmaps", "farlet-far", {"metadata": inventory})


async def connected() -> Pair:
    pair = Pair()
    await pair.connect()
    return pair


async def test_connect_installs_both_sides_and_reports_each_step() -> None:
    pair = await connected()
    node = pair.home.find("virtualnodes", "farlet", "far")
    assert node is not None
    assert [line.split(":")[0] for line in pair.lines if line.startswith("[")] == [
        "[1/9] checks",
        "[2/9] foreign namespaces",
        "[3/9] foreign permissions",
        "[4/9] manager",
        "[5/9] gateway",
        "[6/9] foreign credentials",
        "[7/9] home permissions",
        "[8/9] virtual node",
        "[9/9] ready",
    ]
    assert {name for kind, _, name in pair.home.names() if kind == "secrets"} == {
        "farlet-far-foreign",
        "farlet-far-gateway",
    }
    assert ("deployments", "farlet-far", "farlet-gateway") in pair.foreign.names()
    assert ("rolebindings", "shop-home", "farlet-far") in pair.foreign.names()


async def test_connect_again_changes_neither_keys_nor_token() -> None:
    pair = await connected()
    before = copy.deepcopy((pair.home.objects, pair.foreign.objects))
    await pair.connect()
    assert (pair.home.objects, pair.foreign.objects) == before


async def test_a_revoked_token_is_replaced() -> None:
    pair = await connected()
    pair.foreign.tokens.clear()
    await pair.connect()
    assert len(pair.foreign.tokens) == 1


@pytest.mark.parametrize(
    ("expires", "replaced"),
    [
        pytest.param({}, True, id="does not expire"),
        pytest.param({"iat": 0, "exp": 1e9}, True, id="was not renewed"),
        pytest.param({"iat": 4e9, "exp": 5e9}, False, id="will be renewed"),
    ],
)
async def test_a_token_is_replaced_that_the_manager_advises_to_replace(
    expires: dict[str, float], replaced: bool
) -> None:
    pair = await connected()
    claims = {"sub": "system:serviceaccount:farlet-far:farlet", **expires}
    token = f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.x"
    pair.foreign.tokens = {token}
    secret = pair.home.objects["secrets", "farlet", "farlet-far-foreign"]
    text = credentials.kubeconfig(SERVER, token)
    secret["data"] = {"kubeconfig": base64.b64encode(text.encode()).decode()}
    await pair.connect()
    assert (len(pair.foreign.tokens) > 1) is replaced


def _token(expires: float) -> str:
    claims = {"sub": "system:serviceaccount:farlet-far:farlet", "iat": 4e9, "exp": expires}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.x"


def _reports(home: MemoryCluster, expires: str, **ready: str) -> None:
    """The manager reports a farlet that uses a token until `expires`."""
    api_server(home)
    node = home.find("virtualnodes", "farlet", "far")
    if node is not None:
        seen = {"type": "Ready", "observedGeneration": node["metadata"]["generation"]}
        condition = {**seen, "status": "True", "reason": "Serving", **ready}
        node["status"] = {"conditions": [condition], "foreignCredentialsExpire": expires}


async def test_connect_waits_until_farlet_uses_the_new_credentials() -> None:
    pair = await connected()
    pair.foreign.issue = lambda: _token(5e9)
    pair.home.settle = lambda: _reports(pair.home, "2026-12-01T00:00:00Z")
    other = dataclasses.replace(SERVER, url="https://192.0.2.8:6443")
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(server=other, seconds=0.2)
    assert "farlet still uses the foreign credentials before the last change" in str(caught.value)
    pair.home.settle = lambda: _reports(pair.home, "2128-06-11T08:53:20Z")
    await pair.connect(server=other)


async def test_connect_waits_until_pods_in_mode_home_reach_their_api_server() -> None:
    pair = await connected()

    def report() -> None:
        _reports(pair.home, "")
        node = pair.home.find("virtualnodes", "farlet", "far")
        assert node is not None
        home_api = {"type": "HomeAPIReachable", "status": "False", "reason": "HomeAPIUnreachable"}
        node["status"]["conditions"].append({**home_api, "message": "no gateway is connected"})

    pair.home.settle = report
    with pytest.raises(errors.StartError, match="HomeAPIUnreachable: no gateway is connected"):
        await pair.connect(seconds=0.2)
    pair.home.settle = lambda: _reports(pair.home, "")
    await pair.connect()


async def test_the_end_of_a_rollout_counts_once_the_manager_has_seen_it() -> None:
    pair = await connected()
    pair.home.settle = lambda: _reports(pair.home, "", reason="RollingOut")
    with pytest.raises(errors.StartError, match="has not seen the end of the rollout yet"):
        await pair.connect(seconds=0.2)


async def test_the_address_before_is_named_when_nothing_answers_at_the_new_one() -> None:
    pair = await connected()
    pair.home.settle = lambda: _report(pair.home, "ForeignUnreachable")
    pair.unreached = "connection refused"
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(
            server=dataclasses.replace(SERVER, url="https://192.0.2.7:1"), seconds=0.2
        )
    assert "(now https://192.0.2.7:1; before https://192.0.2.7:6443)" in str(caught.value)
    (checks,) = (line for line in pair.lines if "[1/9]" in line and ":1 " in line)
    assert checks.endswith(
        "foreign v1.36.3; address for pods https://192.0.2.7:1 (from this machine: "
        "connection refused)"
    )


@pytest.mark.parametrize(
    "value", [None, "", "/w==", "x"], ids=["missing", "empty", "not text", "not base64"]
)
async def test_keys_that_do_not_fit_together_are_created_again(value: str | None) -> None:
    pair = await connected()
    secret = pair.foreign.objects["secrets", "farlet-far", "farlet-gateway"]
    before = secret["data"]
    secret["data"] = {} if value is None else dict.fromkeys(before, value)
    await pair.connect()
    after = pair.foreign.objects["secrets", "farlet-far", "farlet-gateway"]["data"]
    assert after.keys() == before.keys()
    assert after != before
    assert "[5/9] gateway: Deployment farlet-far/farlet-gateway, keys created" in pair.lines[9:]


@pytest.mark.parametrize("every", examples.each(9, "write"))
async def test_connect_continues_after_a_kill_before_any_write(every: int) -> None:
    whole = await connected()
    assert whole.process.writes > 25
    for count in range(0, whole.process.writes, every):
        pair = Pair()
        pair.process.lives = count
        with pytest.raises(Killed):
            await pair.connect()
        pair.process.lives = None
        await pair.connect()
        assert pair.home.content() == whole.home.content(), count
        assert pair.foreign.content() == whole.foreign.content(), count


async def test_disconnect_leaves_both_clusters_as_they_were() -> None:
    before = Pair()
    pair = await connected()
    pair.run_pods()
    assert await pair.disconnect() == []
    assert pair.home.content() == before.home.content()
    assert pair.foreign.content() == before.foreign.content()


@pytest.mark.parametrize("every", examples.each(9, "write"))
async def test_disconnect_continues_after_a_kill_before_any_write(every: int) -> None:
    before = Pair()
    counting = await connected()
    counting.run_pods()
    start = counting.process.writes
    await counting.disconnect()
    for count in range(0, counting.process.writes - start, every):
        pair = await connected()
        pair.run_pods()
        pair.process.lives = count
        with pytest.raises(Killed):
            await pair.disconnect()
        pair.process.lives = None
        await pair.disconnect()
        assert pair.home.content() == before.home.content(), count
        assert pair.foreign.content() == before.foreign.content(), count


async def test_namespaces_that_existed_before_stay_as_they_were() -> None:
    pair = Pair()
    pair.foreign.put("namespaces", "", {"metadata": {"name": "shop-home", "labels": {"a": "b"}}})
    pair.home.put("namespaces", "", {"metadata": {"name": "farlet"}})
    before = pair.home.content(), pair.foreign.content()
    await pair.connect()
    pair.run_pods()
    assert await pair.disconnect() == [
        "the foreign namespace shop-home: farlet connect did not create it",
        "the namespace farlet: it existed before",
    ]
    assert (pair.home.content(), pair.foreign.content()) == before


async def test_accounts_that_end_with_their_namespace_are_named() -> None:
    pair = await connected()
    for name in ("default", "robot"):
        pair.foreign.put("serviceaccounts", "shop-home", {"metadata": {"name": name}})
    await pair.disconnect()
    (line,) = (line for line in pair.lines if line.startswith("[7/8]"))
    assert line.endswith("the namespaces shop-home (with its ServiceAccounts robot), farlet-far")


async def test_disconnect_of_one_of_two_nodes_leaves_the_other_untouched() -> None:
    pair = Pair()
    await pair.connect(Connection("near", "farlet:1", ("shop",)))
    before = pair.home.content(), pair.foreign.content()
    await pair.connect()
    mirror = {"name": "near", "labels": {"farlet.io/virtual-node-id": OTHER_ID}}
    pair.foreign.put("pods", "shop-home", {"metadata": mirror})
    pair.run_pods(shared=True)
    await pair.disconnect()
    assert pair.home.content() == before[0]
    left = {key for key in pair.foreign.names() if key not in before[1]}
    assert left == {
        ("pods", "shop-home", "near"),
        ("configmaps", "shop-home", "both"),
        ("configmaps", "shop-home", "farlet-home-namespace"),
    }
    both = pair.foreign.objects["configmaps", "shop-home", "both"]["metadata"]["labels"]
    assert both == {f"farlet.io/used-by-{OTHER_ID}": "true"}


async def test_pods_of_the_node_are_evicted() -> None:
    pair = await connected()
    pair.home.put("pods", "shop", POD)
    await pair.disconnect()
    assert "[2/8] drain: 1 pod evicted (1 with a controller)" in pair.lines


CLAIM = {"metadata": {"name": "data", "labels": {"farlet.io/virtual-node-id": ID}}}


async def test_foreign_claims_stop_disconnect_before_it_changes_anything() -> None:
    pair = await connected()
    pair.foreign.put("persistentvolumeclaims", "shop-home", CLAIM)
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError, match=r"1 foreign claims .* shop-home/data"):
        await pair.disconnect()
    assert (pair.home.content(), pair.foreign.content()) == before


@pytest.mark.parametrize(
    ("volumes", "left"),
    [
        pytest.param(Volumes.KEEP, {("namespaces", "", "shop-home"),
                                    ("configmaps", "shop-home", "farlet-home-namespace"),
                                    ("persistentvolumeclaims", "shop-home", "data")}, id="keep"),
        pytest.param(Volumes.DELETE, set(), id="delete"),
    ],
)  # fmt: skip
async def test_foreign_claims_are_kept_or_deleted(volumes: Volumes, left: set[object]) -> None:
    before = Pair()
    pair = await connected()
    pair.run_pods()
    pair.foreign.put("persistentvolumeclaims", "shop-home", CLAIM)
    for _ in range(2):
        said = await pair.disconnect(volumes=volumes)
        assert set(pair.foreign.names()) - set(before.foreign.names()) == left
        assert any("shop-home/data" in line for line in said) is bool(left)
        command = f"farlet disconnect {CONTEXTS} --node far --delete-volumes"
        assert any(
            "namespace shop-home" in line and line.endswith(command) for line in said
        ) is bool(left)
    await pair.disconnect(volumes=Volumes.DELETE)
    assert pair.foreign.names() == before.foreign.names()


async def test_claims_without_a_home_cluster_are_kept_and_then_deleted() -> None:
    before = Pair()
    pair = await connected()
    pair.run_pods()
    pair.foreign.put("persistentvolumeclaims", "shop-home", CLAIM)
    said = await pair.disconnect(volumes=Volumes.KEEP, home=False)
    assert pair.foreign.find("configmaps", "shop-home", "farlet-home-namespace")
    command = "farlet disconnect --node far --delete-volumes --foreign-only --home-id h-home"
    assert any(line.endswith(command) for line in said)
    await pair.disconnect(volumes=Volumes.DELETE, home=False, home_id="h-home")
    assert pair.foreign.names() == before.foreign.names()


async def test_claims_of_a_node_that_left_keep_the_home_namespace() -> None:
    pair = await connected()
    pair.run_pods()
    pair.foreign.put("persistentvolumeclaims", "shop-home", _of_other(CLAIM))
    said = await pair.disconnect(volumes=Volumes.DELETE)
    assert pair.foreign.find("configmaps", "shop-home", "farlet-home-namespace")
    assert any("claims of another virtual node are in it: data" in line for line in said)


def _of_other(claim: Object) -> Object:
    metadata = {**claim["metadata"], "labels": {"farlet.io/virtual-node-id": OTHER_ID}}
    return {**claim, "metadata": metadata}


async def test_disconnect_without_the_foreign_cluster_leaves_the_home_cluster_as_it_was() -> None:
    before = Pair()
    pair = await connected()
    pair.run_pods()
    pair.home.put("pods", "shop", POD)
    (line,) = await pair.disconnect(foreign=False)
    assert "farlet disconnect --node far --foreign-only" in line
    assert pair.home.content() == before.home.content()
    assert pair.foreign.find("pods", "shop-home", "web")


async def test_disconnect_without_the_home_cluster_leaves_the_foreign_cluster_as_it_was() -> None:
    before = Pair()
    pair = await connected()
    pair.run_pods()
    (line,) = await pair.disconnect(home=False)
    assert "farlet disconnect --node far --home-only" in line
    assert pair.foreign.content() == before.foreign.content()
    assert pair.home.find("virtualnodes", "farlet", "far")


async def test_another_foreign_cluster_is_refused() -> None:
    pair = await connected()
    annotations = pair.home.objects["nodes", "", "far"]["metadata"]["annotations"]
    annotations["farlet.io/foreign-cluster-uid"] = "another"
    with pytest.raises(errors.StartError, match="not the foreign cluster of the node"):
        await pair.disconnect()


async def test_a_machine_is_never_removed() -> None:
    pair = Pair()
    pair.home.put("nodes", "", {"metadata": {"name": "far"}})
    with pytest.raises(errors.StartError, match="does not belong to farlet"):
        await pair.disconnect()
    assert pair.home.find("nodes", "", "far")


async def test_pods_of_a_machine_with_the_name_of_a_virtual_node_stay() -> None:
    pair = await connected()
    pair.home.put("nodes", "", {"metadata": {"name": "far"}})
    pair.home.put("pods", "shop", {"metadata": {"name": "web"}, "spec": {"nodeName": "far"}})
    await pair.disconnect()
    assert pair.home.find("pods", "shop", "web")
    assert pair.home.find("nodes", "", "far") == pair.home.objects["nodes", "", "far"]
    assert "unschedulable" not in pair.home.objects["nodes", "", "far"].get("spec", {})
    assert pair.home.find("virtualnodes", "farlet", "far") is None


async def test_permissions_that_others_share_stay() -> None:
    """Two manually installed virtual nodes in the system namespace `farlet`."""
    pair = await connected()
    pair.home.objects["virtualnodes", "farlet", "far"]["spec"]["foreign"] = {
        "systemNamespace": "farlet"
    }
    pair.foreign.put("namespaces", "", {"metadata": {"name": "farlet"}})
    pair.foreign.put("serviceaccounts", "farlet", {"metadata": {"name": "farlet"}})
    subject = {"kind": "ServiceAccount", "name": "farlet", "namespace": "farlet"}
    binding = {"metadata": {"name": "farlet"}, "subjects": [subject]}
    pair.foreign.put("rolebindings", "shop-home", binding)
    pair.run_pods()
    (left,) = await pair.disconnect()
    assert "which other virtual nodes may still use" in left
    assert pair.foreign.find("serviceaccounts", "farlet", "farlet")
    assert pair.foreign.find("rolebindings", "shop-home", "farlet")
    assert pair.foreign.find("pods", "shop-home", "web") is None


def _manager_of_others(pair: Pair) -> None:
    containers = [{"image": "theirs:2"}]
    spec = {"template": {"spec": {"containers": containers}}}
    pair.home.put("namespaces", "", {"metadata": {"name": "farlet"}})
    manager = {"metadata": {"name": "farlet-manager"}, "spec": spec}
    pair.home.put("deployments", "farlet", manager)
    definition = {"metadata": {"name": "virtualnodes.farlet.io"}}
    pair.home.put("customresourcedefinitions", "", definition)


def _image_of_gateway(pair: Pair) -> object:
    gateway = pair.foreign.objects["deployments", "farlet-far", "farlet-gateway"]
    return gateway["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.mark.parametrize("of_others", [False, True], ids=["manager of connect", "of others"])
async def test_connect_again_without_an_image_keeps_each_image(*, of_others: bool) -> None:
    pair = Pair()
    if of_others:
        _manager_of_others(pair)
    await pair.connect()
    before = copy.deepcopy((pair.home.objects, pair.foreign.objects))
    await pair.connect(dataclasses.replace(FAR, image=""))
    assert (pair.home.objects, pair.foreign.objects) == before
    assert _image_of_gateway(pair) == "farlet:1"


def _kill_once_upgraded(pair: Pair) -> None:
    """The manager runs the new version, and the gateway does not yet."""
    controllers(pair.home)()
    if "farlet:2" in str(pair.home.objects["deployments", "farlet", "farlet-manager"]["spec"]):
        pair.process.lives = 0


async def test_an_interrupted_upgrade_continues_without_the_image() -> None:
    pair = await connected()
    pair.home.settle = lambda: _kill_once_upgraded(pair)
    with pytest.raises(Killed):
        await pair.connect(dataclasses.replace(FAR, image="farlet:2"))
    assert _image_of_gateway(pair) == "farlet:1"
    pair.process.lives, pair.home.settle = None, controllers(pair.home)
    await pair.connect(dataclasses.replace(FAR, image=""))
    assert _image_of_gateway(pair) == "farlet:2"


async def test_a_manager_of_others_is_used_and_stays() -> None:
    pair = Pair()
    _manager_of_others(pair)
    before = pair.home.content()
    await pair.connect(Connection("far", "", ("shop",)))
    assert _image_of_gateway(pair) == "theirs:2"
    (left,) = await pair.disconnect()
    assert "farlet connect did not install it" in left
    pair.home.objects["customresourcedefinitions", "", "virtualnodes.farlet.io"].pop("status")
    assert pair.home.content() == before


CAPACITY = (("cpu", "4"), ("memory", "8Gi"), ("pods", "20"))


async def test_a_capacity_needs_no_permission_to_read_nodes() -> None:
    pair = await connected()
    role = ("clusterroles", "", "farlet-far-capacity")
    assert role in pair.foreign.names()
    await pair.connect(dataclasses.replace(FAR, capacity=CAPACITY))
    left = [one for one in pair.foreign.names() if one[2] == "farlet-far-capacity"]
    assert left == []
    assert (
        "[8/9] virtual node: VirtualNode farlet/far, capacity now cpu=4,memory=8Gi,pods=20, "
        "before sum"
    ) in pair.lines


async def test_roles_of_others_stay() -> None:
    pair = await connected()
    role = pair.foreign.objects["clusterroles", "", "farlet-far-capacity"]
    role["metadata"]["labels"] = {}
    pair.foreign.denied.add(("patch", "clusterroles"))
    await pair.connect(dataclasses.replace(FAR, capacity=CAPACITY))
    assert ("clusterroles", "", "farlet-far-capacity") in pair.foreign.names()


async def test_a_cordoned_node_is_named_with_what_undoes_it() -> None:
    pair = await connected()
    pair.home.objects["nodes", "", "far"]["spec"] = {"unschedulable": True}
    await pair.connect()
    assert pair.lines[-1] == (
        "[9/9] ready: pods of the node far run in the foreign cluster, but it is cordoned: by an "
        "administrator, a drain, or a farlet disconnect that has not ended. New pods stay Pending "
        "until: kubectl --context HOME uncordon far"
    )


async def test_namespaces_of_earlier_runs_are_known() -> None:
    pair = await connected()
    assert await pair.connect(dataclasses.replace(FAR, namespaces=())) == ("shop",)


IMAGE = {
    "containerStatuses": [
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling f:1"}}}
    ]
}


def _pod(home: MemoryCluster, name: str, instance: str) -> None:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}
    pod = {"metadata": {"name": f"{name}-x", "labels": labels}, "status": IMAGE}
    home.put("pods", "farlet", pod)


async def test_an_image_that_cannot_be_pulled_is_named_with_the_pod_of_the_manager() -> None:
    pair = Pair()

    def settle() -> None:
        api_server(pair.home)
        manager = pair.home.find("deployments", "farlet", "farlet-manager")
        if manager is not None:
            manager["status"]["availableReplicas"] = 0
            if pair.home.find("pods", "farlet", "farlet-manager-x") is None:
                _pod(pair.home, "farlet-manager", "")

    pair.home.settle = settle
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(seconds=0.2)
    why = (
        "Deployment farlet/farlet-manager: 0 of 1 pods are available; pod farlet-manager-x: "
        "ImagePullBackOff: Back-off pulling f:1"
    )
    assert pair.lines.count(f"      waiting: {why}") == 1
    said = str(caught.value)
    assert said.startswith(f"manager: it is not rolled out after 0.2 s: {why}. The home cluster ")
    assert said.endswith("run the same command with --image set to its name there")


async def test_pods_are_named_while_the_manager_does_not_report() -> None:
    pair = Pair()
    pair.home.put("namespaces", "", {"metadata": {"name": "farlet"}})
    _pod(pair.home, "farlet", "far")
    pair.home.settle = lambda: api_server(pair.home)
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(seconds=0.2)
    why = "the manager has not reported yet; pod farlet-x: ImagePullBackOff: Back-off pulling f:1"
    assert f"      waiting: {why}" in pair.lines
    assert f"after 0.2 s: {why}. The home cluster cannot pull the image" in str(caught.value)


async def test_connect_stops_when_the_node_does_not_become_ready() -> None:
    pair = Pair()
    pair.home.settle = lambda: _report(pair.home)
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(seconds=0.2)
    said = str(caught.value)
    assert "ready: the VirtualNode farlet/far is not ready" in said
    assert "Broken: it is broken" in said
    assert "See `farlet status --home-context HOME`, and `kubectl --context HOME logs" in said
    assert said.endswith("Run the same command again: it continues where it stopped")


async def test_a_foreign_server_that_pods_do_not_reach_is_named_with_its_flag() -> None:
    pair = Pair()
    pair.home.settle = lambda: _report(pair.home, "ForeignUnreachable")
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(seconds=0.2)
    assert (
        "ForeignUnreachable: it is broken. Set --foreign-server to an address at which pods of the "
        f"home cluster reach the foreign API server (now {SERVER.url}). See"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "message", "named"),
    [
        pytest.param("ForeignUnauthorized", "rejected", False, id="rejected credentials"),
        pytest.param("ForeignUnreachable", "a proxy says (401)", True, id="not by its text"),
        pytest.param("NoLeader", "no ForeignUnreachable", False, id="nor by that of another"),
    ],
)
async def test_the_reason_of_a_condition_decides_whether_the_flag_is_named(
    reason: str, message: str, named: bool
) -> None:
    pair = Pair()
    pair.home.settle = lambda: _report(pair.home, reason, message)
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(seconds=0.2)
    assert ("Set --foreign-server" in str(caught.value)) is named


def _report(home: MemoryCluster, reason: str = "Broken", message: str = "it is broken") -> None:
    api_server(home)
    for (plural, _, _), obj in home.objects.items():
        if plural == "virtualnodes":
            condition = {"type": "Ready", "status": "False", "reason": reason}
            obj["status"] = {"conditions": [{**condition, "message": message}]}


def _same(pair: Pair) -> None:
    pair.foreign.objects["namespaces", "", "kube-system"]["metadata"]["uid"] = "h-kube-system"


def _machine(pair: Pair) -> None:
    pair.home.put("nodes", "", {"metadata": {"name": "far"}})


def _by_hand(pair: Pair) -> None:
    labels = {"type": "virtual-kubelet"}
    pair.home.put("nodes", "", {"metadata": {"name": "far", "labels": labels}})


def _no_namespace(pair: Pair) -> None:
    del pair.home.objects["namespaces", "", "shop"]


def _in_use(pair: Pair) -> None:
    pair.foreign.put("namespaces", "", {"metadata": {"name": "shop-home"}})
    data = {"home-id": "another", "home-namespace": "shop"}
    claim = {"metadata": {"name": "farlet-home-namespace"}, "data": data}
    pair.foreign.put("configmaps", "shop-home", claim)


def _another_home(pair: Pair) -> None:
    annotations = {"farlet.io/home-cluster-id": "another"}
    system = {"metadata": {"name": "farlet-far", "annotations": annotations}}
    pair.foreign.put("namespaces", "", system)


def _another_foreign(pair: Pair) -> None:
    metadata = {
        "name": "far",
        "labels": {"type": "virtual-kubelet"},
        "annotations": {"farlet.io/foreign-cluster-uid": "another"},
    }
    pair.home.put("nodes", "", {"metadata": metadata})
    pair.home.put("customresourcedefinitions", "", {"metadata": {"name": "virtualnodes.farlet.io"}})
    pair.home.put("namespaces", "", {"metadata": {"name": "farlet"}})
    pair.home.put("virtualnodes", "farlet", {"metadata": {"name": "far"}})


def _of_another_node(pair: Pair) -> None:
    labels = {"app.kubernetes.io/instance": "other"}
    pair.foreign.put("namespaces", "", {"metadata": {"name": "farlet-far", "labels": labels}})


def _token_of_another_node(pair: Pair) -> None:
    pair.foreign.put("namespaces", "", {"metadata": {"name": "farlet-far"}})
    labels = {"app.kubernetes.io/instance": "other"}
    binding = {"metadata": {"name": "farlet-token", "labels": labels}}
    pair.foreign.put("rolebindings", "farlet-far", binding)


def _account_by_hand(pair: Pair) -> None:
    pair.foreign.put("namespaces", "", {"metadata": {"name": "farlet-far"}})
    pair.foreign.put("serviceaccounts", "farlet-far", {"metadata": {"name": "farlet"}})


def _inventory_of_another_node(pair: Pair) -> None:
    pair.foreign.put("namespaces", "", {"metadata": {"name": "farlet-far"}})
    inventory = {"name": f"farlet-{OTHER_ID}", "labels": {"farlet.io/virtual-node-id": OTHER_ID}}
    pair.foreign.put("configmaps", "farlet-far", {"metadata": inventory})


def _manager_elsewhere(pair: Pair) -> None:
    subject = {"kind": "ServiceAccount", "name": "farlet-manager", "namespace": "platform"}
    binding = {"metadata": {"name": "farlet-manager"}, "subjects": [subject]}
    pair.home.put("clusterrolebindings", "", binding)


def _no_rights(pair: Pair) -> None:
    pair.foreign.denied.add(("create", "namespaces"))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(_same, "the foreign cluster is the home cluster", id="the same cluster"),
        pytest.param(_machine, "has a machine with the name far", id="a machine"),
        pytest.param(
            _by_hand,
            "was not installed by farlet connect.*the manager can serve it: docs/how-to/upgrade.md",
            id="a node by hand",
        ),
        pytest.param(
            _no_namespace, "kubectl --context HOME create namespace shop", id="no home namespace"
        ),
        pytest.param(
            _in_use,
            "shop-home belongs to .*set another --home-name.*"
            "kubectl --context FOREIGN delete configmap",
            id="foreign namespace in use",
        ),
        pytest.param(
            _another_home,
            "of another home cluster.*set another --home-name, and another "
            "--foreign-system-namespace if .*docs/how-to/second-home.md",
            id="another home cluster",
        ),
        pytest.param(
            _another_foreign, "belongs to another foreign cluster", id="another foreign cluster"
        ),
        pytest.param(
            _of_another_node, "belongs to the virtual node other", id="namespace of another node"
        ),
        pytest.param(
            _token_of_another_node, "belongs to the virtual node other", id="token of another node"
        ),
        pytest.param(
            _account_by_hand, "that farlet connect did not create", id="an account by hand"
        ),
        pytest.param(
            _inventory_of_another_node, "another virtual node uses", id="another inventory"
        ),
        pytest.param(
            _manager_elsewhere, "a manager in the namespace platform", id="a manager elsewhere"
        ),
        pytest.param(
            _no_rights, "the foreign cluster lack permissions: create namespaces", id="no rights"
        ),
    ],
)
async def test_checks_stop_before_anything_is_changed(prepare: object, message: str) -> None:
    pair = Pair()
    assert callable(prepare)
    prepare(pair)
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError, match=message) as caught:
        await pair.connect()
    assert "Run the same command again" not in str(caught.value)
    assert (pair.home.content(), pair.foreign.content()) == before


def _nothing_moves(_home: MemoryCluster) -> None:
    pass


def _manager_rolls_out(home: MemoryCluster) -> None:
    manager = home.objects["deployments", "farlet", "farlet-manager"]
    manager["status"]["observedGeneration"] = manager["metadata"]["generation"]


def _node_is_written(home: MemoryCluster) -> None:
    _manager_rolls_out(home)
    node = home.objects["deployments", "farlet", "farlet-far"]
    node["spec"] = deployment("farlet:2", "far")["spec"]
    node["status"]["updatedReplicas"] = 1


@pytest.mark.parametrize(
    ("settle", "message"),
    [
        pytest.param(
            _nothing_moves,
            "after 0.2 s: Deployment farlet/farlet-manager: its controller has not seen",
            id="manager",
        ),
        pytest.param(
            _manager_rolls_out,
            "farlet-far: it has the image farlet:1, not yet farlet:2",
            id="image of the node",
        ),
        pytest.param(_node_is_written, "1 of 2 pods are updated", id="pods of the node"),
    ],
)
async def test_an_upgrade_is_done_when_the_new_version_runs(
    settle: Callable[[MemoryCluster], None], message: str
) -> None:
    pair = await connected()
    pair.home.settle = lambda: settle(pair.home)
    upgrade = Connection("far", "farlet:2", ("shop",))
    with pytest.raises(errors.StartError, match=message):
        await pair.connect(upgrade, seconds=0.2)
    node = pair.home.objects["deployments", "farlet", "farlet-far"]
    node["spec"] = deployment("farlet:2", "far")["spec"]
    pair.home.settle = lambda: api_server(pair.home)
    await pair.connect(upgrade)


async def test_a_step_that_waits_forever_ends_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed_manager, "DEFINITION_SECONDS", 0.1)
    pair = Pair()
    pair.home.settle = lambda: None
    with pytest.raises(errors.StartError) as caught:
        await asyncio.wait_for(pair.connect(), 5)
    assert "manager: the home API server does not serve the definition" in str(caught.value)
    assert "kubectl --context HOME describe crd virtualnodes.farlet.io" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"identity": Identity.SERVICE_ACCOUNT},
            "its spec.identity is Node, not ServiceAccount. This field is immutable. To keep the "
            "virtual node, add --identity node; to change it, first remove it: farlet disconnect "
            "--home-context HOME --foreign-context FOREIGN --node far",
            id="identity",
        ),
        pytest.param(
            {"foreign_system": "other", "home_name": "rome"},
            "its spec.foreign.systemNamespace is farlet-far, not other, and its "
            "spec.namespaces.homeName is home, not rome. These fields are immutable. To keep "
            "the virtual node, add --foreign-system-namespace farlet-far --home-name home; ",
            id="two fields",
        ),
    ],
)
async def test_connect_refuses_another_immutable_value_before_it_changes_anything(
    changed: dict[str, Any], message: str
) -> None:
    pair = await connected()
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError) as caught:
        await pair.connect(dataclasses.replace(FAR, **changed))
    assert "checks: the VirtualNode farlet/far exists, and " in str(caught.value)
    assert message in str(caught.value)
    assert (pair.home.content(), pair.foreign.content()) == before


async def test_connect_refuses_an_endpoint_of_others_before_it_changes_anything() -> None:
    pair = await connected()
    node = pair.home.objects["virtualnodes", "farlet", "far"]
    del node["spec"]["gateway"]
    node["spec"]["homeAPIServer"] = {"host": "192.0.2.1"}
    fields: dict[str, Any] = {"f:spec": {"f:homeAPIServer": {"f:host": {}}}}
    node["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": fields}]
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError, match="kubectl-edit has set") as caught:
        await pair.connect()
    assert (
        "To keep it, leave out --gateway; to remove it: kubectl --context HOME -n farlet patch"
    ) in str(caught.value)
    assert (pair.home.content(), pair.foreign.content()) == before


async def test_a_service_account_needs_no_certificate() -> None:
    pair = Pair()
    before = pair.home.content()
    connection = Connection("far", "farlet:1", ("shop",), identity=Identity.SERVICE_ACCOUNT)

    def settle() -> None:
        _report(pair.home)
        node = pair.home.find("virtualnodes", "farlet", "far")
        if node is not None:
            node["status"]["conditions"][0]["status"] = "True"
            pair.home.put("deployments", "farlet", deployment("farlet:1", "far"))
            api_server(pair.home)

    pair.home.settle = settle
    await pair.connect(connection)
    assert ("rolebindings", "shop", "farlet-far") in pair.home.names()
    await pair.disconnect()
    assert pair.home.content() == before
