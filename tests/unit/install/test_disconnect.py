"""`farlet disconnect` where the clusters contain objects of others, or are not as expected."""

from __future__ import annotations

import pytest

from farlet import errors
from farlet.install import requests
from farlet.install.connection import Connection
from farlet.install.home_data import Volumes
from unit import examples
from unit.install.memory_cluster import Killed, MemoryCluster, Object
from unit.install.test_connect import FAR, ID, OTHER_ID, POD, Pair, connected

ELSEWHERE = Connection("far", "farlet:1", ("shop",), foreign_system="elsewhere")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(requests, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(requests, "END_SECONDS", 0.2, raising=False)


async def test_two_nodes_cannot_share_a_system_namespace() -> None:
    pair = await connected()
    before = pair.foreign.content()
    other = Connection("other", "farlet:1", ("shop",), foreign_system="farlet-far")
    with pytest.raises(errors.StartError, match="belongs to the virtual node far"):
        await pair.connect(other)
    assert pair.foreign.content() == before


async def test_a_node_whose_namespace_another_one_uses_leaves_what_both_use() -> None:
    pair = await connected()
    pair.run_pods()
    labels = {"farlet.io/virtual-node-id": OTHER_ID}
    inventory = {"metadata": {"name": f"farlet-{OTHER_ID}", "labels": labels}}
    pair.foreign.put("configmaps", "farlet-far", inventory)
    pair.foreign.put("pods", "shop-home", {"metadata": {"name": "theirs", "labels": labels}})
    left = await pair.disconnect()
    assert any("which other virtual nodes may still use" in line for line in left)
    assert pair.foreign.find("serviceaccounts", "farlet-far", "farlet")
    assert pair.foreign.find("configmaps", "farlet-far", f"farlet-{OTHER_ID}")
    assert pair.foreign.find("pods", "shop-home", "theirs")
    assert pair.foreign.find("pods", "shop-home", "web") is None


@pytest.mark.parametrize(
    ("plural", "name"),
    [
        pytest.param("deployments", "farlet-other", id="Deployment"),
        pytest.param("pods", "farlet-other-1", id="Pod"),
        pytest.param("secrets", "farlet-other-home", id="Secret"),
    ],
)
async def test_the_home_namespace_stays_with_a_node_that_was_installed_manually(
    plural: str, name: str
) -> None:
    pair = await connected()
    labels = {"app.kubernetes.io/name": "farlet", "app.kubernetes.io/instance": "other"}
    pair.home.put(plural, "farlet", {"metadata": {"name": name, "labels": labels}})
    assert await pair.disconnect() == [f"the namespace farlet: it contains {plural}/{name}"]
    assert pair.home.find(plural, "farlet", name)
    assert pair.home.find("deployments", "farlet", "farlet-manager") is None


@pytest.mark.parametrize("every", examples.each(13, "write"))
@pytest.mark.parametrize("existed", [False, True], ids=["created by connect", "existed before"])
async def test_disconnect_continues_in_a_system_namespace_of_another_name(
    *, existed: bool, every: int
) -> None:
    def site() -> Pair:
        pair = Pair()
        if existed:
            pair.foreign.put("namespaces", "", {"metadata": {"name": "elsewhere"}})
        return pair

    before, counting = site(), site()
    await counting.connect(ELSEWHERE)
    start = counting.process.writes
    await counting.disconnect()
    for count in range(0, counting.process.writes - start, every):
        pair = site()
        await pair.connect(ELSEWHERE)
        pair.process.lives = count
        with pytest.raises(Killed):
            await pair.disconnect()
        pair.process.lives = None
        await pair.disconnect()
        assert pair.foreign.content() == before.foreign.content(), count


async def test_several_system_namespaces_are_named() -> None:
    pair = await connected()
    labels = {
        "app.kubernetes.io/instance": "far",
        "app.kubernetes.io/managed-by": "farlet-connect",
    }
    for name, home_id in (("mine", "h-home"), ("theirs", "another")):
        annotations = {"farlet.io/home-cluster-id": home_id}
        metadata = {"name": name, "labels": labels, "annotations": annotations}
        pair.foreign.put("namespaces", "", {"metadata": metadata})
    del pair.home.objects["virtualnodes", "farlet", "far"]
    del pair.home.objects["nodes", "", "far"]
    with pytest.raises(errors.StartError) as caught:
        await pair.disconnect()
    assert "farlet-far, mine. Choose one with --foreign-system-namespace" in str(caught.value)


async def test_disconnect_without_the_home_cluster_needs_no_name_of_the_system_namespace() -> None:
    pair = Pair()
    await pair.connect(ELSEWHERE)
    await pair.disconnect(home=False)
    assert pair.foreign.content() == Pair().foreign.content()


async def test_revocation_reports_what_it_deleted() -> None:
    pair = await connected()
    await pair.disconnect()
    await pair.disconnect()
    first, second = [line for line in pair.lines if "revocation" in line]
    assert "deleted Secret farlet-far/farlet-token, ServiceAccount farlet-far/farlet" in first
    assert second == "[5/8] revocation: the namespace farlet-far has no ServiceAccount farlet"


def _recorded(pair: Pair) -> None:
    del pair.home.objects["nodes", "", "far"]
    pair.home.objects["virtualnodes", "farlet", "far"]["status"]["foreignCluster"] = "another"


def _empty(pair: Pair) -> None:
    del pair.home.objects["nodes", "", "far"]
    pair.foreign = MemoryCluster("foreign", uid="x", process=pair.process)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(_recorded, "not the foreign cluster of the node", id="another cluster"),
        pytest.param(_empty, "nothing of the VirtualNode far", id="an empty cluster"),
    ],
)
async def test_a_wrong_foreign_cluster_is_refused_without_a_node(
    prepare: object, message: str
) -> None:
    pair = await connected()
    assert callable(prepare)
    prepare(pair)
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError, match=message) as caught:
        await pair.disconnect()
    assert "--home-only" in str(caught.value)
    assert "--foreign-system-namespace" in str(caught.value)
    assert (pair.home.content(), pair.foreign.content()) == before


