"""How many connections this process can accept without running out of open files.

A process that has none left cannot renew its Lease. So a part of the limit is reserved for farlet's
own connections: requests, one watch for each kind of object in each foreign namespace, files.
The listeners share the rest.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from farlet import errors

LEAST = 512
"""Open files without which farlet does not start."""

RESERVED = 256
"""Kept for farlet itself, or a quarter of the limit if that is more: 40 foreign namespaces."""

ENOUGH = 2**20
"""In place of no limit; the kernel's default maximum (`fs.nr_open`)."""

MAX_KUBELET = 2048
"""Connections to the kubelet API. Each takes 20 to 90 KiB (docs/decisions/0009-kubelet-streams.md)
and two files: a stream has one of its own to the foreign API server."""

MAX_RELAYS = 4000
"""Connections of pods through a gateway, at either end."""

MAX_PROBES = 64
"""Connections to each port for probes and metrics."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limit of open files, shared out."""

    limit: int

    @property
    def kubelet(self) -> int:
        """Connections to the kubelet API."""
        return min(MAX_KUBELET, self._rest // 2 // 2)

    @property
    def relays(self) -> int:
        """Connections of pods."""
        return min(MAX_RELAYS, self._rest // 2)

    @property
    def _rest(self) -> int:
        """For everything but farlet itself and two ports for probes and metrics."""
        return self.limit - max(RESERVED, self.limit // 4) - 2 * MAX_PROBES


def raise_limit() -> Budget:
    """Raise the soft limit of open files to the hard one, as Go programs do.

    Raises `StartError` for a hard limit that is too small.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = ENOUGH if hard == resource.RLIM_INFINITY else hard
    if limit < LEAST:
        raise errors.StartError(
            f"this process can open only {limit} files, and farlet requires {LEAST}: raise the "
            "hard limit with `ulimit -Hn 65536`, LimitNOFILE=65536 in the systemd unit, or the "
            "container runtime's limit for nofile"
        )
    return Budget(limit)
