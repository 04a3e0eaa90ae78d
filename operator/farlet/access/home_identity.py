"""What the modes `home` and `disabled` share: the pod sees its home identity, and no other.

`identity`, `metadata_files` and `host_names` each do a part of it.
"""

from __future__ import annotations

from collections.abc import Callable

from farlet import names
from farlet.access import environment, host_names, identity, metadata_files, volumes
from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import Context
from farlet.k8s_types import Pod, PodSpec, Volume


def in_volumes(pod: Pod, ctx: Context, changes: ChangeLog) -> Callable[[Volume], Volume]:
    """Changes a volume so that its files show the home identity.

    Raises `Refused` if the files with labels and annotations are too large.
    """
    secret = names.secret_name(pod["metadata"]["uid"])
    files = metadata_files.contents(pod)
    metadata_files.check_size(files)

    def shape(volume: Volume) -> Volume:
        volume = metadata_files.in_volume(volume, files, secret, ctx, changes)
        return identity.in_volume(volume, changes)

    return shape


def keep_names(shaped: JSON, spec: PodSpec, pod: Pod, ctx: Context, changes: ChangeLog) -> None:
    """Change `shaped`, a copy of `spec`, so that host names are those of the home cluster, and
    report what cannot be as it is there.
    """
    host_names.keep(shaped, pod, ctx, changes)
    identity.report_to_drivers(spec, pod, ctx, changes)
    for path, container in volumes.containers(pod["spec"]):
        environment.report_env_from(container, path, changes)