@pytest.mark.parametrize("namespace", ["shop-home", "farlet-far"], ids=["pods", "system"])
@pytest.mark.parametrize("plural", ["services", "secrets", "configmaps", "pods", "deployments"])
async def test_a_foreign_namespace_with_objects_of_others_stays(
    plural: str, namespace: str
) -> None:
    pair = await connected()
    pair.run_pods()
    pair.foreign.put(plural, namespace, {"metadata": {"name": "theirs"}})
    assert await pair.disconnect() == [
        f"the foreign namespace {namespace}: it contains {plural}/theirs"
    ]
    assert pair.foreign.find(plural, namespace, "theirs")
    names = {key for key in pair.foreign.names() if key[1] == namespace}
    assert names == {(plural, namespace, "theirs")} | (
        {("configmaps", namespace, "farlet-home-namespace")} & names
    )


BARE: Object = {"metadata": {"name": "hello"}, "spec": {"nodeName": "far"}}
FINISHED: Object = {**BARE, "status": {"phase": "Succeeded"}}
STATIC: Object = {
    "metadata": {"name": "hello", "annotations": {"kubernetes.io/config.mirror": "x"}},
    "spec": {"nodeName": "far"},
}


@pytest.mark.parametrize("foreign", [True, False], ids=["both clusters", "home only"])
async def test_pods_without_a_controller_stop_disconnect_before_it_changes_anything(
    *, foreign: bool
) -> None:
    pair = await connected()
    pair.home.put("pods", "shop", BARE)
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError) as caught:
        await pair.disconnect(foreign=foreign)
    assert "1 pod without a controller: shop/hello" in str(caught.value)
    assert "add --force" in str(caught.value)
    assert (pair.home.content(), pair.foreign.content()) == before


async def test_pods_without_a_controller_are_named_before_they_are_deleted() -> None:
    pair = await connected()
    pair.home.put("pods", "shop", BARE)
    await pair.disconnect(force=True)
    named = "      deletes 1 pod without a controller: shop/hello; they do not come back"
    drained = "[2/8] drain: 1 pod evicted (1 without a controller)"
    assert pair.lines.index(named) < pair.lines.index(drained)
    assert pair.home.find("pods", "shop", "hello") is None


