"""An ephemeral container (`kubectl debug`) as the mirror gets it.

It is forged by the same functions as the other containers of the pod, so that it has the same
variables, and names of copies. Pure.
"""

from __future__ import annotations

from farlet.access import AccessStrategy
from farlet.access.changes import ChangeLog
from farlet.context import Context
from farlet.forge import copies, scc
from farlet.k8s_types import Container, Pod, PodSpec


def forge(home: Pod, container: Container, *, strategy: AccessStrategy, ctx: Context) -> Container:
    """The container for the mirror of `home`.

    `strategy` is that of the mirror. Raises `Refused` while the API access of the pod is not known.
    """
    changes = ChangeLog()
    spec: PodSpec = {**home["spec"], "ephemeralContainers": [container]}
    spec = scc.without_ranges(spec, home, ctx, changes)
    spec = copies.rewritten(spec, home["metadata"]["namespace"], ctx, changes)
    [forged] = strategy.mutate(spec, home, ctx).spec["ephemeralContainers"]
    return forged
