"""Pods of both sides and snapshots of them, as short as a row of a table can say them.

H is the home pod `default/web` of uid `HOME`, M the foreign pod of that name. What a row does
not name is as it usually is: bound, restartPolicy Always, no access to any API.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from farlet import access, constants
from farlet.access import AccessStrategy, choice
from farlet.constants import JSON, ObjectKey
from farlet.context import Context, Endpoint, NamespaceMap, Verified
from farlet.errors import Refused
from farlet.forge import status
from farlet.k8s_types import NamespacedMeta, ObjectMeta, OwnerReference, Pod
from farlet.planning.snapshot import Departure, Missing, Sign, Snapshot

HOME = "home-1"
MIRROR = "mirror-1"
NOW = 1_767_323_045.0
STAMP = "2026-01-02T03:04:05Z"
KEY = ObjectKey("default", "web")
MIRROR_KEY = ObjectKey("default-h", "web")
CONTEXT = Context(
    node="far",
    home_id="there",
    namespaces=NamespaceMap(home="h", own="farlet"),
    home_api=Verified(Endpoint("192.0.2.1", 443)),
    home_ca="-----BEGIN CERTIFICATE-----\n",
)
STRATEGIES: Mapping[str, AccessStrategy] = access.load_strategies()
ANCHOR: OwnerReference = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "name": "default-h",
    "uid": "anchor-1",
    "controller": True,
}

WAITING: JSON = {"waiting": {"reason": "ContainerCreating"}}
RUNNING: JSON = {"running": {"startedAt": STAMP}}


def exited(code: int) -> JSON:
    """State of a container that has ended."""
    return {"terminated": {"exitCode": code, "startedAt": STAMP, "finishedAt": STAMP}}


def home(
    *,
    uid: str = HOME,
    policy: str = "Always",
    phase: str = "Pending",
    state: JSON | None = None,
    last_state: JSON | None = None,
    restarts: int = 0,
    mirrored: str | None = None,
    grace: int | None = None,
    annotations: Mapping[str, str] | None = None,
    finalizers: Sequence[str] = (),
    reads_token: bool = False,
    spec: Mapping[str, Any] | None = None,
) -> Pod:
    """H. `grace`: it is being deleted and has so many seconds; `mirrored`: uid of its mirror."""
    pod = _pod(KEY.namespace, uid, grace=grace, finalizers=finalizers)
    chosen = {constants.API_SERVER_SUPPORT: "home" if reads_token else "disabled"}
    pod["metadata"]["annotations"] = chosen if annotations is None else dict(annotations)
    pod["spec"] = cast("Any", {"nodeName": "far", "restartPolicy": policy, **main()})
    if reads_token:
        source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
        cast("Any", pod["spec"])["volumes"] = [
            {"name": "kube-api-access", "projected": {"sources": [source]}}
        ]
    cast("Any", pod["spec"]).update(spec or {})
    pod["status"] = {"phase": phase}
    if state is not None:
        pod["status"]["containerStatuses"] = [_status(state, last_state, restarts)]
    if mirrored is not None:
        pod["status"]["conditions"] = [
            {"type": constants.PodCondition.MIRRORED.value, "status": "True", "message": mirrored}
        ]
    return pod


def mirror(
    *,
    uid: str = MIRROR,
    of: str = HOME,
    home_namespace: str = KEY.namespace,
    virtual_node_id: str | None = CONTEXT.virtual_node_id,
    phase: str = "Running",
    state: JSON | None = None,
    last_state: JSON | None = None,
    restarts: int = 0,
    grace: int | None = None,
    observed: bool = False,
    access_mode: str = "disabled",
    tokens: str | None = None,
    home_api: str | None = None,
    node: str | None = "worker",
) -> Pod:
    """M. `observed`: it carries our finalizer; `virtual_node_id` None: it has no label of ours."""
    finalizers = (constants.OBSERVED,) if observed else ()
    pod = _pod("default-h", uid, grace=grace, finalizers=finalizers)
    pod["metadata"]["annotations"] = {
        constants.HOME_NAMESPACE: home_namespace,
        constants.HOME_NAME: KEY.name,
        constants.HOME_UID: of,
        constants.ACCESS: access_mode,
    }
    if tokens is not None:
        pod["metadata"]["annotations"][constants.TOKENS] = tokens
    if home_api is not None:
        pod["metadata"]["annotations"][constants.HOME_API] = home_api
    if virtual_node_id is not None:
        pod["metadata"]["labels"] = {constants.VIRTUAL_NODE_ID: virtual_node_id}
    pod["spec"] = {"nodeName": node} if node else {}
    usual = {"Pending": WAITING, "Running": RUNNING, "Succeeded": exited(0), "Failed": exited(1)}
    pod["status"] = {
        "phase": phase,
        "startTime": STAMP,
        "containerStatuses": [_status(state or usual[phase], last_state, restarts)],
    }
    return pod


def daemon(pod: Pod) -> Pod:
    """H as a DaemonSet has made it."""
    result = copy.deepcopy(pod)
    result["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "name": "agent",
            "uid": "daemonset-1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    return result


def unrelated(**changes: Any) -> Pod:
    """A foreign pod that took M's name and has nothing to do with farlet."""
    pod = mirror(uid="unrelated-1", virtual_node_id=None, **changes)
    del pod["metadata"]["annotations"]
    return pod