async def test_the_drain_says_of_each_kind_how_many_pods_were_evicted() -> None:
    pair = await connected()
    for name, pod in {"a": BARE, "b": BARE, "c": FINISHED, "d": POD, "e": STATIC}.items():
        pair.home.put("pods", "shop", {**pod, "metadata": {**pod["metadata"], "name": name}})
    await pair.disconnect(force=True)
    kinds = "1 with a controller, 2 without a controller, 1 finished"
    assert f"[2/8] drain: 4 pods evicted ({kinds})" in pair.lines


async def test_a_pod_without_a_controller_that_comes_after_the_checks_is_not_deleted() -> None:
    pair = await connected()

    def schedule() -> None:
        """The scheduler has not seen the cordon yet."""
        if pair.home.objects["nodes", "", "far"].get("spec", {}).get("unschedulable"):
            pair.home.put("pods", "shop", BARE)

    pair.home.settle = schedule
    with pytest.raises(
        errors.StartError, match=r"drain: .* 1 pod without a controller: shop/hello"
    ):
        await pair.disconnect()
    assert pair.home.find("pods", "shop", "hello")
    assert pair.home.find("virtualnodes", "farlet", "far")


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(POD, id="controlled"),
        pytest.param(FINISHED, id="finished"),
        pytest.param(STATIC, id="static"),
    ],
)
async def test_other_pods_need_no_force(pod: Object) -> None:
    pair = await connected()
    pair.home.put("pods", "shop", pod)
    assert await pair.disconnect() == []


async def test_pods_of_a_machine_need_no_force() -> None:
    pair = await connected()
    pair.home.put("nodes", "", {"metadata": {"name": "far"}})
    pair.home.put("pods", "shop", BARE)
    await pair.disconnect()
    assert pair.home.find("pods", "shop", "hello")


def _marked(pair: Pair, home_id: str) -> None:
    pair.foreign.put("namespaces", "", {"metadata": {"name": "blog-home"}})
    data = {"home-id": home_id, "home-namespace": "blog"}
    marked = {"metadata": {"name": "farlet-home-namespace"}, "data": data}
    pair.foreign.put("configmaps", "blog-home", marked)


async def test_a_foreign_namespace_of_this_home_cluster_is_named() -> None:
    pair = await connected()
    _marked(pair, "h-home")
    (left,) = await pair.disconnect()
    assert left == (
        "the foreign namespace blog-home, which belongs to the home namespace blog (ConfigMap "
        "farlet-home-namespace): farlet connect did not create it"
    )
    assert pair.foreign.find("configmaps", "blog-home", "farlet-home-namespace")


async def test_foreign_namespaces_of_others_are_not_named() -> None:
    pair = await connected()
    _marked(pair, "another")
    assert await pair.disconnect() == []


async def test_a_namespace_that_another_node_uses_is_not_named() -> None:
    pair = await connected()
    _marked(pair, "h-home")
    labels = {"farlet.io/virtual-node-id": OTHER_ID}
    pair.foreign.put("pods", "blog-home", {"metadata": {"name": "theirs", "labels": labels}})
    assert await pair.disconnect() == []


@pytest.mark.parametrize("theirs", [False, True], ids=["empty", "with objects of others"])
async def test_a_namespace_that_farlet_created_is_found_by_its_binding(*, theirs: bool) -> None:
    pair = await connected()
    labels = {"farlet.io/created-namespace": "true"}
    pair.foreign.put("namespaces", "", {"metadata": {"name": "blog-home", "labels": labels}})
    subject = {"kind": "ServiceAccount", "name": "farlet", "namespace": "farlet-far"}
    binding = {"metadata": {"name": "farlet"}, "subjects": [subject]}
    pair.foreign.put("rolebindings", "blog-home", binding)
    if theirs:
        pair.foreign.put("services", "blog-home", {"metadata": {"name": "theirs"}})
    left = ["the foreign namespace blog-home: it contains services/theirs"] if theirs else []
    assert await pair.disconnect() == left
    assert bool(pair.foreign.find("namespaces", "", "blog-home")) is theirs
    assert pair.foreign.find("rolebindings", "blog-home", "farlet") is None


