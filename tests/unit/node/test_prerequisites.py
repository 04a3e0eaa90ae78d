"""What keeps a standby from leading, and what does not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from farlet import errors, settings
from farlet.constants import FOREIGN_CLUSTER, HOME_CLUSTER, JSON
from farlet.context import NotConfigured
from farlet.node import prerequisites
from farlet.settings import loading
from unit import faketime
from unit.fakeclient import FakeClient
from unit.node.harness import CAPACITY


def refusal(kind: type[errors.ApiError], code: int, at: str = "foreign") -> errors.ApiError:
    return kind(cluster=at, request="it", code=code, status_reason="", message="no")


def silence(at: str = "foreign") -> errors.Unreachable:
    return errors.Unreachable(cluster=at, request="it", cause="connection refused")


VIRTUAL: JSON = {
    "metadata": {"name": "far", "uid": "n", "labels": {"type": "virtual-kubelet"}},
    "spec": {},
}
MACHINE: JSON = {"metadata": {"name": "far", "uid": "n", "labels": {}}, "spec": {}}


@dataclass
class Cluster(FakeClient):
    """Answers by resource: an object, or an error to raise. Denies some verbs."""

    answers: dict[str, JSON | Exception] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    """Verbs; or verb and resource."""
    reviews: Exception | None = None
    seconds: float = 0.0
    requests: int = 0

    async def call(self, method: str, path: str, **_: Any) -> JSON:
        assert method == "GET", "a standby changes nothing"
        self.requests += 1
        await asyncio.sleep(self.seconds)
        found = next((a for word, a in self.answers.items() if f"/{word}" in path), {})
        if isinstance(found, Exception):
            raise found
        metadata = {"name": "a", "resourceVersion": "1", "uid": "cluster-a"}
        return {"metadata": metadata, "items": [], **found}

    async def call_unqueued(self, method: str, path: str, *, body: Any = None, **_: Any) -> JSON:
        assert (method, path.rpartition("/")[2]) == ("POST", "selfsubjectaccessreviews")
        self.requests += 1
        if self.reviews is not None:
            raise self.reviews
        asked = body["spec"]["resourceAttributes"]
        denied = {asked["verb"], f"{asked['verb']} {asked['resource']}"} & self.denied
        return {"status": {"allowed": not denied}}


def check(
    folder: Path,
    foreign: Cluster,
    home: Cluster,
    *,
    capacity: str | None = CAPACITY,
    seconds: float,
    **more: str,
) -> prerequisites.Prerequisites:
    (folder / "kubeconfig").write_text("{}")
    flags = {"nodename": "far", "foreign_kubeconfig": str(folder / "kubeconfig"), **more}
    if capacity is not None:
        flags["capacity"] = capacity
    read = loading.load(settings.Settings, flags)
    ctx = read.context(node="far", home_id="h", home_api=NotConfigured(), home_ca="")
    made = prerequisites.Prerequisites(read, home=home, foreign=foreign, ctx=lambda: ctx)

    async def main() -> None:
        task = asyncio.create_task(made.run())
        await asyncio.sleep(seconds)
        task.cancel()

    faketime.run(main())
    return made


UNAUTHORIZED = refusal(errors.Unauthorized, 401)
FORBIDDEN = refusal(errors.Forbidden, 403)
OTHER_NODE = errors.Forbidden(
    cluster="home",
    request="GET",
    code=403,
    status_reason="Forbidden",
    message='nodes "far" is forbidden: User "system:node:away" cannot get resource "nodes"',
)
OF_CONNECT = errors.Forbidden(
    cluster="foreign",
    request="GET",
    code=403,
    status_reason="Forbidden",
    message='nodes is forbidden: User "system:serviceaccount:farlet-far:farlet" cannot list '
    'resource "nodes" in API group "" at the cluster scope',
)
NOT_FOUND = refusal(errors.NotFound, 404)

REFUSED: dict[str, tuple[Cluster, Cluster, str | None, str]] = {
    "foreign credentials that are not accepted": (
        Cluster({"configmaps": UNAUTHORIZED}),
        Cluster({"nodes": VIRTUAL}),
        CAPACITY,
        "into the Secret farlet-NODE-foreign",
    ),
    "a missing Role in the system namespace": (
        Cluster({"configmaps": FORBIDDEN}),
        Cluster({"nodes": VIRTUAL}),
        CAPACITY,
        "manifests/foreign/farlet-namespace.yaml",
    ),
    "a Role that lacks verbs": (
        Cluster(denied=frozenset({"create", "patch"})),
        Cluster({"nodes": VIRTUAL}),
        CAPACITY,
        "not allowed to create or patch configmaps",
    ),
    "an unknown capacity": (
        Cluster({"nodes": FORBIDDEN}),
        Cluster({"nodes": VIRTUAL}),
        None,
        "kubectl apply -f manifests/foreign/capacity.yaml",
    ),
    "an unknown capacity of a node of farlet connect": (
        Cluster({"nodes": OF_CONNECT}),
        Cluster({"nodes": VIRTUAL}),
        None,
        "farlet connect --home-context HOME --foreign-context FOREIGN --node far (",
    ),
    "home credentials that are not accepted": (
        Cluster(),
        Cluster({"nodes": refusal(errors.Unauthorized, 401, "home")}),
        CAPACITY,
        "into the Secret farlet-NODE-home",
    ),
    "a Node that farlet cannot read": (
        Cluster(),
        Cluster({"nodes": refusal(errors.Forbidden, 403, "home")}),
        CAPACITY,
        "home API server answered 403",
    ),
    "another foreign cluster than the Node records": (
        Cluster(),
        Cluster(
            {
                "nodes": {
                    **VIRTUAL,
                    "metadata": {
                        **VIRTUAL["metadata"],
                        "annotations": {FOREIGN_CLUSTER: "cluster-b", HOME_CLUSTER: "h"},
                    },
                }
            }
        ),
        CAPACITY,
        "--adopt-foreign-cluster=cluster-a",
    ),
    "settings that map a home namespace to another foreign one than before": (
        Cluster({"configmaps": {"data": {"shop-elsewhere": "shop"}}}),
        Cluster({"nodes": VIRTUAL}),
        CAPACITY,
        "--namespace-map shop=shop-elsewhere",
    ),
    "the certificate of another node": (
        Cluster(),
        Cluster({"nodes": OTHER_NODE}),
        CAPACITY,
        "set FARLET_NODENAME=away, or create a certificate for far",
    ),
    "a Node that is a machine": (
        Cluster(),
        Cluster({"nodes": MACHINE}),
        CAPACITY,
        "is a real machine",
    ),
}


@pytest.mark.parametrize(("foreign", "home", "capacity", "says"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_keeps_a_process_from_leading(
    foreign: Cluster, home: Cluster, capacity: str | None, says: str, tmp_path: Path
) -> None:
    made = check(tmp_path, foreign, home, capacity=capacity, seconds=1)
    assert made.problem is not None
    assert says in made.problem
    assert not made.met.is_set()


CREATION = ["create namespaces", "delete namespaces", "create rolebindings", "bind clusterroles"]


@pytest.mark.parametrize("denied", CREATION)
def test_a_process_that_creates_namespaces_needs_each_permission_for_it(
    denied: str, tmp_path: Path
) -> None:
    foreign, home = Cluster(denied=frozenset({denied})), Cluster({"nodes": VIRTUAL})
    assert check(tmp_path, foreign, home, seconds=1).problem is None
    made = check(tmp_path, foreign, home, seconds=1, create_namespaces="true")
    assert made.problem is not None
    assert f"not allowed to {denied}" in made.problem
    assert "kubectl apply -k manifests/foreign/created-namespaces" in made.problem
    assert faketime.run(made.option_problem()) == made.problem, "also without an election"


@pytest.mark.parametrize("resource", ["services", "endpointslices"])
def test_a_process_that_reflects_services_needs_the_permissions_at_home(
    resource: str, tmp_path: Path
) -> None:
    home = Cluster({"nodes": VIRTUAL}, denied=frozenset({f"watch {resource}"}))
    options = {"reflect": "services", "pod_network": "connected"}
    made = check(tmp_path, Cluster(), home, seconds=1, **options)
    assert made.problem is not None
    assert f"not allowed to watch {resource}" in made.problem
    assert "kubectl apply -f manifests/home/reflected-services.yaml" in made.problem
    assert faketime.run(made.option_problem()) == made.problem


def test_a_foreign_api_server_that_is_down_is_no_obstacle_to_the_creation_of_namespaces(
    tmp_path: Path,
) -> None:
    foreign = Cluster({"": silence()}, reviews=silence())
    made = check(
        tmp_path, foreign, Cluster({"nodes": VIRTUAL}), seconds=1, create_namespaces="true"
    )
    assert made.problem is None
    assert faketime.run(made.option_problem()) is None


NO_OBSTACLE: dict[str, tuple[Cluster, Cluster]] = {
    "all is well": (Cluster(), Cluster({"nodes": VIRTUAL})),
    "foreign namespaces of an earlier process with the same settings": (
        Cluster({"configmaps": {"data": {"shop-home": "shop"}}}),
        Cluster({"nodes": VIRTUAL}),
    ),
    "the first start": (
        Cluster({"configmaps": NOT_FOUND}),
        Cluster({"nodes": refusal(errors.NotFound, 404, "home")}),
    ),
    "a foreign API server that is down": (
        Cluster({"": silence()}, reviews=silence()),
        Cluster({"nodes": VIRTUAL}),
    ),
    "a foreign API server that asks for patience": (
        Cluster({"configmaps": refusal(errors.Throttled, 429)}),
        Cluster({"nodes": VIRTUAL}),
    ),
    "a home API server that is down": (Cluster(), Cluster({"nodes": silence("home")})),
    "a cluster that allows no reviews": (
        Cluster(reviews=FORBIDDEN),
        Cluster({"nodes": VIRTUAL}),
    ),
}


@pytest.mark.parametrize("capacity", [CAPACITY, None], ids=["configured", "of foreign nodes"])
@pytest.mark.parametrize(("foreign", "home"), NO_OBSTACLE.values(), ids=NO_OBSTACLE)
def test_a_process_may_lead(
    foreign: Cluster, home: Cluster, capacity: str | None, tmp_path: Path
) -> None:
    made = check(tmp_path, foreign, home, capacity=capacity, seconds=1)
    assert made.problem is None
    assert made.met.is_set()


def test_a_server_that_hangs_is_no_obstacle_after_some_seconds(tmp_path: Path) -> None:
    slow = Cluster(seconds=3600)
    assert check(tmp_path, slow, Cluster({"nodes": VIRTUAL}), seconds=1).problem is not None
    assert check(tmp_path, slow, Cluster({"nodes": VIRTUAL}), seconds=8).problem is None


def test_a_correction_is_noticed_within_seconds_and_a_good_state_costs_few_requests(
    tmp_path: Path,
) -> None:
    class Corrected(Cluster):
        async def call(self, method: str, path: str, **_: Any) -> JSON:
            if asyncio.get_running_loop().time() < 10:
                raise UNAUTHORIZED
            return await super().call(method, path)

    assert check(tmp_path, Corrected(), Cluster({"nodes": VIRTUAL}), seconds=13).problem is None
    good = Cluster()
    check(tmp_path, good, Cluster({"nodes": VIRTUAL}), seconds=59)
    assert good.requests == 2 * (2 + 4)  # namespace and inventory, and a review per verb
