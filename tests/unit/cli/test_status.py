"""What `farlet status` says, from what was read of the home cluster."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from aiohttp import web
from click.testing import CliRunner
from rich.console import Console

from farlet import errors
from farlet.cli import json_output, main
from farlet.cli.commands import Connection
from farlet.cli.reading import ABSENT, Unread
from farlet.cli.status import causes, live, reads, report, text
from farlet.cli.status.facts import Facts, Manager, Problem, Process, Report
from farlet.constants import ObjectKey
from farlet.forge import timestamps
from farlet.gateway import port_forward
from farlet.manager import findings
from farlet.manager.findings import Finding, Reason
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.settings import StatusSettings, loading
from farlet.telemetry.state import (
    MAX_BYTES,
    Expiry,
    ForeignState,
    HomeAPIState,
    NamespaceState,
    State,
)
from unit.reconcile import apiserver

HOME = Connection("home", "home", None)
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
DAY = 86_400.0
FORBIDDEN = Unread("these credentials are not allowed to read it (403)")
LEASE: Any = {
    "spec": {"holderIdentity": "farlet-a_0f3c", "renewTime": "2026-01-02T03:04:02.000000Z"}
}
BLOG = NamespaceState(home="blog", foreign="blog-home")
BLOCKED = NamespaceState(
    home="blog", foreign="blog-home", reason="ForeignNamespaceNotFound", problem="not found"
)
LEADER = State(
    node="far",
    version="0.2.0",
    phase="serving",
    leader=True,
    home_api=HomeAPIState(state="Verified", endpoint="10.0.0.1:6443"),
    foreign=ForeignState(reachable=True, server="https://foreign:6443", cluster="c"),
    pods={"home": {"Running": 10, "Pending": 2}, "remote": {"Running": 1}},
    waiting={"KeptAtHome": 2},
    namespaces=(NamespaceState(home="shop", foreign="shop-home"), BLOG),
    expires=Expiry(
        home_credentials=NOW + 6 * DAY,
        foreign_credentials=NOW + 20 * DAY,
        serving_certificate=NOW + DAY,
        pod_token=NOW + 600,
    ),
)
STANDBY = State(
    node="far", version="0.2.0", phase="standing by", problems={"foreign": "401 Unauthorized"}
)


def _node(name: str = "far", ready: str = "True", **more: Any) -> Any:
    conditions = [
        {"type": "Ready", "status": ready, "message": "it says why"},
        {"type": "farlet.io/ForeignReachable", "status": more.pop("foreign", "True")},
    ]
    return {"metadata": {"name": name, "uid": name}, "status": {"conditions": conditions}, **more}


def _leader(**changed: Any) -> State:
    return LEADER.model_copy(update=changed)


def _process(name: str, state: State | Unread) -> Process:
    metadata: Any = {"namespace": "farlet", "name": name, "uid": name}
    return Process({"metadata": metadata, "spec": {"containers": []}}, state)


def _waiting(name: str = "web", **status: Any) -> Any:
    metadata = {"namespace": "shop", "name": name, "uid": name}
    metadata["creationTimestamp"] = "2026-01-02T03:00:00Z"
    return {"metadata": metadata, "spec": {"containers": []}, "status": status}


def _deployment(*, replicas: int = 1, available: int = 1, **status: Any) -> Any:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [{"image": "farlet:1"}]}}}
    return {"metadata": {}, "spec": spec, "status": {**counts, **status}}


def _own_pod(name: str = "farlet-manager-1", **status: Any) -> Any:
    containers = [{"name": "farlet", "image": "registry.example/farlet:0.2.0"}]
    return {
        "metadata": {"namespace": "farlet", "name": name, "uid": name},
        "spec": {"containers": containers},
        "status": status,
    }


def _facts(**more: Any) -> Facts:
    known: dict[str, Any] = {
        "nodes": [_node()],
        "leases": {"far": LEASE},
        "virtual_nodes": ABSENT,
        "processes": [_process("farlet-a", LEADER)],
        "waiting": {"far": []},
        "manager": Manager(_deployment()),
    }
    return Facts("farlet", **{**known, **more})


def _said(facts: Facts) -> str:
    return click.unstyle(text.to_text(report.report(facts, NOW, HOME)))


def test_the_whole_answer_for_a_node_with_a_leader_and_a_broken_standby() -> None:
    kept = _waiting(reason="KeptAtHome", message="the Secret key stays")
    assert _said(
        _facts(
            processes=[
                _process("farlet-a", _leader(namespaces=(LEADER.namespaces[0], BLOCKED))),
                _process("farlet-b", STANDBY),
            ],
            waiting={"far": [kept]},
        )
    ) == (
        "Virtual node far: ready, but pods of blog cannot run\n"
        "  foreign cluster  https://foreign:6443, reachable\n"
        "  home API         Verified 10.0.0.1:6443\n"
        "  leader           farlet-a, renewed 3s ago\n"
        "  process          farlet-a: serving, 0.2.0\n"
        "  process          farlet-b: standing by, 0.2.0\n"
        "  pods             home: 10 Running, 2 Pending; remote: 1 Running\n"
        "  namespace        shop -> shop-home\n"
        "  namespace        blog -> blog-home, pods wait\n"
        "  expires          home credentials in 6d\n"
        "  expires          foreign credentials in 20d\n"
        "  expires          serving certificate in 24h, renewed automatically\n"
        "  expires          pod token in 10m, renewed automatically\n"
        "  waits            KeptAtHome: 2\n"
        "    shop/web  4m  KeptAtHome: the Secret key stays\n"
        "  problem          401 Unauthorized\n"
        "    affects        farlet-b (foreign)\n"
        "  problem          not found\n"
        "    affects        namespace blog\n"
    )


CONDITION = {
    "type": "CredentialsValid",
    "status": "False",
    "reason": "ApprovalRequired",
    "message": "kubectl certificate approve x",
}
VALID = {**CONDITION, "status": "True", "reason": "Valid", "message": ""}
STATIC = {**VALID, "reason": "NotRenewed"}
EXPIRING = {**VALID, "reason": "ForeignTokenRenewalFailed", "message": "its renewal failed"}
DECLARED = {"metadata": {"name": "far"}, "status": {"conditions": [CONDITION]}}
NOT_APPLIED = {
    "metadata": {"name": "far"},
    "status": {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "InvalidSpec",
                "message": "far-a serves the node; its spec is not applied: a field is wrong",
            }
        ]
    },
}
SILENT = {
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "NoLeader",
            "message": "no farlet pod leads yet; no pod is admitted: exceeded quota",
        }
    ]
}
PULLED = _own_pod(
    containerStatuses=[
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image"}}}
    ]
)
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4"}
PULLING = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no image"}}}]


@pytest.mark.parametrize(
    ("facts", "ok", "fragments"),
    [
        pytest.param(
            _facts(nodes=[], virtual_nodes=[]), False, ("No virtual nodes of",), id="no node"
        ),
        pytest.param(
            _facts(nodes=[]),
            False,
            ("farlet is not installed in this cluster", "farlet connect --help"),
            id="no node and no definition of VirtualNode",
        ),
        pytest.param(
            _facts(
                virtual_nodes=[{"metadata": {"name": "far"}, "status": {"conditions": [VALID]}}]
            ),
            True,
            ("foreign credentials in 20d, renewed automatically\n",),
            id="credentials that the manager renews",
        ),
        pytest.param(
            _facts(
                virtual_nodes=[{"metadata": {"name": "far"}, "status": {"conditions": [STATIC]}}]
            ),
            True,
            ("home credentials in 6d, renewed automatically\n", "foreign credentials in 20d\n"),
            id="foreign credentials that the manager cannot renew",
        ),
        pytest.param(
            _facts(
                virtual_nodes=[{"metadata": {"name": "far"}, "status": {"conditions": [EXPIRING]}}]
            ),
            True,
            (
                "foreign credentials in 20d\n",
                "  problem          its renewal failed\n",
                "affects        VirtualNode CredentialsValid=True (ForeignTokenRenewalFailed)\n",
            ),
            id="credentials that the manager could not renew",
        ),
        pytest.param(
            _facts(nodes=FORBIDDEN),
            False,
            ("Not read: Nodes: these credentials",),
            id="Nodes may not be read",
        ),
        pytest.param(
            _facts(nodes=[_node(ready="False")]),
            False,
            ("far: not ready: it says why\n",),
            id="not ready",
        ),
        pytest.param(
            _facts(nodes=[], virtual_nodes=[DECLARED]),
            False,
            (
                "far: not ready: the Node does not exist",
                (
                    "kubectl certificate approve x\n"
                    "    affects        VirtualNode CredentialsValid=False (ApprovalRequired)\n"
                ),
            ),
            id="a VirtualNode without a Node",
        ),
        pytest.param(
            _facts(virtual_nodes=[NOT_APPLIED]),
            True,
            (
                (
                    "far-a serves the node; its spec is not applied: a field is wrong\n"
                    "    affects        VirtualNode Ready=True (InvalidSpec)\n"
                ),
            ),
            id="a VirtualNode whose present spec is not applied",
        ),
        pytest.param(
            _facts(nodes=[_node(spec={"unschedulable": True})]),
            False,
            (
                (
                    "far: not ready: an administrator, a drain or an unfinished farlet disconnect "
                    "has cordoned it. To let it take pods again: kubectl --context home uncordon "
                    "far\n"
                ),
            ),
            id="cordoned by an administrator",
        ),
        pytest.param(
            _facts(
                virtual_nodes=[{"metadata": {"name": "far"}, "status": SILENT}],
                processes=FORBIDDEN,
            ),
            False,
            (
                "far: not ready: the VirtualNode has Ready=False (NoLeader)\n",
                (
                    "no farlet pod leads yet; no pod is admitted: exceeded quota\n"
                    "    affects        VirtualNode Ready=False (NoLeader)\n"
                ),
            ),
            id="a VirtualNode that is not ready, and no newer report",
        ),
        pytest.param(
            _facts(
                processes=[Process(PULLED, Unread("the pod is Pending"))],
                leases={"far": ABSENT},
            ),
            False,
            (
                "farlet-manager-1\n",
                (
                    "ImagePullBackOff: no image. The home cluster cannot pull the image "
                    "registry.example/farlet:0.2.0: push it to a registry that both clusters can "
                    "pull from, and run farlet connect again with --image\n"
                ),
            ),
            id="a farlet whose image cannot be pulled",
        ),
        pytest.param(
            _facts(processes=[]),
            True,
            (
                "leader           farlet-a, renewed 3s ago\n",
                "not read",
                "no pod in the namespace farlet leads",
            ),
            id="farlet runs elsewhere",
        ),
        pytest.param(
            _facts(processes=[_process("farlet-a", FORBIDDEN)]),
            True,
            ("not read         state of farlet-a: these credentials",),
            id="no access to the state",
        ),
        pytest.param(
            _facts(processes=FORBIDDEN, leases={"far": FORBIDDEN}, waiting={"far": FORBIDDEN}),
            True,
            ("Not read: farlet pods in farlet", "the Lease: these", "pods that wait: these"),
            id="little may be read",
        ),
        pytest.param(
            _facts(
                waiting={
                    "far": [
                        _waiting("a", conditions=[UNPLACED]),
                        _waiting("b", containerStatuses=PULLING),
                        _waiting("c"),
                    ]
                }
            ),
            True,
            (
                "shop/a  4m  Unschedulable: 0/4\n",
                "shop/b  4m  ImagePullBackOff: no image\n",
                "shop/c  4m  no reason on the pod: see farlet explain shop/c --home-context home\n",
            ),
            id="reasons of the foreign cluster",
        ),
        pytest.param(
            _facts(
                nodes=[_node(), _node("near")],
                processes=[
                    _process("farlet-a", LEADER),
                    _process("farlet-b", LEADER.model_copy(update={"node": "near"})),
                ],
            ),
            True,
            ("process          farlet-a: serving, 0.2.0\n", "\n\nVirtual node near: ready\n"),
            id="two nodes",
        ),
    ],
)
def test_each_situation_is_shown(facts: Facts, ok: bool, fragments: tuple[str, ...]) -> None:
    assert report.report(facts, NOW, HOME).ok is ok
    said = _said(facts)
    for fragment in fragments:
        assert fragment in said, said


UNNAMED = errors.credentials_rejected("foreign", "Unauthorized")
REVOKED = errors.with_secret(UNNAMED, "foreign", "mine").replace("context HOME", "context home")


def _revoked() -> Facts:
    """What the home cluster contains after the foreign token was revoked."""
    foreign = ForeignState(
        reason="ForeignUnauthorized", problem=UNNAMED, server="https://foreign:6443"
    )
    blocked = NamespaceState(
        home="shop", foreign="shop-home", reason="ForeignUnauthorized", problem=UNNAMED
    )
    leader = LEADER.model_copy(
        update={"foreign": foreign, "problems": {"foreign": UNNAMED}, "namespaces": (blocked,)}
    )
    standby = STANDBY.model_copy(update={"problems": {"started": UNNAMED, "foreign": UNNAMED}})
    node = _node(spec={"unschedulable": True}, foreign="False")
    node["metadata"]["annotations"] = {"farlet.io/cordoned": "foreign-unreachable"}
    node["status"]["conditions"][1] |= {"reason": "ForeignUnauthorized", "message": UNNAMED}
    ready = f"farlet-a serves the node, but foreign: {REVOKED}; farlet-b cannot lead: {REVOKED}"
    reported = (
        ("Ready", "Unhealthy", ready),
        ("ForeignReachable", "ForeignUnauthorized", REVOKED),
        (
            "CredentialsValid",
            "ForeignCredentialsRejected",
            findings.condition(
                [
                    Finding("True", Reason.VALID, "the client certificate is valid"),
                    Finding("False", Reason.FOREIGN_CREDENTIALS_REJECTED, REVOKED),
                ]
            ).message,
        ),
    )
    conditions = [
        {"type": kind, "status": "False", "reason": reason, "message": message}
        for kind, reason, message in reported
    ]
    declared = {
        "metadata": {"name": "far"},
        "spec": {"foreign": {"kubeconfigSecret": {"name": "mine"}}},
        "status": {"conditions": conditions},
    }
    return _facts(
        nodes=[node],
        virtual_nodes=[declared],
        processes=[_process("farlet-a", leader), _process("farlet-b", standby)],
        waiting={"far": [_waiting(reason="ForeignUnauthorized", message=UNNAMED)]},
    )


def test_a_revoked_token_is_printed_once_with_all_that_it_affects() -> None:
    assert not report.report(_revoked(), NOW, HOME).ok
    said = _said(_revoked())
    assert said.startswith(
        "Virtual node far: not ready: farlet-a serves it with failing checks: foreign; farlet has "
        "cordoned it, since the foreign API server does "
        "not serve farlet. farlet uncordons it as soon as that is over\n"
        "  foreign cluster  https://foreign:6443, not reachable (ForeignUnauthorized)\n"
    )
    assert said.endswith(
        "    shop/web  4m  ForeignUnauthorized\n"
        f"  problem          {REVOKED}\n"
        "    affects        farlet-a (foreign), farlet-b (started), farlet-b (foreign), foreign "
        "cluster, Node farlet.io/ForeignReachable=False (ForeignUnauthorized), VirtualNode "
        "Ready=False (Unhealthy), VirtualNode ForeignReachable=False (ForeignUnauthorized), "
        "VirtualNode CredentialsValid=False (ForeignCredentialsRejected), namespace shop\n"
    )


def test_a_command_in_a_problem_is_not_cut() -> None:
    denial = (
        'pods is forbidden: User "system:serviceaccount:farlet-far:farlet" cannot list resource '
        f'"pods" in API group "" in the namespace "shop-home": {"x" * 800}'
    )
    refused = api_refusals.of(
        errors.Forbidden(
            cluster="foreign", request="", code=403, status_reason="Forbidden", message=denial
        ),
        step=Step.NAMESPACE,
        home="shop",
    )
    assert refused is not None
    namespace = NamespaceState(home="shop", foreign="shop-home", problem=refused.message)
    leader = LEADER.model_copy(update={"namespaces": (namespace,)})
    said = _said(_facts(processes=[_process("farlet-a", leader)]))
    assert "--node far --namespace shop (" in said
    assert "...\n" in said


def test_a_pod_that_cannot_show_its_reason_has_that_of_its_namespace() -> None:
    fix = "kubectl create rolebinding farlet-far -n shop"
    namespace = NamespaceState(
        home="shop", foreign="", reason="HomeNamespaceForbidden", problem=fix
    )
    leader = LEADER.model_copy(update={"namespaces": (namespace,)})
    said = _said(
        _facts(processes=[_process("farlet-a", leader)], waiting={"far": [_waiting("silent")]})
    )
    assert "  namespace        shop -> none, pods wait\n" in said
    assert "    shop/silent  4m  HomeNamespaceForbidden\n" in said
    assert f"  problem          {fix}\n    affects        namespace shop\n" in said


STALE = {"spec": {**LEASE["spec"], "renewTime": "2026-01-02T03:00:00Z", "leaseDurationSeconds": 15}}
UNSERVED = (
    "Virtual node far: not ready: no farlet serves it: its Lease, which lasts 15s, was renewed 4m "
    "ago, by farlet-a"
)


def _stopped(**more: Any) -> Facts:
    """No farlet runs, and the Node still shows Ready."""
    declared = {"metadata": {"name": "far"}, "status": {"conditions": [VALID]}}
    return _facts(
        **{"processes": [], "leases": {"far": STALE}, "virtual_nodes": [declared], **more}
    )


def _named(name: str, **counts: int) -> Any:
    labels = {"app.kubernetes.io/instance": "far"}
    return {**_deployment(**counts), "metadata": {"name": name, "labels": labels}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            _stopped(
                deployments=[_named("farlet-far", replicas=0, available=0)],
                manager=Manager(_deployment(replicas=0, available=0)),
            ),
            "; the Deployment farlet/farlet-far is scaled to 0. The manager restores it once it "
            "runs. To start the manager: kubectl --context home scale deployment -n farlet "
            "farlet-manager --replicas 1\n",
            id="both are scaled to 0",
        ),
        pytest.param(
            _stopped(deployments=[_named("farlet-far", replicas=0, available=0)]),
            "; the Deployment farlet/farlet-far is scaled to 0. The manager restores it\n",
            id="the manager runs",
        ),
        pytest.param(
            _stopped(manager=Manager(_deployment(available=0), [PULLED])),
            "; the Deployment farlet/farlet-far does not exist. The manager restores it once it "
            "runs: see its problem above\n",
            id="no Deployment, and the manager cannot run",
        ),
        pytest.param(
            _stopped(deployments=[_named("mine", replicas=0, available=0)], virtual_nodes=ABSENT),
            "; the Deployment farlet/mine is scaled to 0. To start it: kubectl --context home "
            "scale deployment -n farlet mine --replicas 1\n",
            id="installed by hand",
        ),
        pytest.param(
            _stopped(deployments=[_named("farlet-far", available=0)]),
            "; the Deployment farlet/farlet-far: 0 of 1 pods are available. See kubectl --context "
            "home logs -n farlet deployment/farlet-far\n",
            id="its pods do not run",
        ),
        pytest.param(_stopped(virtual_nodes=ABSENT), "\n", id="farlet ran elsewhere"),
        pytest.param(_stopped(deployments=FORBIDDEN), "\n", id="the Deployment cannot be read"),
    ],
)
def test_a_node_without_a_farlet_is_not_ready_although_the_node_shows_it(
    facts: Facts, expected: str
) -> None:
    said = _said(facts)
    assert f"{UNSERVED}{expected}" in said
    assert "  leader           none, Lease renewed 4m ago\n" in said
    assert not report.report(facts, NOW, HOME).ok


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        pytest.param(ABSENT, "no farlet serves it: it has no Lease\n", id="no Lease"),
        pytest.param(
            {"spec": {"holderIdentity": "", "renewTime": LEASE["spec"]["renewTime"]}},
            "no farlet serves it: the last one has released its Lease\n",
            id="released",
        ),
    ],
)
def test_a_lease_without_a_holder_is_that_of_no_farlet(lease: Any, expected: str) -> None:
    facts = _stopped(leases={"far": lease}, virtual_nodes=ABSENT)
    assert f"Virtual node far: not ready: {expected}" in _said(facts)


def test_a_process_that_leads_refutes_an_old_lease() -> None:
    """The clocks of the two machines can differ."""
    assert _said(_facts(leases={"far": STALE})).startswith("Virtual node far: ready\n")


def test_without_a_farlet_a_pod_that_waits_does_not_lead_to_explain_and_back() -> None:
    said = _said(_stopped(waiting={"far": [_waiting("new")]}))
    assert "    shop/new  4m  no reason on the pod: no farlet serves its node\n" in said


FAILED = {"status": "False", "message": "connection refused"}
OLD = [
    {"type": "Ready", **FAILED, "reason": "NoLeader"},
    {"type": "ForeignReachable", **FAILED, "reason": "ForeignUnreachable"},
    {"type": "HomeAPIReachable", **FAILED, "reason": "HomeAPIUnreachable"},
]


def test_what_is_over_is_no_problem() -> None:
    """Conditions are older than what the process reports now."""
    node = _node(foreign="False")
    node["status"]["conditions"][1] |= {"reason": "ForeignUnreachable", "message": "refused"}
    declared = {"metadata": {"name": "far"}, "status": {"conditions": OLD}}
    found = report.report(_facts(nodes=[node], virtual_nodes=[declared]), NOW, HOME)
    (one,) = found.nodes
    assert (one.ready, one.message, one.problems) == (True, "", ())


def test_a_process_that_starts_reports_no_problems_yet() -> None:
    waits = {"started": "starting", "home": "not started", "node": "not started"}
    state = LEADER.model_copy(update={"phase": "starting", "problems": waits})
    (one,) = report.report(_facts(processes=[_process("farlet-a", state)]), NOW, HOME).nodes
    assert (one.ready, one.message) == (False, "farlet-a is starting")
    assert one.problems == ()


def test_a_namespace_whose_pods_cannot_run_is_in_the_headline() -> None:
    facts = _facts(processes=[_process("farlet-a", _leader(namespaces=(BLOCKED,)))])
    assert _said(facts).startswith("Virtual node far: ready, but pods of blog cannot run\n")
    found = report.report(facts, NOW, HOME)
    assert (found.ok, found.nodes[0].ready, found.nodes[0].blocked) == (False, True, ("blog",))


def test_the_reason_of_a_namespace_is_printed_once() -> None:
    """The message of a pod names its home namespace, that of the namespace does not."""
    waiting = _waiting(reason="ForeignNamespaceNotFound", message="not found, for shop")
    waiting["metadata"]["namespace"] = "blog"
    leader = _process("farlet-a", _leader(namespaces=(BLOCKED,)))
    said = _said(_facts(processes=[leader], waiting={"far": [waiting]}))
    assert "    blog/web  4m  ForeignNamespaceNotFound\n" in said


def test_without_the_manager_only_tokens_of_pods_are_renewed() -> None:
    declared = {"metadata": {"name": "far"}, "status": {"conditions": [VALID]}}
    stopped = Manager(_deployment(replicas=0, available=0))
    said = _said(_facts(virtual_nodes=[declared], manager=stopped))
    assert said.count("renewed automatically") == 1
    assert "pod token in 10m, renewed automatically\n" in said


def test_conditions_of_a_manager_that_does_not_run_are_old() -> None:
    declared = {"metadata": {"name": "far"}, "status": {"conditions": [CONDITION]}}
    stopped = Manager(_deployment(replicas=0, available=0))
    said = _said(_facts(virtual_nodes=[declared], manager=stopped))
    assert (
        "VirtualNode CredentialsValid=False (ApprovalRequired), reported before the manager "
        "stopped\n"
    ) in said


def test_credentials_that_are_not_accepted_do_not_expire_later() -> None:
    said = _said(_revoked())
    assert "  expires          foreign credentials: the API server does not accept them\n" in said
    assert "foreign credentials in" not in said


def test_commands_of_farlet_get_the_context_of_the_home_cluster() -> None:
    fix = api_refusals.preparation("shop-home", system="farlet-far", home="shop")
    blocked = BLOCKED.model_copy(update={"problem": fix})
    said = _said(_facts(processes=[_process("farlet-a", _leader(namespaces=(blocked,)))]))
    assert "farlet connect --home-context home --foreign-context FOREIGN --node far" in said


EXITED: Any = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {}}
EXITED["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "message": "farlet: no"}}


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        pytest.param(Manager(_deployment()), "", id="it runs"),
        pytest.param(
            Manager(ABSENT),
            "the manager is not installed: the Deployment farlet/farlet-manager does not exist. "
            "Run farlet connect again with the same flags, or install the manager "
            "(docs/how-to/manager.md)",
            id="it is not installed",
        ),
        pytest.param(
            Manager(_deployment(available=0), [PULLED]),
            "farlet-manager-1: ImagePullBackOff: no image. The home cluster cannot pull the image "
            "registry.example/farlet:0.2.0: push it to a registry that both clusters can pull "
            "from, and run farlet connect again with --image",
            id="its image cannot be pulled",
        ),
        pytest.param(
            Manager(_deployment(available=0), [_own_pod(containerStatuses=[EXITED])]),
            "farlet-manager-1: CrashLoopBackOff, exit code 1: no. For its last lines: kubectl "
            "--context home logs -n farlet farlet-manager-1 --previous",
            id="it crashes",
        ),
        pytest.param(
            Manager(_deployment(available=0), [_own_pod(conditions=[UNPLACED])]),
            "farlet-manager-1: Unschedulable: 0/4. For its Events: kubectl --context "
            "home describe pod -n farlet farlet-manager-1",
            id="no home node has space",
        ),
        pytest.param(
            Manager(_deployment(replicas=0, available=0)),
            "the manager does not run: the Deployment farlet/farlet-manager is scaled to 0. To "
            "start it: kubectl --context home scale deployment -n farlet farlet-manager --replicas "
            "1",
            id="it is scaled to 0",
        ),
        pytest.param(
            Manager(_deployment(available=0), [_own_pod(phase="Running")]),
            "the manager is not ready: Deployment farlet/farlet-manager: 0 of 1 pods are "
            "available. See kubectl --context home logs -n farlet "
            "deployment/farlet-manager, and kubectl --context home describe deployment -n farlet "
            "farlet-manager",
            id="it is not ready",
        ),
    ],
)
def test_a_manager_that_does_not_run_is_explained(manager: Manager, expected: str) -> None:
    found = report.report(_facts(nodes=[], virtual_nodes=[], manager=manager), NOW, HOME)
    assert "".join(found.manager_problems) == expected
    said = click.unstyle(text.to_text(found))
    assert ("Manager: " in said) is bool(expected)
    assert "To create one, or to continue where farlet connect stopped: run it again" in said


@pytest.mark.parametrize("virtual_nodes", [ABSENT, [], FORBIDDEN])
def test_nodes_that_were_installed_by_hand_need_no_manager(virtual_nodes: Any) -> None:
    facts = _facts(manager=Manager(ABSENT), virtual_nodes=virtual_nodes)
    assert report.report(facts, NOW, HOME).manager_problems == ()


def test_causes_that_several_conditions_join_are_told_apart() -> None:
    found = causes.Causes()
    found.add("farlet-a (home)", "timeout")
    found.add("farlet-b (started)", "the token; it has expired")
    joined = "farlet-a serves the node, but home: timeout; farlet-b cannot lead: the token; it has"
    found.add("Ready", f"{joined} expired; a timeout of others; new")
    assert found.problems() == (
        Problem("timeout", ("farlet-a (home)", "Ready")),
        Problem("the token; it has expired", ("farlet-b (started)", "Ready")),
        Problem("a timeout of others; new", ("Ready",)),
    )


def test_problems_beyond_the_bounds_are_counted() -> None:
    found = causes.Causes()
    for number in range(causes.PROBLEMS + 2):
        found.add("namespace a", f"problem {number}")
    for number in range(causes.PLACES + 2):
        found.add(f"namespace {number}", "problem 0")
    first, *_, last = found.problems()
    assert (len(first.affects), first.affects[-1]) == (causes.PLACES + 1, "and 3 more")
    assert last == Problem("and 2 more", ())
    assert len(found.problems()) == causes.PROBLEMS + 1


def test_nodes_that_could_not_be_read_are_not_denied() -> None:
    assert "No virtual nodes" not in _said(_facts(nodes=FORBIDDEN))


def test_what_expires_within_two_days_is_coloured() -> None:
    said = text.to_text(report.report(_facts(), NOW, HOME))
    assert "\x1b[33mserving certificate in 24h" in said
    assert "expires          pod token in 10m" in said


def test_texts_from_outside_are_bounded_and_fit_for_terminals() -> None:
    hostile = "\x1b[2J\x9b\u202e" + "y" * 900
    states = LEADER.model_copy(
        update={
            "problems": {f"{hostile}{n}": hostile for n in range(500)},
            "waiting": {f"{hostile}{n}": 1 for n in range(500)},
            "pods": {hostile: {hostile: 1}},
            "namespaces": (NamespaceState(home=hostile, foreign=hostile),) * 200,
        }
    )
    facts = _facts(
        processes=[_process("farlet-a", states)] * 100,
        waiting={"far": [_waiting(reason=hostile, message=hostile)] * 200},
    )
    found = report.report(facts, NOW, HOME)
    said = click.unstyle(text.to_text(found)) + json_output.to_json(found)
    assert not {char for char in said if not char.isprintable() and char != "\n"}
    assert len(said) < 500_000


# --- the command, against a server ----------------------------------------------------------------


@dataclass
class _Forward:
    """A port-forward to a server of the test."""

    socket: socket.socket
    kubelet_error: str | None = f"error forwarding port: {'netns ' * 100}: connection refused"


POD = {
    "metadata": {"namespace": "farlet", "name": "farlet-a", "uid": "p"},
    "spec": {"containers": []},
    "status": {"phase": "Running"},
}
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


async def _status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes) -> Any:
    """The answer of the command; `says` is what the farlet pod writes on its port."""
    listed = {"/api/v1/nodes": [_node()], "/api/v1/namespaces/farlet/pods": [POD]}
    listed["/api/v1/pods"] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path in listed:
            metadata, items = {"resourceVersion": "1"}, listed[request.path]
            return web.json_response({"kind": "List", "metadata": metadata, "items": items})
        if request.path.startswith("/apis/coordination.k8s.io/"):
            spec = {**LEASE["spec"], "renewTime": timestamps.rfc3339(time.time())}
            whole = {"apiVersion": "v1", "kind": "Lease", "metadata": {"name": "far", "uid": "l"}}
            return web.json_response({**whole, "spec": spec})
        return await apiserver.status(404)(request)

    @contextlib.asynccontextmanager
    async def opened(_home: object, pod: ObjectKey, port: int) -> AsyncIterator[_Forward]:
        assert (pod, port) == (ObjectKey("farlet", "farlet-a"), 8081)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        _, writer = await asyncio.open_connection(sock=theirs)
        writer.write(says)
        writer.write_eof()
        try:
            yield _Forward(ours)
        finally:
            writer.transport.abort()

    monkeypatch.setattr(port_forward, "opened", opened)
    async with apiserver.listening() as home:
        home.answer = answer
        path = apiserver.kubeconfig(tmp_path / "home", home.url)
        words = ("status", "--kubeconfig", str(path), "-o", "json")
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, words)
    assert result.exit_code == 0, result.output
    (node,) = json.loads(result.stdout)["nodes"]
    return node


async def test_a_cluster_without_the_definition_of_virtual_nodes_is_no_error(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/apis/farlet.io/"):
            return web.Response(status=404, text="404 page not found\n")
        metadata = {"resourceVersion": "1"}
        return web.json_response({"kind": "List", "metadata": metadata, "items": []})

    async with apiserver.listening() as home:
        home.answer = answer
        path = apiserver.kubeconfig(tmp_path / "home", home.url)
        words = ("status", "--kubeconfig", str(path))
        result = await asyncio.to_thread(CliRunner().invoke, main.cli, words)
    assert result.exit_code == 1
    assert result.stdout == (
        "No virtual nodes: farlet is not installed in this cluster, which has no definition of "
        "VirtualNode. To install it: farlet connect --help\n"
    )


async def test_the_command_reads_nodes_leases_and_the_state_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await _status(tmp_path, monkeypatch, OK + LEADER.model_dump_json().encode())
    assert (node["leader"], node["pods"]["home"]["Running"]) == ("farlet-a", 10)
    assert node["not_read"] == []
    assert node["ready"]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        pytest.param(
            b"",
            "port 8081: connection refused: its process starts, or has ended",
            id="nothing listens",
        ),
        pytest.param(b"SSH-2.0-x\r\n", "port 8081: ", id="another protocol"),
        pytest.param(
            OK.replace(b"200 OK", b"404 No"), "something other than a state", id="an old version"
        ),
        pytest.param(OK + b"{}", "something other than a state", id="another document"),
        pytest.param(OK + b"x" * (MAX_BYTES + 1), "something other than a state", id="too long"),
    ],
)
async def test_a_process_that_does_not_report_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, why: str
) -> None:
    node = await _status(tmp_path, monkeypatch, says)
    assert node["pods"] is None
    assert node["not_read"][0].startswith("state of farlet-a: ")
    assert why in node["not_read"][0]


@pytest.mark.parametrize("more", [(), ("-o", "json")])
def test_watching_requires_a_terminal(more: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main.cli, ["status", "--watch", *more])
    assert result.exit_code == 2
    assert "--watch writes only text, and only to a terminal" in result.stderr


async def test_a_watched_status_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = iter([report.report(_facts(), NOW, HOME), report.report(_facts(nodes=[]), NOW, HOME)])
    out, drawn = io.StringIO(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def connected(_settings: StatusSettings) -> AsyncIterator[None]:
        yield

    async def status(_home: None, _settings: StatusSettings) -> Report:
        for one in reports:
            return one
        drawn.set()
        return await asyncio.Future[Report]()

    monkeypatch.setattr(reads, "connected", connected)
    monkeypatch.setattr(reads, "status", status)
    monkeypatch.setattr(live, "SECONDS", 0.01)
    console = Console(file=out, force_terminal=True, width=200, height=40, highlight=False)
    watching = asyncio.create_task(live.watch(loading.load(StatusSettings, {}), console))
    async with asyncio.timeout(10):
        await drawn.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    shown = out.getvalue()
    assert "https://foreign:6443, reachable" in shown
    assert "No virtual nodes" in shown
    assert shown.endswith("\x1b[?25h\x1b[?1049l")  # the terminal is as it was
