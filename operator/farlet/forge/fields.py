"""The table of all PodSpec fields: which travel, which change, which stay at home, and why.

One row per field of `PodSpec` in `k8s.io/api/core/v1/types.go` of Kubernetes 1.36; a test
compares the two lists. A field that is not in the table is newer than farlet: it is copied,
since the user asked for it and the foreign server knows best whether it understands it, and
its name is reported so that somebody adds a row.

The table cleans a spec before an access strategy shapes it; it must not know any strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import Context
from farlet.forge import scheduling
from farlet.k8s_types import Pod, PodSpec

Rewrite: TypeAlias = Callable[[Any, Pod, Context, ChangeLog], object]
"""(value, home pod, context, changes to add to) -> new value; `None` leaves the field out."""


class Rule(Enum):
    """What happens to a field."""

    COPIED = "copied"
    REWRITTEN = "rewritten"
    DROPPED = "dropped"
    ACCESS = "shaped by the access strategy"
    GUARDED = "refused unless allowed, then copied"


@dataclass(frozen=True, slots=True)
class Field:
    """One row. `why` is shown to users for a field that is dropped."""

    rule: Rule
    why: str
    rewrite: Rewrite | None = None
    routine: bool = False
    """Dropping it is of no interest: the home server filled it in for every pod."""
    usual: object = None
    """Value whose loss is routine, where any other was somebody's wish."""


def _dropped(why: str, *, usual: object = None) -> Field:
    return Field(Rule.DROPPED, why, usual=usual)


def _routine(why: str) -> Field:
    return Field(Rule.DROPPED, why, routine=True)


def _copied(why: str) -> Field:
    return Field(Rule.COPIED, why)


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        # What runs.
        "containers": Field(Rule.ACCESS, "environment and mounts follow the API access"),
        "initContainers": Field(Rule.ACCESS, "sidecars included"),
        "volumes": Field(Rule.ACCESS, "token sources follow the API access; hostPath is guarded"),
        "ephemeralContainers": _routine(
            "a server refuses them on create; they are added to the living mirror"
        ),
        "restartPolicy": _copied("the foreign kubelet restarts containers"),
        "terminationGracePeriodSeconds": _copied("the foreign kubelet stops containers"),
        "activeDeadlineSeconds": _copied("the foreign kubelet ends the pod"),
        "os": _copied("it decides which fields are valid and which nodes fit"),
        "resources": _copied("pod-level requests and limits hold on the real node"),
        "shareProcessNamespace": _copied("inside the pod"),
        "securityContext": _copied("inside the pod; foreign Pod Security has the last word"),
        "runtimeClassName": _copied("the class must exist abroad; its absence is refused there"),
        "overhead": _routine("RuntimeClass admission of each cluster sets its own"),
        "imagePullSecrets": _copied("by name; the foreign kubelet pulls"),
        "hostUsers": _copied("user namespaces are the real node's"),
        # Who it is, and what it reaches.
        "serviceAccountName": Field(Rule.ACCESS, "the account is home's or foreign, by mode"),
        "serviceAccount": _routine("deprecated twin of serviceAccountName"),
        "automountServiceAccountToken": Field(Rule.ACCESS, "off unless the account is foreign"),
        "hostAliases": Field(Rule.ACCESS, "names of the home API server may be added"),
        "hostname": _copied("what the pod calls itself"),
        "subdomain": _copied("what the pod calls itself"),
        "setHostnameAsFQDN": _copied("what the pod calls itself"),
        "hostnameOverride": _copied("what the pod calls itself"),
        "dnsPolicy": _copied("the real node resolves names"),
        "dnsConfig": _copied("the real node resolves names"),
        "enableServiceLinks": _copied(
            "links follow the Services of the mirror's namespace; KUBERNETES_* are set by us"
        ),
        "hostNetwork": Field(Rule.GUARDED, "it is the foreign node's network"),
        "hostPID": Field(Rule.GUARDED, "they are the foreign node's processes"),
        "hostIPC": Field(Rule.GUARDED, "it is the foreign node's memory"),
        "resourceClaims": Field(Rule.GUARDED, "claims and devices are objects of the home cluster"),
        # Where it runs.
        "nodeName": _routine("it names the virtual node; the foreign scheduler chooses a real one"),
        "nodeSelector": Field(
            Rule.REWRITTEN,
            "less the virtual node's labels",
            lambda value, _pod, ctx, changes: scheduling.node_selector(value, ctx, changes),
        ),
        "affinity": Field(
            Rule.REWRITTEN,
            "less the virtual node's labels and merged keys",
            lambda value, pod, ctx, changes: scheduling.affinity(
                value, pod["metadata"].get("labels") or {}, ctx, changes
            ),
        ),
        "tolerations": Field(
            Rule.REWRITTEN,
            "less the virtual node's taints",
            lambda value, _pod, ctx, changes: scheduling.tolerations(value, ctx, changes),
        ),
        "topologySpreadConstraints": Field(
            Rule.REWRITTEN,
            "less the keys that the home server merged in",
            lambda value, _pod, _ctx, changes: scheduling.spread(value, changes),
        ),
        "schedulerName": _dropped(
            "a scheduler of the home cluster does not schedule abroad; the foreign default does",
            usual="default-scheduler",
        ),
        "schedulingGates": _dropped("they gate the home scheduler, which has done its work"),
        "schedulingGroup": _dropped("the PodGroup is an object of the home cluster"),
        "priorityClassName": _copied("by name; without such a class the foreign server refuses"),
        "priority": _routine("Priority admission of each cluster computes it from the class"),
        "preemptionPolicy": _routine("Priority admission of each cluster takes it from the class"),
        "readinessGates": _dropped(
            "their conditions are set on the home pod and judged there", usual=[]
        ),
    }
)


def clean(pod: Pod, ctx: Context) -> tuple[PodSpec, ChangeLog, tuple[str, ...]]:
    """The spec of `pod` by the table, what changed, and the fields that the table lacks.

    Values that do not change are shared with the home pod, so neither may be changed in place.
    """
    changes = ChangeLog()
    unknown: list[str] = []
    spec: JSON = {}
    for name, value in cast("JSON", pod.get("spec", {})).items():
        field = FIELDS.get(name)
        if field is None:
            unknown.append(name)
            spec[name] = value
        elif field.rule is Rule.DROPPED:
            routine = field.routine or value == field.usual
            changes.dropped(f"spec.{name}", field.why, routine=routine)
        elif field.rewrite is not None and value:
            rewritten = field.rewrite(value, pod, ctx, changes)
            if rewritten is not None:
                spec[name] = rewritten
        else:
            spec[name] = value
    return cast("PodSpec", spec), changes, tuple(unknown)
