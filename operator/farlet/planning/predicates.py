"""Facts about a home pod and a mirror, alone and together; no decisions.

`plan` uses them. They hold the rules of evidence: which mirror is ours, which has ended, which pod
has run before. Pure.
"""

from __future__ import annotations

from typing import cast

from farlet import constants
from farlet.constants import JSON
from farlet.forge import containers, merge, restart_policies, status, timestamps
from farlet.k8s_types import ObjectMeta, OwnerReference, Pod, PodPhase, Secret


def is_labelled(mirror: Pod, *, virtual_node_id: str) -> bool:
    """It has our label: the watch of mirrors shows it."""
    labels = mirror["metadata"].get("labels", {})
    return labels.get(constants.VIRTUAL_NODE_ID) == virtual_node_id


def is_ours(mirror: Pod, *, home_namespace: str, virtual_node_id: str) -> bool:
    """It names a home pod of this namespace, node and home cluster, for some home uid.

    The id of a virtual node is a hash of the home cluster and the node.
    """
    annotations = mirror["metadata"].get("annotations", {})
    return (
        is_labelled(mirror, virtual_node_id=virtual_node_id)
        and annotations.get(constants.HOME_NAMESPACE) == home_namespace
        and constants.HOME_UID in annotations
    )


def is_mirror_of(home: Pod, mirror: Pod, *, virtual_node_id: str) -> bool:
    """This mirror belongs to this home pod.

    The home pod's condition `Mirrored` wins over annotations in the foreign cluster, which
    other users there can change.
    """
    confirmed = status.mirrored_uid(home)
    if confirmed is not None and confirmed == mirror["metadata"].get("uid"):
        return True
    return is_marked(home, mirror, virtual_node_id=virtual_node_id)


def is_marked(home: Pod, mirror: Pod, *, virtual_node_id: str) -> bool:
    """Label and annotations of this mirror name this home pod."""
    namespace, uid = home["metadata"]["namespace"], home["metadata"].get("uid")
    return is_ours(mirror, home_namespace=namespace, virtual_node_id=virtual_node_id) and (
        mirror["metadata"]["annotations"][constants.HOME_UID] == uid
    )


def wants(home: Pod, mirror: Pod, *, virtual_node_id: str) -> bool:
    """H has not ended and needs this mirror: its deletion is unexpected."""
    return (
        not is_deleting(home)
        and not is_terminal(home)
        and is_mirror_of(home, mirror, virtual_node_id=virtual_node_id)
    )


def runs_again(home: Pod, last: Pod | None) -> bool:
    """Whether a pod whose mirror is lost can get another one. `Never` runs at most once."""
    return restart_policies.final(home, last) is None


def is_finished(mirror: Pod) -> bool:
    """No container of M runs, and none will start."""
    if is_terminal(mirror):
        return True
    if not is_deleting(mirror):
        return False
    if mirror["metadata"].get("deletionGracePeriodSeconds") == 0:
        # Its kubelet sets 0 when its containers are gone; a forced deletion sets 0, too.
        return True
    if not mirror.get("spec", {}).get("nodeName"):
        return True
    current = mirror.get("status", {})
    states = [
        s.get("state", {})
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for s in current.get(kind, ())  # type: ignore[attr-defined]
    ]
    return (
        bool(current.get("containerStatuses"))
        and not any("running" in s for s in states)
        and any("terminated" in s for s in states)
    )


def shows_more(home: Pod, seen: status.DesiredStatus) -> bool:
    """Whether the last status of M has a phase or a container's end that H does not show yet.

    Nothing else counts: the rest of a vanished mirror's status is out of date, and H shows the
    reason why it waits in its place.
    """
    live = home.get("status", {})
    if seen.status.get("phase") != live.get("phase"):
        return True
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        shown = {s["name"]: s.get("state") for s in live.get(kind, ())}  # type: ignore[attr-defined]
        for row in seen.status.get(kind, ()):  # type: ignore[attr-defined]
            ended = "terminated" in row["state"]
            if ended and not merge.same(shown.get(row["name"]), row["state"]):
                return True
    return False


