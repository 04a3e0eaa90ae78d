"""Take a rule out of all Roles that are created while a context is open.

An admission policy changes Roles and ClusterRoles as they are created. So the test and the shipped
manifests stay as they are, and farlet never has the rule, not even for a moment.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from clusters import errors, workspace
from clusters.cluster import Cluster
from clusters.pair import Clusters
from farlet import rbac
from permissions.rules import Rule

NAME = "without-a-rule"
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io/v1"
_SECONDS = 60.0
_PROBE = "farlet-probe"
_KINDS = {"roles": "Role", "clusterroles": "ClusterRole"}


@contextlib.contextmanager
def without(clusters: Clusters, rule: Rule) -> Iterator[None]:
    """No new Role of its cluster contains the rule; what earlier tests left is deleted before."""
    forget_roles(clusters)
    cluster: Cluster = getattr(clusters, rule.cluster)
    objects = policy(rule)
    cluster.apply(*objects)
    try:
        _wait(cluster, rule, removed=True)
        yield
    finally:
        cluster.remove(*reversed(objects))
        _wait(cluster, rule, removed=False)


def forget_roles(clusters: Clusters) -> None:
    """Delete the Roles and bindings of farlet that more than one test uses."""
    namespace = workspace.FARLET_NAMESPACE
    for cluster in (clusters.home, clusters.foreign):
        if not cluster.kubectl("get", "namespace", namespace, "--ignore-not-found", "-oname"):
            cluster.kubectl("create", "namespace", namespace)
        names = cluster.kubectl("get", "clusterroles,clusterrolebindings", "-oname").split()
        ours = [name for name in names if name.partition("/")[2].startswith("farlet")]
        if ours:
            cluster.kubectl("delete", *ours)
        cluster.kubectl("delete", "roles,rolebindings", "--all", f"--namespace={namespace}")


def policy(rule: Rule) -> tuple[Mapping[str, Any], ...]:
    """The policy and its binding."""
    rest = "variables.others"
    if rule.left:
        if rule.row.name:
            raise errors.HarnessError(f"only whole rules with a name can be removed, not {rule}")
        remaining = {
            "apiGroups": [rule.row.group],
            "resources": [rule.row.resource],
            "verbs": list(rule.left),
        }
        rest += f" + [dyn({json.dumps(remaining)})]"
    patch = f'[JSONPatch{{op: "replace", path: "/rules", value: {rest}}}]'
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [_RBAC],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": list(rule.roles),
                }
            ]
        },
        "matchConditions": [
            {"name": "has-rules", "expression": "has(object.rules) && object.rules != null"},
            {
                "name": "is-not-of-kubernetes",
                "expression": '!object.metadata.name.startsWith("system:")',
            },
            {
                "name": "is-in-such-a-namespace",
                "expression": rule.can_be_in('object.metadata.?namespace.orValue("")'),
            },
        ],
        "variables": [
            {
                "name": "others",
                "expression": f"object.rules.filter(rule, !({rule.is_in('rule')}))",
            }
        ],
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {
                    "expression": "size(variables.others) == size(object.rules) ? [] : " + patch
                },
            }
        ],
    }
    return (
        {
            "apiVersion": _ADMISSION,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": NAME},
            "spec": spec,
        },
        {
            "apiVersion": _ADMISSION,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME},
        },
    )


def probes(rule: Rule) -> Iterator[Mapping[str, Any]]:
    """An object of each kind that contains the rule."""
    row = rule.row
    names = ["far"] if row.name == rbac.NODE else [row.name] if row.name else []
    content = {
        "apiGroups": [row.group],
        "resources": [row.resource],
        **({"resourceNames": names} if names else {}),
        "verbs": list(row.verbs),
    }
    for resource in rule.roles:
        metadata = {"name": _PROBE}
        if resource == "roles":
            metadata["namespace"] = rule.namespace or "default"
        yield {
            "apiVersion": f"{_RBAC}/v1",
            "kind": _KINDS[resource],
            "metadata": metadata,
            "rules": [content],
        }


def _wait(cluster: Cluster, rule: Rule, *, removed: bool) -> None:
    """Return once the API server applies the policy, or does not anymore."""
    deadline = time.monotonic() + _SECONDS
    expected = set(rule.left if removed else rule.row.verbs)
    for probe in probes(rule):
        while _verbs(cluster, probe) != expected:
            if time.monotonic() > deadline:
                raise errors.HarnessError(
                    f"the policy that removes {rule} is not {'' if removed else 'in'}active after "
                    f"{_SECONDS:.0f} s"
                )
            time.sleep(0.2)


def _verbs(cluster: Cluster, probe: Mapping[str, Any]) -> set[str]:
    """The verbs that the API server would store."""
    command = ("create", "--dry-run=server", "-f", "-", "-ojson")
    created = json.loads(cluster.kubectl(*command, content=json.dumps(probe)))
    return {verb for rule in created.get("rules") or () for verb in rule["verbs"]}
