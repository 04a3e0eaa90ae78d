"""Whether a farlet serves a virtual node, from the Lease of that node. Pure.

The Node shows it much later: the home cluster waits for its grace period, which can be minutes.
"""

from __future__ import annotations

from farlet.cli.reading import Absent, Unread, age, clean
from farlet.forge import timestamps
from farlet.k8s_types import Lease

NAMESPACE = "kube-node-lease"
_LASTS = 40
"""Seconds, where the Lease does not say: those of a kubelet."""


def holder(lease: Lease | Absent | Unread | None) -> str:
    """The pod or host that holds it; empty if none is known."""
    if lease is None or isinstance(lease, Absent | Unread):
        return ""
    found = clean((lease.get("spec") or {}).get("holderIdentity") or "", most=300)
    return found.rpartition("_")[0] or found  # HOSTNAME_UUID of an election, NODE@HOST without


def renewed_seconds(lease: Lease | Absent | Unread | None, now: float) -> float | None:
    """Since it was renewed; `None`: not known."""
    if lease is None or isinstance(lease, Absent | Unread):
        return None
    moment = timestamps.epoch((lease.get("spec") or {}).get("renewTime"))
    return None if moment is None else max(now - moment, 0.0)


def unserved(lease: Lease | Absent | Unread | None, now: float) -> str:
    """Why no farlet serves the node; empty: one does, as far as the Lease says."""
    if lease is None or isinstance(lease, Unread):
        return ""
    if isinstance(lease, Absent):
        return "no farlet serves it: it has no Lease"
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity"):
        return "no farlet serves it: the last one has released its Lease"
    seconds, lasts = renewed_seconds(lease, now), spec.get("leaseDurationSeconds", _LASTS)
    if seconds is None or seconds <= lasts:
        return ""
    return (
        f"no farlet serves it: its Lease, which lasts {lasts}s, was renewed {age(seconds)} ago, by "
        f"{holder(lease)}"
    )