def restarts(home: Pod) -> dict[str, int]:
    """Restart counts that a new mirror starts from."""
    return {
        name: containers.next_restart(one)
        for group in (containers.REGULAR, containers.INIT)
        for name, one in containers.statuses(home, group).items()
    }


def grace(mirror: Pod) -> int:
    """Seconds that M has, or would have, to end."""
    if is_deleting(mirror):
        return mirror["metadata"].get("deletionGracePeriodSeconds", 0)
    return mirror.get("spec", {}).get("terminationGracePeriodSeconds", 30)


def grace_shorter(home: Pod, mirror: Pod) -> bool:
    """M is not being deleted yet, or its grace period is longer than that of H."""
    if not is_deleting(mirror):
        return True
    left = home["metadata"].get("deletionGracePeriodSeconds")
    given = mirror["metadata"].get("deletionGracePeriodSeconds")
    return left is not None and given is not None and left < given


def still_there(answer: JSON | Pod) -> bool:
    """Whether a pod in the answer to a DELETE or PATCH still exists.

    A pod with a grace period exists until its kubelet has stopped it, one with a finalizer until
    that is removed. Otherwise the answer shows the pod as it was before it was deleted.
    """
    metadata = cast("Pod", answer).get("metadata", {})
    return answer.get("kind") == "Pod" and bool(
        "deletionTimestamp" not in metadata
        or metadata.get("deletionGracePeriodSeconds")
        or metadata.get("finalizers")
    )


def is_only_scheduled(mirror: Pod) -> bool:
    """No kubelet has reported the containers of M yet."""
    reported = mirror.get("status", {})
    phase = reported.get("phase", PodPhase.PENDING)
    return phase == PodPhase.PENDING and "containerStatuses" not in reported


def is_released(shown: ObjectMeta) -> bool:
    """Whether an answer or a DELETED event with this metadata shows that a mirror is gone.

    A mirror of grace period 0 without finalizers is removed by the write that makes it so
    (`ShouldDeleteDuringUpdate` in k8s.io/apiserver/pkg/registry/generic/registry/store.go). A watch
    sends DELETED with the previous object, so a mirror whose label was removed does not match this.
    """
    return (
        "deletionTimestamp" in shown
        and shown.get("deletionGracePeriodSeconds") == 0
        and not shown.get("finalizers")
    )


def ends_by(mirror: Pod) -> float | None:
    """Epoch seconds by which a deleted mirror should have ended; `None` if it is not deleted.

    API servers add the grace period to `deletionTimestamp` (`BeforeDelete` in
    k8s.io/apiserver/pkg/registry/rest).
    """
    return timestamps.epoch(mirror["metadata"].get("deletionTimestamp"))


def owned_by(secret: ObjectMeta, uid: str) -> bool:
    """The garbage collector deletes the Secret with the pod of that uid."""
    return any(o.get("uid") == uid for o in secret.get("ownerReferences", ()))


def holds(secret: ObjectMeta, desired: tuple[Secret, ...]) -> bool:
    """The Secret has the desired CA, labels and annotations, by its own annotations.

    Files of labels and annotations that are too large are not desired.
    """
    present = secret.get("annotations", {})
    return all(
        present.get(constants.HOME_CA) == marks.get(constants.HOME_CA)
        and marks.get(constants.METADATA_FILES) in {None, present.get(constants.METADATA_FILES)}
        for marks in (one["metadata"]["annotations"] for one in desired)
    )


def reference(mirror: Pod) -> OwnerReference:
    """Owner reference of M's Secret, so that the foreign garbage collector deletes it with M."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": mirror["metadata"]["name"],
        "uid": uid(mirror),
    }


def uid(pod: Pod) -> str:
    """The uid; empty for a pod that no server has stored yet."""
    return pod["metadata"].get("uid", "")


def is_deleting(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_terminal(pod: Pod) -> bool:
    """Succeeded or Failed."""
    return status.is_terminal(pod)
