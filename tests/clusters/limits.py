"""A limit of the kernel that several pairs of clusters at the same time reach.

The kubelets, containerds and API servers of a pair hold about 38 inotify instances. The kernel
allows a user 128, so a fourth pair does not start.
"""

from pathlib import Path

from clusters import progress as progresses

_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_WANTED = 1024


def allow_inotify(*, progress: progresses.Progress) -> None:
    """Raise the machine's limit of inotify instances, and say so; it stays raised until reboot."""
    allowed = int(_INSTANCES.read_text())
    if allowed >= _WANTED:
        return
    try:
        _INSTANCES.write_text(f"{_WANTED}\n")
    except OSError as error:  # a container whose /proc/sys is read-only
        progress.line(f"fs.inotify.max_user_instances stays {allowed}, enough for 3 pairs: {error}")
        return
    progress.line(f"raised fs.inotify.max_user_instances from {allowed} to {_WANTED}")
