"""The labels that the admission plugin NodeRestriction does not let a node set on itself.

Source: `plugin/pkg/admission/noderestriction/admission.go`. Only messages with a fix use this:
the API server decides.
"""

from __future__ import annotations

from collections.abc import Iterable

from farlet.constants import ARCH_LABEL, HOSTNAME_LABEL, OS_LABEL

_ALLOWED = frozenset(
    {
        HOSTNAME_LABEL,
        OS_LABEL,
        ARCH_LABEL,
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
    }
)
"""`kubeletLabels` in `kubelet/pkg/apis/well_known_labels.go`."""

_ALLOWED_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


def restricted_labels(keys: Iterable[str]) -> list[str]:
    """Labels that a node cannot set on itself, sorted (`getForbiddenLabels`)."""
    return sorted(key for key in keys if _restricted(key))


def _restricted(key: str) -> bool:
    domain, slash, _ = key.rpartition("/")
    if not slash or not _within(domain, ("kubernetes.io", "k8s.io")):
        return False
    if _within(domain, ("node-restriction.kubernetes.io",)):
        return True
    return key not in _ALLOWED and not _within(domain, _ALLOWED_DOMAINS)


def _within(domain: str, parents: Iterable[str]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