async def test_what_does_not_end_is_named_and_other_namespaces_are_removed() -> None:
    pair = Pair()
    pair.home.put("namespaces", "", {"metadata": {"name": "blog"}})
    await pair.connect(Connection("far", "farlet:1", ("blog", "shop")))
    labels = {"farlet.io/virtual-node-id": ID}
    mirror = {"name": "web", "labels": labels, "finalizers": ["example.com/hold"]}
    pair.foreign.put("pods", "blog-home", {"metadata": mirror})
    with pytest.raises(errors.StartError) as caught:
        await pair.disconnect()
    assert "namespace blog-home: in the foreign cluster, pods did not end" in str(caught.value)
    assert "blog-home/web (finalizers example.com/hold)" in str(caught.value)
    assert "kubectl --context FOREIGN get pods web -n blog-home -o yaml" in str(caught.value)
    assert pair.foreign.find("namespaces", "", "shop-home") is None
    del pair.foreign.objects["pods", "blog-home", "web"]
    assert await pair.disconnect() == []
    assert pair.foreign.content() == Pair().foreign.content()


async def test_a_namespace_that_does_not_end_is_shown_with_its_conditions() -> None:
    pair = await connected()
    namespace = pair.foreign.objects["namespaces", "", "shop-home"]
    namespace["metadata"]["finalizers"] = ["example.com/hold"]
    condition = {"status": "True", "message": "Some content in the namespace has finalizers"}
    namespace["status"] = {"conditions": [condition]}
    with pytest.raises(errors.StartError) as caught:
        await pair.disconnect()
    assert (
        "namespaces did not end in 0.2 s: shop-home (finalizers example.com/hold; Some content in "
        "the namespace has finalizers)"
    ) in str(caught.value)
    assert "kubectl --context FOREIGN get namespaces shop-home -o yaml" in str(caught.value)


@pytest.mark.parametrize("bound", [True, False], ids=["with its claim", "alone"])
async def test_home_claims_without_data_are_named(*, bound: bool) -> None:
    pair = await connected()
    claim: Object = {"metadata": {"name": "data", "uid": "c"}}
    volume: Object = {
        "metadata": {"name": "pv", "labels": {"farlet.io/virtual-node-id": ID}},
        "spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": "c"}},
    }
    if bound:
        pair.home.put("persistentvolumeclaims", "shop", claim)
        volume["metadata"]["finalizers"] = ["kubernetes.io/pv-protection"]
    pair.home.put("persistentvolumes", "", volume)
    expected = (
        "the home claim shop/data, whose data is deleted, and its PersistentVolume pv: "
        "kubectl --context HOME delete pvc data -n shop"
    )
    assert await pair.disconnect(volumes=Volumes.DELETE) == ([expected] if bound else [])


async def test_a_foreign_claim_is_awaited() -> None:
    pair = await connected()
    labels = {"farlet.io/virtual-node-id": ID}
    held = {"name": "data", "labels": labels, "finalizers": ["kubernetes.io/pvc-protection"]}
    pair.foreign.put("persistentvolumeclaims", "shop-home", {"metadata": held})
    with pytest.raises(errors.StartError, match="persistentvolumeclaims did not end"):
        await pair.disconnect(volumes=Volumes.DELETE)
    assert pair.foreign.find("namespaces", "", "shop-home")


async def test_a_definition_that_existed_before_stays() -> None:
    pair = Pair()
    definition = {"metadata": {"name": "virtualnodes.farlet.io"}}
    pair.home.put("customresourcedefinitions", "", definition)
    await pair.connect(FAR)
    await pair.connect(FAR)
    assert await pair.disconnect() == ["the definition virtualnodes.farlet.io: it existed before"]
    assert pair.home.find("customresourcedefinitions", "", "virtualnodes.farlet.io")


async def test_a_name_that_no_virtual_node_has_is_an_error_that_lists_the_others() -> None:
    pair = await connected()
    before = pair.home.content(), pair.foreign.content()
    with pytest.raises(errors.StartError, match=r"no virtual node fra.*It has: far"):
        await pair.disconnect("fra")
    assert (pair.home.content(), pair.foreign.content()) == before


async def test_a_further_run_after_the_last_one_finds_nothing() -> None:
    pair = await connected()
    await pair.disconnect()
    before = pair.home.content(), pair.foreign.content()
    assert await pair.disconnect() == []
    assert (pair.home.content(), pair.foreign.content()) == before
