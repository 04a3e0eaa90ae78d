"""The table of all PodSpec fields: which are copied, rewritten or dropped, and why.

One row per field of `PodSpec` in `k8s.io/api/core/v1/types.go` of Kubernetes 1.34 to 1.37; tests
compare the lists. A field that is not in the table is newer than farlet: it is copied, since
the foreign API server decides whether it knows it, and reported, so that a row gets added.

The table applies before an access strategy shapes the spec, and is the same for all strategies.
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
"""(value, home pod, context, change log) -> new value; `None` removes the field."""


class Rule(Enum):
    """What happens to a field."""

    COPIED = "copied"
    REPORTED = "copied, and reported where its effect may differ"
    REWRITTEN = "rewritten"
    DROPPED = "dropped"
    ACCESS = "shaped by the access strategy"
    COPIES = "names copies of home objects"
    GUARDED = "refused unless allowed, then copied"


@dataclass(frozen=True, slots=True)
class Field:
    """One row. Users see `why` for a field that is dropped."""

    rule: Rule
    why: str
    rewrite: Rewrite | None = None
    routine: bool = False
    """No Event when it is dropped: the home API server sets it on every pod."""
    usual: object = None
    """Dropping this value is routine; a user set any other."""


def _dropped(why: str, *, usual: object = None) -> Field:
    return Field(Rule.DROPPED, why, usual=usual)


def _routine(why: str) -> Field:
    return Field(Rule.DROPPED, why, routine=True)


def _copied(why: str) -> Field:
    return Field(Rule.COPIED, why)


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        # What runs.
        "containers": Field(
            Rule.ACCESS, "environment variables and mounts depend on the access mode"
        ),
        "initContainers": Field(Rule.ACCESS, "sidecars included"),
        "volumes": Field(
            Rule.ACCESS,
            "token sources depend on the access mode; types that reach the node are guarded",
        ),
        "ephemeralContainers": _routine(
            "API servers reject them on create; farlet adds them to the mirror afterwards"
        ),
        "restartPolicy": _copied("the foreign kubelet restarts containers"),
        "terminationGracePeriodSeconds": _copied("the foreign kubelet stops containers"),
        "activeDeadlineSeconds": _copied(
            "the foreign kubelet ends the pod; a further mirror gets what is left of it"
        ),
        "os": _copied("it determines which fields are valid and which nodes fit"),
        "resources": _copied("pod-level requests and limits apply on the real node"),
        "shareProcessNamespace": _copied("inside the pod"),
        "securityContext": _copied("guarded by the tables of `pod_security`"),
        "runtimeClassName": _copied(
            "the class must exist in the foreign cluster, which otherwise rejects the mirror"
        ),
        "overhead": _routine("RuntimeClass admission of each cluster sets its own"),
        "imagePullSecrets": Field(
            Rule.COPIES, "names of copies, and guarded; the foreign kubelet pulls"
        ),
        "hostUsers": _copied("the real node provides user namespaces"),
        # Who it is, and what it reaches.
        "serviceAccountName": Field(
            Rule.ACCESS, "a home or a foreign account, depending on the access mode"
        ),
        "serviceAccount": _routine("deprecated alias of serviceAccountName"),
        "automountServiceAccountToken": Field(Rule.ACCESS, "false unless the account is foreign"),
        "hostAliases": Field(Rule.ACCESS, "names of the home API server may be added"),
        "hostname": _copied("the pod's own host name"),
        "subdomain": Field(Rule.ACCESS, "the FQDN contains the foreign namespace"),
        "setHostnameAsFQDN": Field(
            Rule.ACCESS,
            "the FQDN has the namespace; hostnameOverride keeps that of the home cluster",
        ),
        "hostnameOverride": Field(Rule.ACCESS, "it may be set in place of setHostnameAsFQDN"),
        "dnsPolicy": _copied("the real node resolves names"),
        "dnsConfig": Field(
            Rule.REPORTED,
            "the real node resolves names",
            lambda value, _pod, ctx, changes: _dns_config(value, ctx, changes),
        ),
        "enableServiceLinks": Field(
            Rule.ACCESS,
            "false unless the pod is one of the foreign cluster, or Services are reflected",
        ),
        "hostNetwork": Field(Rule.GUARDED, "gives access to the network of the foreign node"),
        "hostPID": Field(Rule.GUARDED, "gives access to the processes of the foreign node"),
        "hostIPC": Field(Rule.GUARDED, "gives access to the shared memory of the foreign node"),
        "resourceClaims": Field(Rule.GUARDED, "claims and devices are objects of the home cluster"),
        # Where it runs.
        "nodeName": _routine("it names the virtual node; the foreign scheduler chooses a real one"),
        "nodeSelector": Field(
            Rule.REWRITTEN,
            "without the virtual node's labels",
            lambda value, _pod, ctx, changes: scheduling.node_selector(value, ctx, changes),
        ),
        "affinity": Field(
            Rule.REWRITTEN,
            "without the virtual node's labels and merged keys",
            lambda value, pod, ctx, changes: scheduling.affinity(
                value, pod["metadata"].get("labels") or {}, ctx, changes
            ),
        ),
        "tolerations": Field(
            Rule.REWRITTEN,
            "without the virtual node's taints",
            lambda value, _pod, ctx, changes: scheduling.tolerations(value, ctx, changes),
        ),
        "topologySpreadConstraints": Field(
            Rule.REWRITTEN,
            "without the keys that the home API server merged in",
            lambda value, _pod, _ctx, changes: scheduling.spread(value, changes),
        ),
        "schedulerName": _dropped(
            "the foreign cluster's default scheduler places the mirror",
            usual="default-scheduler",
        ),
        "schedulingGates": _dropped("they gate the home scheduler, which has placed the pod"),
        "schedulingGroup": _dropped("the PodGroup is an object of the home cluster"),
        "workloadRef": _dropped("the Workload is an object of the home cluster"),  # 1.35 only
        "evictionResponders": _dropped(
            "they respond to evictions of the home pod, in the home cluster"
        ),
        "priorityClassName": Field(
            Rule.REWRITTEN,
            "by name (--priority-class-map), and guarded; without that class the foreign API "
            "server rejects the mirror",
            lambda value, _pod, ctx, changes: scheduling.priority_class(value, ctx, changes),
        ),
        "priority": _routine("Priority admission of each cluster computes it from the class"),
        "preemptionPolicy": _routine("Priority admission of each cluster takes it from the class"),
        "readinessGates": _dropped(
            "their conditions are set on the home pod and evaluated there", usual=[]
        ),
    }
)


def _dns_config(value: JSON, ctx: Context, changes: ChangeLog) -> JSON:
    """Report what names services of the home cluster, which foreign nodes may not reach."""
    if value.get("nameservers"):
        changes.unchanged(
            "spec.dnsConfig.nameservers",
            "the pod's owner chose these name servers; they must be reachable from foreign nodes",
        )
    suffix = f".svc.{ctx.cluster_domain}"
    if any(isinstance(name, str) and name.endswith(suffix) for name in value.get("searches") or ()):
        changes.unchanged(
            "spec.dnsConfig.searches",
            f"in the foreign cluster, names that end in {suffix} are those of its own namespaces",
        )
    return value


def clean(pod: Pod, ctx: Context) -> tuple[PodSpec, ChangeLog, tuple[str, ...]]:
    """The spec of `pod` by the table, the changes, and fields that are not in the table.

    Unchanged values are shared with the home pod: callers must not change them in place.
    """
    changes = ChangeLog()
    unknown: list[str] = []
    spec: JSON = {}
    for name, value in cast("JSON", pod["spec"]).items():
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
