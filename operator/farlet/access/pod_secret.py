"""The Secret that farlet stores beside a mirror: tokens, CA, namespace, labels and annotations."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from farlet import names
from farlet.access import metadata_files
from farlet.constants import (
    HOME_NAME,
    HOME_NAMESPACE,
    HOME_UID,
    METADATA_FILES,
    VIRTUAL_NODE_ID,
    Reason,
)
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import OwnerReference, Pod, Secret


def build(
    pod: Pod,
    data: Mapping[str, str],
    annotations: Mapping[str, str],
    ctx: Context,
    owner: OwnerReference,
) -> tuple[Secret, ...]:
    """The Secret with `data` and the files of labels and annotations; none if both are empty.

    Files that are too large are left out, so that a patch keeps those of before. Raises `Refused`
    if the pod's namespace is not offloaded.
    """
    files = metadata_files.contents(pod)
    if not data and not files:
        return ()
    home = pod["metadata"]
    namespace = ctx.namespaces.foreign(home["namespace"])
    if namespace is None:
        raise Refused(
            Reason.NAMESPACE_NOT_OFFLOADED,
            f"namespace {home['namespace']} is not offloaded to the foreign cluster any more",
        )
    marks = {HOME_NAMESPACE: home["namespace"], HOME_NAME: home["name"], HOME_UID: home["uid"]}
    if files and metadata_files.is_too_large(files):
        files = {}
    if files:
        marks[METADATA_FILES] = metadata_files.digest(files)
    return (
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.secret_name(home["uid"]),
                "namespace": namespace,
                "labels": {VIRTUAL_NODE_ID: ctx.virtual_node_id},
                "annotations": {**marks, **annotations},
                "ownerReferences": [owner],
            },
            "type": "Opaque",
            "data": {key: _base64(value) for key, value in {**data, **files}.items()},
        },
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
