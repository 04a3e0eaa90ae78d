"""What can be said of a home pod and a mirror, alone and together: facts, no decisions.

`plan` asks these questions; their answers hold the evidence rules (what counts as ours, as
ended, as run before). Pure.
"""

from __future__ import annotations

from farlet import constants
from farlet.forge import merge, status
from farlet.k8s_types import ObjectMeta, OwnerReference, Pod, Secret


def is_ours(mirror: Pod, *, virtual_node_id: str) -> bool:
    """It carries our label and names a home pod: made by this node, for some uid."""
    metadata = mirror["metadata"]
    return metadata.get("labels", {}).get(
        constants.VIRTUAL_NODE_ID
    ) == virtual_node_id and constants.HOME_UID in metadata.get("annotations", {})


def is_mirror_of(home: Pod, mirror: Pod, *, virtual_node_id: str) -> bool:
    """This mirror runs this very home pod.

    What home says (condition `Mirrored`) wins over what anybody may write abroad.
    """
    confirmed = status.mirrored_uid(home)
    if confirmed is not None and confirmed == mirror["metadata"].get("uid"):
        return True
    annotations = mirror["metadata"].get("annotations", {})
    return is_ours(mirror, virtual_node_id=virtual_node_id) and (
        annotations[constants.HOME_UID] == home["metadata"].get("uid")
    )


def runs_again(home: Pod, last: Pod | None) -> bool:
    """Whether a pod whose mirror is lost may get another: at most one run for Never."""
    policy = restart_policy(home)
    if policy == "OnFailure":
        return not status.ran_to_success(home) and not (
            last is not None and status.ran_to_success(last)
        )
    return policy != "Never"


def is_finished(mirror: Pod) -> bool:
    """No container of M runs, and none will."""
    if is_terminal(mirror):
        return True
    if not is_deleting(mirror):
        return False
    if mirror["metadata"].get("deletionGracePeriodSeconds") == 0:
        # Its kubelet says so when its containers are gone; so does whoever forces a deletion.
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


def tells_more(home: Pod, seen: status.DesiredStatus) -> bool:
    """Whether what M was last seen with tells of a phase or of an end that H does not show yet.

    Only that: the rest of a vanished mirror's status is out of date, and why H waits now stands
    in its place.
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
    """Restart counts that a new mirror starts from: each container that ran starts once more."""
    current = home.get("status", {})
    return {
        c["name"]: c.get("restartCount", 0) + (1 if "waiting" not in c.get("state", {}) else 0)
        for kind in ("containerStatuses", "initContainerStatuses")
        for c in current.get(kind, ())  # type: ignore[attr-defined]
    }


def grace_shorter(home: Pod, mirror: Pod) -> bool:
    """M is not being deleted yet, or is given more time than H has left."""
    if not is_deleting(mirror):
        return True
    left = home["metadata"].get("deletionGracePeriodSeconds")
    given = mirror["metadata"].get("deletionGracePeriodSeconds")
    return left is not None and given is not None and left < given


def owned_by(secret: ObjectMeta, uid: str) -> bool:
    """The Secret goes when the pod of that uid goes."""
    return any(o.get("uid") == uid for o in secret.get("ownerReferences", ()))


def holds(secret: ObjectMeta, wanted: tuple[Secret, ...]) -> bool:
    """It has the CA that it should have, by what its annotation says."""
    ca = secret.get("annotations", {}).get(constants.HOME_CA)
    return all(
        one["metadata"].get("annotations", {}).get(constants.HOME_CA) == ca for one in wanted
    )


def reference(mirror: Pod) -> OwnerReference:
    """Owner of what stands beside M, so that the foreign garbage collector takes it with M."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": mirror["metadata"]["name"],
        "uid": uid(mirror),
    }


def uid(pod: Pod) -> str:
    """Its uid; empty on what no server has seen."""
    return pod["metadata"].get("uid", "")


def is_deleting(pod: Pod) -> bool:
    """Its deletion was asked for."""
    return "deletionTimestamp" in pod["metadata"]


def is_terminal(pod: Pod) -> bool:
    """It has finished, and never runs again."""
    return status.is_terminal(pod)


def restart_policy(pod: Pod) -> str:
    """`Always`, `OnFailure` or `Never`."""
    return pod.get("spec", {}).get("restartPolicy", "Always")
