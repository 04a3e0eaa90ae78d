"""As which user an API server accepts credentials, asked now and then: they can be revoked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from farlet import errors
from farlet.client import credentials, resources
from farlet.constants import ObjectKey
from farlet.manager.kubeconfig_client import Connect
from farlet.manager.kubeconfigs import Kubeconfig
from farlet.manager.virtual_node import VirtualNode

VERIFY_EVERY = timedelta(minutes=10)
"""Accepted credentials are verified again after this time."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verified:
    """What an API server said about credentials."""

    digest: bytes
    at: datetime
    user: str | None
    """`None`: it does not accept them."""


class Verification:
    """What API servers said last about the credentials of all virtual nodes."""

    def __init__(self, connect: Connect, *, now: Callable[[], datetime]) -> None:
        self._connect = connect
        self._now = now
        self._known: dict[tuple[ObjectKey, str], Verified] = {}
        """By VirtualNode and name of the Secret."""

    def forget(self, key: ObjectKey) -> None:
        """The VirtualNode is gone."""
        self._known = {one: found for one, found in self._known.items() if one[0] != key}

    def accepted(self, node: VirtualNode, secret: str, config: Kubeconfig, *, user: str) -> None:
        """An API server has accepted what is written into a Secret."""
        self._known[node.key, secret] = Verified(digest(config), self._now(), user)

    async def of(
        self,
        node: VirtualNode,
        secret: str,
        cluster: credentials.Name,
        config: Kubeconfig,
        *,
        rejected: bool = False,
    ) -> Verified | None:
        """What the API server said last about the credentials in a Secret; `None` while it does
        not answer.

        `rejected`: it answered a pod with 401. The pod can have read the Secret before its last
        change, so the API server is asked anew; if it does not answer, what the pod says counts.
        """
        known = self._known.get((node.key, secret))
        new, now = digest(config), self._now()
        if known is not None and known.digest != new:
            known = None
        if known is not None and rejected:
            known = Verified(new, now, None)
        elif known is not None and known.user is not None and now < known.at + VERIFY_EVERY:
            return known
        try:
            user = await self.user(cluster, config)
        except errors.FarletError as err:
            log.debug("failed to verify credentials", node=node.name, err=str(err))
            return known
        verified = self._known[node.key, secret] = Verified(new, now, user)
        return verified

    async def user(self, cluster: credentials.Name, config: Kubeconfig) -> str | None:
        """Which user the credentials are of; `None` if they are not accepted.

        Raises `FarletError` if the API server does not answer.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
        }
        async with self._connect(cluster, config) as client:
            try:
                answer = await client.create(resources.SELF_REVIEWS, body)
            except errors.Unauthorized:
                return None
        return str(answer["status"]["userInfo"]["username"])


def digest(config: Kubeconfig) -> bytes:
    """The same for the same credentials."""
    return hashlib.sha256(config.text().encode()).digest()