def shown(pod: Pod, mirror: Pod, ctx: Context = CONTEXT) -> Pod:
    """H once it shows the status of M."""
    wanted = status.reflect(pod, mirror, ctx=ctx, now=NOW)
    result = copy.deepcopy(pod)
    result["status"] = copy.deepcopy(wanted.status)
    for key, value in wanted.annotations.items():
        if value is not None:
            result["metadata"].setdefault("annotations", {})[key] = value
    return result


def ended(pod: Pod, last: Pod | None = None) -> Pod:
    """H once it shows the final status of a deleted pod."""
    result = copy.deepcopy(pod)
    result["status"] = status.ended(pod, last, ctx=CONTEXT, now=NOW).status
    return result


def waiting(pod: Pod, reason: constants.Reason, message: str) -> Pod:
    """H once it shows why it waits."""
    result = copy.deepcopy(pod)
    wanted = status.waiting(pod, reason=reason, message=message, ctx=CONTEXT, now=NOW)
    result["status"] = wanted.status
    return result


def snapshot(pod: Pod | Missing, mirror: Pod | Missing, **known: Any) -> Snapshot:
    """What is known; the foreign namespace is open unless arguments say otherwise.

    `last`: M as it was last seen before a list did not contain it any more.
    """
    last = known.pop("last", None)
    if last is not None:
        known["departure"] = Departure(last, Sign.LIST, last["metadata"])
    given = Snapshot(key=KEY, now=NOW, home=pod, mirror=mirror, **{"anchor": ANCHOR, **known})
    return under(given, CONTEXT)


def departed(mirror: Pod, sign: Sign = Sign.EVENT, **afterwards: bool) -> Departure:
    """M left: what showed it, and what came after that."""
    return Departure(mirror, sign, mirror["metadata"], **afterwards)


def under(given: Snapshot, ctx: Context) -> Snapshot:
    """The same with the mirror's key and the access mode that this context leads to."""
    foreign = ctx.namespaces.foreign(KEY.namespace)
    mirror_key = None if foreign is None else ObjectKey(foreign, KEY.name)
    return dataclasses.replace(given, mirror_key=mirror_key, access=_access(given.home, ctx))


def _access(pod: Pod | Missing, ctx: Context) -> AccessStrategy | Refused | None:
    if isinstance(pod, Missing):
        return None
    try:
        return choice.choose(pod, STRATEGIES, ctx)
    except Refused as refused:
        return refused


def times(issued: float, expires: float) -> str:
    """The annotation that records when the one token of such a pod was issued and ends."""
    claim = STRATEGIES["home"].token_specs(home(reads_token=True), CONTEXT)[0]
    return orjson.dumps({claim.key: [issued, expires]}).decode()


def secret(*, of: str = MIRROR, ca: str = CONTEXT.home_ca_digest) -> ObjectMeta:
    """Metadata of the Secret beside the mirror of uid `of`; `ca` is the digest of its CA."""
    return {
        "name": f"farlet-{HOME}",
        "uid": "secret-1",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": KEY.name, "uid": of}],
        "annotations": {constants.HOME_CA: ca} if ca else {},
    }


def _pod(namespace: str, uid: str, *, grace: int | None, finalizers: Sequence[str]) -> Pod:
    metadata: NamespacedMeta = {
        "namespace": namespace,
        "name": KEY.name,
        "uid": uid,
        "resourceVersion": "7",
        "creationTimestamp": STAMP,
    }
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    if grace is not None:
        metadata["deletionTimestamp"] = STAMP
        metadata["deletionGracePeriodSeconds"] = grace
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


def main(**fields: Any) -> JSON:
    """The part of a spec with the one container."""
    return {"containers": [{"name": "main", "image": "example.org/app", **fields}]}


def _status(state: JSON, last_state: JSON | None, restarts: int) -> Any:
    return {
        "name": "main",
        "image": "example.org/app",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": restarts,
        "state": state,
        "lastState": last_state or {},
    }
