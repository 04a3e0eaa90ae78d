"""The condition CredentialsValid of virtual nodes: when their credentials are checked, and what
follows from all of them.

Everything that must survive a restart is in the Secrets: `home_credentials` and
`foreign_credentials` check and renew what is in them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from farlet import errors
from farlet.constants import ObjectKey
from farlet.manager import findings
from farlet.manager.conditions import Condition
from farlet.manager.findings import Finding
from farlet.manager.foreign_credentials import ForeignCredentials
from farlet.manager.home_credentials import HomeClient, HomeCredentials
from farlet.manager.kubeconfig_client import Connect
from farlet.manager.verification import Verification
from farlet.manager.virtual_node import Identity, VirtualNode

CHECK_EVERY = timedelta(minutes=1)
"""Between two checks of the credentials of a node while nothing has changed."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Check:
    """A check of the credentials of a node."""

    node: VirtualNode
    mounted: frozenset[str]
    rejected: frozenset[str]
    changes: int
    """How many changes of its Secrets and CSRs had been reported when it began."""
    at: datetime

    def suffices_for(self, other: _Check) -> bool:
        """Whether a later check would find the same."""
        same = replace(other, at=self.at) == self
        return same and other.at < self.at + CHECK_EVERY


class Credentials:
    """The credentials of all virtual nodes. For one event loop; one call per node at a time."""

    def __init__(
        self,
        home: HomeClient,
        *,
        now: Callable[[], datetime],
        connect: Connect,
    ) -> None:
        self._now = now
        self._verification = Verification(connect, now=now)
        self._home_credentials = HomeCredentials(
            home, verification=self._verification, connect=connect, now=now
        )
        self._foreign_credentials = ForeignCredentials(
            home, verification=self._verification, connect=connect, now=now
        )
        self._changes: Counter[ObjectKey] = Counter()
        self._last: dict[ObjectKey, tuple[_Check, Condition]] = {}
        """The last check of each node, and what it has found."""

    def forget(self, key: ObjectKey) -> None:
        """The VirtualNode is gone."""
        self._verification.forget(key)
        self._foreign_credentials.forget(key)
        self._last.pop(key, None)
        self._changes.pop(key, None)

    def changed(self, key: ObjectKey) -> None:
        """A Secret or a CSR of this VirtualNode has changed: its next check is due."""
        self._changes[key] += 1

    async def reconcile(
        self,
        node: VirtualNode,
        mounted: frozenset[str] = frozenset(),
        rejected: frozenset[str] = frozenset(),
    ) -> Condition:
        """Check the credentials of a node, and renew what is due: the condition CredentialsValid.

        `mounted` are the foreign Secrets that its pods mount, beside that of its spec; `rejected`
        are those that the foreign API server does not accept, as its pods report.
        Raises `FarletError` if the home API server does not answer or does not allow it. May be
        called at any time; it sends requests once a minute, and after `changed`.
        """
        check = _Check(node, mounted, rejected, self._changes[node.key], self._now())
        last = self._last.get(node.key)
        if last is not None and last[0].suffices_for(check):
            return last[1]
        found = await self._check(check)
        self._last[node.key] = check, found
        return found

    async def _check(self, check: _Check) -> Condition:
        for attempt in (1, 2):
            try:
                return findings.condition(await self._findings(check))
            except errors.Conflict:  # another client has changed the Secret: decide again
                if attempt == 2:
                    raise
        raise AssertionError("the loop returns or raises")

    async def _findings(self, wanted: _Check) -> list[Finding]:
        """About each of its credentials: what one check meets must not keep another from renewing.

        Raises what a check met, unless other credentials cannot be used: that is certain.
        """
        node = wanted.node
        secrets = (node.foreign_secret, *sorted(wanted.mounted - {node.foreign_secret}))
        checks = [
            functools.partial(
                self._foreign_credentials.check, node, name, rejected=name in wanted.rejected
            )
            for name in secrets
        ]
        if node.spec.identity is Identity.NODE:
            checks.append(functools.partial(self._home_credentials.check, node))
        found: list[Finding] = []
        failed: list[Exception] = []
        for check in checks:
            try:
                found.append(await check())
            except Exception as err:  # noqa: BLE001 - it is raised or logged below
                failed.append(err)
        if not failed:
            return found
        if isinstance(failed[0], errors.Conflict) or all(one.status != "False" for one in found):
            raise failed[0]
        log.warning("failed to check credentials", node=node.name, exc_info=failed[0])
        return found
