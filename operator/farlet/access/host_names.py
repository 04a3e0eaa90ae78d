"""The pod's fully qualified host name (FQDN), as in the home cluster.

A kubelet derives it from the namespace and the domain of its own cluster
(`GeneratePodHostNameAndDomain` in pkg/kubelet/kubelet_pods.go), so that of a mirror differs. It is
kept where a pod asks for it as its host name, and reported elsewhere.

All strategies use this except `remote`.
"""

from __future__ import annotations

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import Context
from farlet.k8s_types import Pod

LONGEST = 63
"""Characters of a host name that a kubelet does not cut (`truncatePodHostnameIfNeeded`)."""


def keep(spec: JSON, pod: Pod, ctx: Context, changes: ChangeLog) -> None:
    """Change `spec`, a shallow copy, so that its host name is that of the home cluster."""
    home = pod["metadata"]
    foreign = ctx.namespaces.foreign(home["namespace"])
    if not spec.get("subdomain") or spec.get("hostnameOverride") or spec.get("hostNetwork"):
        return  # a kubelet adds no namespace then
    if foreign == home["namespace"]:
        return
    domain = f"{spec['subdomain']}.{home['namespace']}.svc.{ctx.cluster_domain}"
    name = _cut(spec.get("hostname") or home["name"])
    fqdn = f"{name}.{domain}"
    if spec.get("setHostnameAsFQDN") and len(fqdn) <= LONGEST:
        del spec["setHostnameAsFQDN"]
        spec["hostnameOverride"] = fqdn
        why = (
            f"spec.hostnameOverride keeps the host name {fqdn} of the home cluster; "
            f"/etc/hosts lacks the short name {name}"
        )
        changes.rewritten("spec.setHostnameAsFQDN", why)
        return
    path = "spec.setHostnameAsFQDN" if spec.get("setHostnameAsFQDN") else "spec.subdomain"
    why = (
        f"the pod's own FQDN (hostname -f, /etc/hosts) is {name}.{spec['subdomain']}.{foreign}.svc "
        f"and the domain of the foreign cluster, not {fqdn}"
    )
    changes.unchanged(path, why)


def _cut(name: str) -> str:
    return name[:LONGEST].rstrip("-.")
