"""What `farlet explain` says, from what was read of both clusters."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from farlet import errors
from farlet.cli import json_output
from farlet.cli.commands import Connection
from farlet.cli.explain import drafts, report, text, virtual_nodes
from farlet.cli.explain.facts import Facts, Requirement
from farlet.cli.reading import ABSENT, Unread
from farlet.constants import (
    ACCESS,
    CORDONED,
    FOREIGN_CLUSTER,
    HOME_NAMESPACE,
    HOME_UID,
    VIRTUAL_NODE_ID,
    ObjectKey,
    Reason,
)
from farlet.context import Context, NamespaceMap
from farlet.forge import copies, mirror_event
from farlet.forge.references import Kind
from farlet.manager.virtual_node import Spec
from farlet.planning import api_refusals
from farlet.telemetry.state import ForeignState, HomeAPIState, NamespaceState, State

AT_HOME = Connection("home", "home", None)
AWAY = Connection("foreign", "foreign", None)
NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
KEY = ObjectKey("shop", "web")
NODE: dict[str, Any] = {
    "metadata": {"name": "far", "uid": "n", "annotations": {FOREIGN_CLUSTER: "c"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
FORBIDDEN = Unread("these credentials are not allowed to read it (403)")
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x:1"}}


def _pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "web",
            "uid": "h",
            "creationTimestamp": "2026-01-02T03:00:00Z",
        },
        "spec": {"nodeName": "far", "containers": [{"name": "app", "image": "x:1"}]},
        "status": {"phase": "Pending", **status},
    }


BY_HAND = Context(node="far", home_id="h", namespaces=NamespaceMap(home="home", own="farlet"))
CONNECTED = Context(node="far", home_id="h", namespaces=NamespaceMap(home="home", own="farlet-far"))
FILES = copies.copy_name(copies.Source(Kind.CONFIG_MAP, "shop", "files"), BY_HAND)
MISSING = f'configmap "{FILES}" not found'


def _with_volume() -> dict[str, Any]:
    pod = _pod()
    pod["spec"]["volumes"] = [{"name": "files", "configMap": {"name": "files"}}]
    return pod


def _mirror(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop-home",
            "name": "web",
            "uid": "m",
            "labels": {VIRTUAL_NODE_ID: "v"},
            "annotations": {HOME_NAMESPACE: "shop", HOME_UID: "h", ACCESS: "home"},
        },
        "spec": {"nodeName": "worker-3", "containers": []},
        "status": {"phase": "Pending", "containerStatuses": list(containers), **status},
    }


def _container(state: Any, *, restarts: int = 0, last: Any = None) -> dict[str, Any]:
    return {
        "name": "app",
        "image": "x:1",
        "ready": False,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def _event(reason: str, message: str, at: str, *, pod: str = "m", **more: Any) -> dict[str, Any]:
    about = {"kind": "Pod", "uid": pod}
    metadata = {"name": f"web.{reason}", "namespace": "x", "uid": f"e-{reason}"}
    return {
        "metadata": metadata,
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        **more,
    }


def _facts(pod: Any, **more: Any) -> Facts:
    known = {"node": NODE, "foreign_namespace": "shop-home", "mirror": ABSENT, "namespace": {}}
    return Facts(KEY, pod, mode="home", virtual_node_id="v", **{**known, **more})


def _said(facts: Facts) -> str:
    return text.to_text(report.report(facts, NOW, AT_HOME, AWAY))


def test_the_whole_answer_for_a_pod_whose_image_cannot_be_pulled() -> None:
    foreign = [
        _event("Scheduled", "Successfully assigned shop-home/web to worker-3", at)
        for at in ("2026-01-02T03:00:01Z",)
    ]
    foreign += [
        _event("Failed", "Failed to pull image", "2026-01-02T03:00:09Z", type="Warning", count=3)
    ]
    home = [_event("Scheduled", "assigned shop/web to far", "2026-01-02T03:00:00Z", pod="h")]
    assert _said(
        _facts(
            _pod(),
            mirror=_mirror(_container(PULL)),
            requirements=(
                Requirement("ConfigMap", "settings", "ok", "copied to settings-1a"),
                Requirement("Secret", "key", "missing", "in the home namespace shop"),
            ),
            home_events=home,
            foreign_events=foreign,
        )
    ) == (
        "Pod shop/web\n"
        "  phase        Pending\n"
        "  age          4m\n"
        "  access mode  home\n"
        "  node         far (ready)\n"
        "Requirements\n"
        "  ok       ConfigMap settings  copied to settings-1a\n"
        "  missing  Secret key  in the home namespace shop\n"
        "Mirror in the foreign cluster\n"
        "  namespace  shop-home\n"
        "  pod        web\n"
        "  phase      Pending\n"
        "  node       worker-3\n"
        "Containers\n"
        "  app: waiting, ImagePullBackOff: Back-off pulling image x:1; image x:1\n"
        "Events of both clusters\n"
        "  2026-01-02T03:00:00Z  home     Normal   Scheduled: assigned shop/web to far\n"
        "  2026-01-02T03:00:01Z  foreign  Normal   Scheduled: Successfully assigned shop-home/web "
        "to worker-3\n"
        "  2026-01-02T03:00:09Z  foreign  Warning  Failed (x3): Failed to pull image\n"
        "What to do\n"
        "  - Container app: The nodes of the foreign cluster pull the image: check its name and "
        "tag, imagePullSecrets, and that these nodes reach the registry.\n"
        "  - Create Secret key: in the home namespace shop\n"
    )


UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available"}
NO_NODE = {"metadata": _pod()["metadata"], "spec": {"containers": []}}
NO_NODE["status"] = {"phase": "Pending", "conditions": [UNPLACED]}
RUNNING = {"running": {"startedAt": "2026-01-02T03:01:00Z"}}
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-02T03:03:00Z"}}
NOT_READY = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}
LOOP = {"waiting": {"reason": "CrashLoopBackOff"}}


TAINT = {"key": "farlet.io/virtual-node", "effect": "NoSchedule"}
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
REVOKED = errors.credentials_rejected("foreign", "Unauthorized", node="far")


def _unbound(**spec: Any) -> dict[str, Any]:
    tolerations = [{"key": "farlet.io/virtual-node", "operator": "Exists"}]
    return {**NO_NODE, "spec": {"containers": [], "tolerations": tolerations, **spec}}


def _far(*, cordoned: str | None = None, ready: str = "True", **spec: Any) -> dict[str, Any]:
    """The virtual node `far`."""
    annotations = {FOREIGN_CLUSTER: "c"}
    if cordoned:
        annotations[CORDONED] = cordoned
    failed = {"type": "farlet.io/ForeignReachable", "status": "False", "message": REVOKED}
    conditions = [{"type": "Ready", "status": ready, "message": "Kubelet stopped posting"}]
    return {
        "metadata": {
            "name": "far",
            "uid": "n",
            "annotations": annotations,
            "labels": {"kubernetes.io/hostname": "far"},
        },
        "spec": {"taints": [TAINT, UNSCHEDULABLE], **spec},
        "status": {"conditions": [*conditions, failed]},
    }


def _meant(node: dict[str, Any], pod: dict[str, Any], **more: Any) -> Facts:
    """Of a pod that the home scheduler has bound to no node."""
    return _facts(pod, node=None, foreign_namespace=None, virtual_nodes=[node], **more)


GENERAL = "- The home scheduler decides this, before farlet sees the pod"
HELD = _far(cordoned="foreign-unreachable", unschedulable=True)
FAR = {"kubernetes.io/hostname": "far"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            _meant(HELD, _unbound(), foreign_secrets={"far": "mine"}),
            "- The Node far takes no new pods: farlet has cordoned it, since the foreign API "
            "server does not serve farlet: the foreign API server does not accept farlet's "
            "credentials (401 Unauthorized): they have expired or were revoked. Run: "
            "farlet connect --home-context home --foreign-context foreign --node "
            "far (a node without farlet connect: put a kubeconfig with new credentials into the "
            "Secret mine, docs/how-to/renew-credentials.md). farlet uncordons it as soon as that "
            "is over\n",
            id="farlet has cordoned its node",
        ),
        pytest.param(
            _meant(HELD, _unbound()),
            "into the Secret farlet-far-foreign, docs",
            id="a Secret that no VirtualNode names",
        ),
        pytest.param(
            _meant(_far(cordoned="drain", unschedulable=True), _unbound()),
            "- The Node far takes no new pods: farlet drains it before it stops. The next start "
            "uncordons it\n",
            id="farlet drains its node",
        ),
        pytest.param(
            _meant(_far(unschedulable=True), _unbound()),
            "- The Node far takes no new pods: an administrator, a drain or an unfinished farlet "
            "disconnect has cordoned it. To let it take pods again: kubectl --context home "
            "uncordon far\n",
            id="an administrator has cordoned it",
        ),
        pytest.param(
            _meant(_far(ready="Unknown"), _unbound()),
            "- The Node far takes no new pods: it is not ready: Kubelet stopped posting. See "
            "farlet status --home-context home\n",
            id="the node is not ready",
        ),
        pytest.param(
            _meant(_far(), _unbound(nodeSelector=FAR, tolerations=[])),
            "- The pod does not tolerate the taint farlet.io/virtual-node:NoSchedule of the Node "
            'far. Add to its spec: tolerations: [{"key": "farlet.io/virtual-node", "operator": '
            '"Exists"}]\n',
            id="a pod without the toleration",
        ),
        pytest.param(_meant(HELD, _unbound(tolerations=[])), GENERAL, id="other nodes"),
        pytest.param(
            _meant(HELD, _unbound(nodeSelector={"a": "b"})), GENERAL, id="another selector"
        ),
        pytest.param(_meant(_far(), _unbound()), GENERAL, id="nothing is known"),
        pytest.param(_meant({**HELD, "metadata": {"name": "far"}}, _unbound()), GENERAL,
            id="a node that farlet does not serve",
        ),
    ],
)  # fmt: skip
def test_a_pod_without_a_node_is_explained_by_the_virtual_nodes(
    facts: Facts, expected: str
) -> None:
    said = _said(facts)
    assert expected in said
    assert ("farlet sees the pod" in said) is (expected == GENERAL)


def test_of_two_virtual_nodes_one_takes_pods() -> None:
    near = _far()
    near["metadata"]["name"] = "near"
    said = _said(_facts(_unbound(), node=None, foreign_namespace=None, virtual_nodes=[near, HELD]))
    assert "The Node far takes no new pods" in said
    assert GENERAL in said


@pytest.mark.parametrize(
    ("facts", "fragments"),
    [
        pytest.param(
            _facts(_pod(), denied="kubectl create rolebinding farlet-far -n shop"),
            ("- HomeNamespaceForbidden: kubectl create rolebinding farlet-far -n shop\n",),
            id="farlet is not allowed to report on pods of the home namespace",
        ),
        pytest.param(
            _facts(
                _pod(reason="ForeignUnauthorized", message=REVOKED), foreign_secrets={"far": "mine"}
            ),
            (
                "credentials into the Secret mine, docs",
                "new credentials into the Secret mine, see",
                "connect: farlet connect --home-context home --foreign-context foreign --node far,",
            ),
            id="the Secret of a node has its name",
        ),
        pytest.param(
            _facts(NO_NODE, node=None),
            ("none: the scheduler of the home cluster", "0/4 nodes", "describe nodes -l type="),
            id="the home scheduler has not placed it",
        ),
        pytest.param(
            _facts(_pod(reason="KeptAtHome", message="the Secret key stays")),
            (
                "Pending: KeptAtHome\n",
                "message      the Secret key stays\n",
                "- KeptAtHome (owner of the pod): ",
            ),
            id="a refusal",
        ),
        pytest.param(
            _facts(_pod(reason="ForeignNamespaceNotFound"), namespace=ABSENT),
            ("shop-home, which does not exist", "- ForeignNamespaceNotFound (administrator of"),
            id="no foreign namespace",
        ),
        pytest.param(
            _facts(_pod(reason="ForeignForbidden"), ctx=CONNECTED),
            ("--node far --namespace shop (",),
            id="no permission of a node of connect",
        ),
        pytest.param(
            _facts(_pod(reason="ForeignForbidden"), ctx=BY_HAND),
            ("kubectl create namespace shop-home; kubectl apply -n shop-home -f",),
            id="no permission of a node by hand",
        ),
        pytest.param(
            _facts(_pod(reason="ForeignNamespaceInUse"), ctx=BY_HAND),
            ("kubectl delete configmap farlet-home-namespace -n shop-home",),
            id="a foreign namespace that is in use",
        ),
        pytest.param(
            _facts(
                _with_volume(),
                mirror=_mirror(_container({"waiting": {"reason": "X", "message": MISSING}})),
                foreign_events=[_event("FailedMount", MISSING, "2026-01-02T03:00:09Z")],
                ctx=BY_HAND,
            ),
            (
                'waiting, X: configmap "files" not found',
                'FailedMount: configmap "files" not found',
            ),
            id="names of copies",
        ),
        pytest.param(
            _facts(_pod(), mirror=_mirror(conditions=[UNPLACED])),
            ("foreign scheduler  0/4 nodes are available\n",),
            id="the foreign scheduler has not placed it",
        ),
        pytest.param(
            _facts(_pod(), mirror=_mirror(_container(LOOP, restarts=4, last=OOM))),
            (
                "4 restarts; before: OOMKilled, exit code 137, 65s ago",
                "kubectl --context home logs -n shop web -c app --previous",
                "used more memory than its limit",
            ),
            id="killed again and again",
        ),
        pytest.param(
            _facts(_pod(phase="Running"), mirror=_mirror(_container(RUNNING), phase="Running")),
            ("app: running for 3m", "Nothing to do.\n"),
            id="it runs",
        ),
        pytest.param(
            _facts(_pod(), node={**NODE, "status": {"conditions": [NOT_READY]}}),
            ("far (not ready)", "Kubelet stopped posting. See farlet status"),
            id="the node is not ready",
        ),
        pytest.param(
            _facts(_pod(), node={"metadata": {"name": "far", "uid": "n"}}),
            ("far, which farlet does not serve", "does not run through farlet"),
            id="a machine of the home cluster",
        ),
        pytest.param(
            _facts(_pod(), mirror={**_mirror(), "metadata": {"name": "web", "uid": "x"}}),
            ("web, which is not the mirror of this pod", "- NameConflict ("),
            id="another pod has the name",
        ),
        pytest.param(
            _facts(_pod()),
            ("pod        none\n", "the pod shows no reason: see the Events of its Node"),
            id="no mirror, and no reason",
        ),
        pytest.param(
            _facts(ABSENT, node=None, mirror=_mirror()),
            (
                "the home cluster has no such pod",
                "pod        web\n",
                "kubectl --context home get pods -n shop",
            ),
            id="the pod is gone and its mirror is not",
        ),
        pytest.param(
            _facts(_pod(), mirror=None),
            ("Not read: the foreign cluster: add --foreign-context",),
            id="without foreign credentials",
        ),
        pytest.param(
            _facts(
                _pod(),
                node=FORBIDDEN,
                namespace=FORBIDDEN,
                mirror=FORBIDDEN,
                home_events=FORBIDDEN,
                foreign_events=FORBIDDEN,
            ),
            (
                (
                    "Not read: the foreign namespace, the mirror, foreign Events, home Events, the "
                    "Node far: these credentials are not allowed to read it (403)\n"
                ),
            ),
            id="nothing may be read",
        ),
        pytest.param(
            _facts(Unread("the API server does not accept these credentials (401)")),
            ("Not read: the home pod: the API server does not accept these credentials (401)\n",),
            id="wrong credentials",
        ),
        pytest.param(
            _facts(
                _pod(phase="Running"),
                mirror=_mirror(phase="Running"),
                home_events=[
                    _event("ChangeRejected", "no", "2026-01-02T03:00:00Z", pod="h", type="Warning"),
                    _event("KeptAtHome", "no", "2026-01-02T03:00:00Z", pod="h", type="Warning"),
                ],
            ),
            ("- ChangeRejected (owner of the pod)",),
            id="a change that was rejected",
        ),
    ],
)
def test_each_situation_is_explained(facts: Facts, fragments: tuple[str, ...]) -> None:
    said = _said(facts)
    for fragment in fragments:
        assert fragment in said, said


def _condition(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "False", "reason": "ForeignUnauthorized", "message": message}


def _of(*conditions: Any) -> dict[str, Any]:
    """The Node with further conditions."""
    return {**NODE, "status": {"conditions": [*NODE["status"]["conditions"], *conditions]}}


RUNS = _pod(phase="Running")
MIRRORED = _mirror(_container(RUNNING), phase="Running")
UNREACHABLE = _condition("farlet.io/ForeignReachable", REVOKED)
LEADER = State(
    node="far",
    phase="serving",
    leader=True,
    foreign=ForeignState(reachable=True),
    home_api=HomeAPIState(state="Verified"),
)
DENIED = api_refusals.preparation("shop-home", system="farlet-far", home="shop")
STALE = {"spec": {"holderIdentity": "farlet-a_1", "renewTime": "2026-01-02T03:00:00Z"}}
ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "2026-01-02T03:03:00Z"}}
UNREADY = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "[app]"}


def _reports(**changed: Any) -> State:
    return LEADER.model_copy(update=changed)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param(
            {"lease": STALE},
            "- The Node far: no farlet serves it: its Lease, which lasts 40s, was renewed 4m ago, "
            "by farlet-a. Until one does, no new pod starts, kubectl logs and exec fail, and the "
            "status here is old. What starts it: farlet status --home-context home\n",
            id="no farlet runs",
        ),
        pytest.param(
            {"node": _of(UNREACHABLE)},
            "- the foreign API server does not accept farlet's credentials (401",
            id="the Node reports it",
        ),
        pytest.param(
            {"node": ABSENT},
            "- Nothing runs this pod without the Node far: farlet status --home-context home\n",
            id="its node was deleted",
        ),
        pytest.param(
            {"state": _reports(problems={"foreign": REVOKED})},
            "- farlet of the node far (foreign): the foreign API server does not accept farlet's",
            id="farlet reports it",
        ),
        pytest.param(
            {
                "state": _reports(
                    namespaces=(
                        NamespaceState(
                            home="shop",
                            foreign="shop-home",
                            reason="ForeignForbidden",
                            problem=f"not allowed to list pods. {DENIED}",
                        ),
                    )
                ),
                "ctx": CONNECTED,
            },
            "- ForeignForbidden (administrator of the foreign cluster): Run: ",
            id="its namespace has lost farlet's permissions",
        ),
        pytest.param(
            {"state": FORBIDDEN},
            "Not read: what farlet reports of itself: these credentials are not allowed",
            id="farlet cannot be asked",
        ),
        pytest.param(
            {"identity": FORBIDDEN},
            "Not read: whether this is the foreign cluster of the node: these credentials",
            id="the cluster cannot be compared",
        ),
        pytest.param(
            {"requirements": (Requirement("Secret", "key", "unknown"),)},
            "What was read shows no problem.\n",
            id="an object that it needs is not known",
        ),
        pytest.param(
            {"mirror": _mirror(_container(ENDED), phase="Running")},
            "- Container app: it ended with exit code 3: kubectl --context home logs -n shop web "
            "-c app\n",
            id="a container has failed",
        ),
        pytest.param(
            {"pod": _pod(phase="Running", conditions=[UNREADY])},
            "- It runs and is not ready: ContainersNotReady: [app]. See its containers and Events",
            id="it is not ready",
        ),
        pytest.param(
            {"pod": _pod(phase="Failed")},
            "- It is Failed: see its message, containers and Events\n",
            id="it has failed without a reason",
        ),
    ],
)
def test_there_is_something_to_do_where_anything_is_wrong_or_not_known(
    more: dict[str, Any], expected: str
) -> None:
    said = _said(_facts(more.pop("pod", RUNS), **{"mirror": MIRRORED, **more}))
    assert expected in said
    assert "Nothing to do." not in said


def test_a_process_that_leads_refutes_older_reports() -> None:
    said = _said(_facts(RUNS, mirror=MIRRORED, node=_of(UNREACHABLE), lease=STALE, state=LEADER))
    assert "ForeignReachable" not in said
    assert said.endswith("Nothing to do.\n")


def test_what_to_do_is_printed_once() -> None:
    message = f"farlet is not allowed to list pods. {DENIED}. The API server answered 403"
    event = _event("ForeignForbidden", message, "2026-01-02T03:00:00Z", pod="h", type="Warning")
    blocked = NamespaceState(home="shop", foreign="f", reason="ForeignForbidden", problem=message)
    said = _said(
        _facts(
            _pod(reason="ForeignForbidden", message=message),
            home_events=[event],
            state=_reports(namespaces=(blocked,)),
            ctx=CONNECTED,
        )
    )
    assert said.count("farlet connect --home-context home --foreign-context foreign --node") == 1
    assert "list pods. See What to do. The API server answered 403\n" in said


def test_guides_are_plain_text() -> None:
    assert not [reason for reason in Reason if "`" in drafts.guide(reason)]


def test_a_solved_wait_is_not_advice() -> None:
    solved = _event("KeptAtHome", "no", "2026-01-02T03:00:00Z", pod="h", type="Warning")
    pod, mirror = _pod(phase="Running"), _mirror(phase="Running")
    found = report.report(_facts(pod, mirror=mirror, home_events=[solved]), NOW, AT_HOME, AWAY)
    assert found.advice == ()


def test_an_event_that_home_repeats_is_shown_once() -> None:
    away = _event("Pulled", "image is there", "2026-01-02T03:00:09Z")
    pod = _pod()
    seen = mirror_event.summary(cast("Any", away))
    assert seen is not None
    at_home = mirror_event.forge(seen, mirror_event.home_pod(cast("Any", pod)), node="far", now=NOW)
    at_home["metadata"]["uid"] = "copy"
    facts = _facts(pod, mirror=_mirror(), home_events=[at_home], foreign_events=[away])
    assert [one.cluster for one in report.report(facts, NOW, AT_HOME, AWAY).events] == ["foreign"]
    alone = _facts(pod, mirror=FORBIDDEN, home_events=[at_home], foreign_events=FORBIDDEN)
    assert [one.message for one in report.report(alone, NOW, AT_HOME, AWAY).events] == [
        "image is there"
    ]


def test_texts_from_outside_reach_no_terminal_as_they_are_and_lists_are_bounded() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    hostile = f"\x1b]0;pwned\x07\x9b31m\u202ered\nPod fake {token} " + "x" * 5000
    many = [_event(f"Failed{n}", hostile, f"2026-01-02T03:00:{n % 60:02}Z") for n in range(200)]
    waiting = {"waiting": {"reason": hostile, "message": hostile}}
    containers = [{**_container(waiting), "name": hostile, "image": hostile}] * 200
    facts = _facts(
        _pod(reason=hostile, message=hostile),
        mirror=_mirror(*containers, message=hostile, reason=hostile),
        requirements=(Requirement("Secret", hostile, "missing", "x"),) * 500,
        foreign_events=many,
    )
    found = report.report(facts, NOW, AT_HOME, AWAY)
    said = text.to_text(found) + json_output.to_json(found)
    assert token not in said
    assert not {char for char in said if not char.isprintable() and char != "\n"}
    assert found.events_omitted == 200 - report.EVENTS
    assert len(said) < 600_000
    assert json.loads(json_output.to_json(found))["pod"] == "shop/web"
    assert said.count("Pod fake") > 0
    assert "\nPod fake" not in said


@pytest.mark.parametrize(
    ("spec", "foreign", "mode"),
    [
        pytest.param({}, "shop-home", "home", id="defaults"),
        pytest.param({"namespaces": {"homeName": "eu"}}, "shop-eu", "home", id="a name of home"),
        pytest.param({"namespaces": {"map": {"shop": "x"}}}, "x", "home", id="a pair"),
        pytest.param({"namespaces": {"template": "none"}}, None, "home", id="pairs only"),
        pytest.param({"access": {"default": "remote"}}, "shop-home", "remote", id="a mode"),
    ],
)
def test_a_virtual_node_declares_namespaces_and_mode(
    spec: dict[str, Any], foreign: str | None, mode: str
) -> None:
    other = Context(node="far", home_id="h", namespaces=NamespaceMap(home="other", own="farlet"))
    found = virtual_nodes.context(Spec.model_validate(spec), other)
    assert (found.namespaces.foreign("shop"), found.access_default) == (foreign, mode)
