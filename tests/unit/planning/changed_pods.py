"""A home pod H that changes, and its mirror M."""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any, cast

from farlet.constants import APPLIED
from farlet.context import Context
from farlet.forge import pod as pods
from farlet.k8s_types import Pod
from farlet.planning import changes
from unit.planning import objects
from unit.planning.objects import ANCHOR, CONTEXT, MIRROR, NOW

SOON = {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists"}
TWO = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}


def home(mode: str = "disabled", **changed: Any) -> Pod:
    """H; a name like `spec__tolerations` sets one of its fields."""
    pod = cast("Any", objects.home(annotations={"liqo.io/api-server-support": mode}))
    pod["metadata"] |= {"generation": 2, "labels": {"app": "web", "kept/queue": "a"}}
    pod["metadata"]["annotations"] |= {"go": "no", "kept/address": "a"}
    pod["spec"]["containers"] = [
        {"name": "main", "image": "example.org/app:1"},
        {"name": "proxy", "image": "example.org/proxy:1"},
    ]
    pod["spec"]["initContainers"] = [{"name": "first", "image": "example.org/first:1"}]
    pod["spec"]["tolerations"] = [{**SOON, "tolerationSeconds": 300}]
    for path, value in changed.items():
        part, field = path.split("__")
        merged = {**pod[part].get(field, {}), **value} if isinstance(value, dict) else value
        pod[part][field] = merged
    return cast("Pod", pod)


def mirror_of(pod: Pod, ctx: Context = CONTEXT, **changed: Any) -> Pod:
    """The mirror of H, as farlet created it and as the foreign cluster stores it."""
    forged = pods.forge_mirror(
        pod,
        strategy=objects.STRATEGIES[pod["metadata"]["annotations"]["liqo.io/api-server-support"]],
        ctx=ctx,
        anchor=ANCHOR,
        token_times={},
        restarts={},
    ).pod
    mirror = cast("Any", copy.deepcopy(forged))
    mirror["metadata"] |= {"uid": MIRROR, "resourceVersion": "7", "generation": 1}
    mirror["status"] = {"startTime": objects.STAMP}
    for path, value in changed.items():
        part, field = path.split("__")
        mirror[part][field] = (
            {**mirror[part].get(field, {}), **value} if isinstance(value, dict) else value
        )
    return cast("Pod", mirror)


def due(
    pod: Pod,
    mirror: Pod,
    ctx: Context = CONTEXT,
    *,
    now: float = NOW,
    rejected: Container[str] = (),
) -> changes.Due:
    """The writes for M, while H selects no access mode."""
    return changes.due(pod, mirror, selected=None, ctx=ctx, now=now, rejected=rejected)


def sent(pod: Pod, mirror: Pod, ctx: Context = CONTEXT, mode: str = "disabled") -> Any:
    """The body, without uid and record; `None` if nothing is sent."""
    action = changes.due(pod, mirror, selected=mode, ctx=ctx, now=NOW).update
    if action is None:
        return None
    body = copy.deepcopy(action.body)
    assert body["metadata"].pop("uid") == MIRROR
    assert body["metadata"]["annotations"].pop(APPLIED)
    assert (body["metadata"].pop("resourceVersion", None) == "7") is ("spec" in body)
    body["metadata"] = {key: value for key, value in body["metadata"].items() if value}
    return {key: value for key, value in body.items() if value}
