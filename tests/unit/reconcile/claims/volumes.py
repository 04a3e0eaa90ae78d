"""A farlet that provides volumes for home claims, between two model clusters.

A test plays the scheduler and the volume controller of the home cluster, and the provisioner of
the foreign one.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from farlet import names
from farlet.constants import PROVISIONER
from farlet.context import NewNamespaces
from farlet.forge import claims
from farlet.forge.claims import ClaimKey
from unit.planning import model, objects
from unit.reconcile import harness
from unit.reconcile.harness import FOREIGN, HOME, USER, Harness

CTX = dataclasses.replace(objects.CONTEXT, storage_class_map=(("far", "fast"),))
CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
WRITES = r"(POST|PUT|PATCH|DELETE) .*/(persistentvolumeclaims|persistentvolumes)"


@contextlib.contextmanager
def running(
    *, starts: bool = True, new: NewNamespaces | None = None, **fields: Any
) -> Iterator[Harness]:
    """A harness of its own with a StorageClass. `starts`, `new`: as of other harnesses."""
    with harness.running(ctx=CTX, starts=starts, new=new) as s:
        storage_class(s, **fields)
        yield s


def storage_class(s: Harness, **more: Any) -> None:
    body = {"metadata": {"name": "far"}, "provisioner": PROVISIONER, **more}
    s.home_server.create("storageclasses", "", body, by=USER)


def claim(s: Harness, name: str = "data", *, size: str = "1Gi", **spec: Any) -> ClaimKey:
    """A user creates a claim."""
    body = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "far",
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
        "status": {"phase": "Pending"},
    }
    made = s.home_server.create(CLAIMS, HOME, body, by=USER)
    return ClaimKey(HOME, name, made["metadata"]["uid"])


def selected(s: Harness, name: str = "data", *, node: str = CTX.node) -> None:
    """The home scheduler selects a node for the claim, and the volume controller names the
    provisioner."""
    annotations = {
        claims.SELECTED_NODE: node,
        "volume.kubernetes.io/storage-provisioner": PROVISIONER,
    }
    patch(s.home_server, (CLAIMS, HOME, name), metadata={"annotations": annotations})


def patch(server: model.Server, where: tuple[str, str, str], **fields: Any) -> None:
    server.patch(where, fields, by=USER, status=False, strategic=False)
    if "status" in fields:
        body = {"status": fields["status"]}
        server.patch(where, body, by=USER, status=True, strategic=False)


def bound(s: Harness, key: ClaimKey, *, size: str = "1Gi") -> None:
    """The home volume controller binds claim and placeholder."""
    where = placeholder_where(key)
    status = {"phase": "Bound", "capacity": {"storage": size}}
    patch(s.home_server, (CLAIMS, HOME, key.name), spec={"volumeName": where[2]}, status=status)
    s.home_server.get(where)["status"] = {}
    patch(s.home_server, where, status={"phase": "Bound"})


def released(s: Harness, key: ClaimKey) -> None:
    """The home claim is deleted, and the volume controller releases the placeholder."""
    s.home_server.delete((CLAIMS, HOME, key.name), by=USER)
    patch(s.home_server, placeholder_where(key), status={"phase": "Released"})


def remote_where(key: ClaimKey) -> tuple[str, str, str]:
    return (CLAIMS, FOREIGN, claims.foreign_name(key, CTX))


def placeholder_where(key: ClaimKey) -> tuple[str, str, str]:
    return (VOLUMES, "", names.volume_name(key.uid))


def remote(s: Harness, key: ClaimKey) -> Any:
    """The foreign claim, if there is one."""
    return found(s.foreign_server, remote_where(key))


def placeholder(s: Harness, key: ClaimKey) -> Any:
    return found(s.home_server, placeholder_where(key))


def found(server: model.Server, where: tuple[str, str, str]) -> Any:
    try:
        return server.get(where)
    except model.Status:
        return None


def provided(s: Harness, key: ClaimKey, *, size: str = "1Gi") -> None:
    """The foreign provisioner binds the foreign claim."""
    remote(s, key)["status"] = {}
    status = {"phase": "Bound", "capacity": {"storage": size}}
    patch(s.foreign_server, remote_where(key), status=status)


def pending(s: Harness, key: ClaimKey) -> None:
    """The foreign API server has created it."""
    remote(s, key)["status"] = {}
    patch(s.foreign_server, remote_where(key), status={"phase": "Pending"})


def pod(s: Harness, name: str = "web", *, claim: str = "data") -> None:
    made = objects.home()
    made["metadata"]["name"] = name
    spec: Any = made["spec"]
    spec["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": claim}}]
    s.home_server.create("pods", HOME, model.clone(made), by=USER)


def used(s: Harness, *, seconds: float = 1.0) -> ClaimKey:
    """A claim with a volume in both clusters."""
    key = claim(s)
    selected(s)
    s.wait(seconds)
    bound(s, key)
    provided(s, key)
    s.wait()
    return key


def without_placeholder(s: Harness) -> ClaimKey:
    """A foreign claim whose placeholder the home cluster does not create."""
    s.home.refusing["POST .*/persistentvolumes$"] = s.home.silence
    key = claim(s)
    selected(s)
    s.wait()
    return key


def notes(s: Harness, name: str = "data") -> list[str]:
    return [
        one["message"]
        for one in s.home_server.all("events")
        if one["involvedObject"]["name"] == name
    ]


def writes(s: Harness) -> tuple[int, int]:
    """How many writes of claims and volumes each cluster has received: home, foreign."""
    return len(s.home.requests(WRITES)), len(s.foreign.requests(WRITES))
