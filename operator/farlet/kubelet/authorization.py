"""Decides whether a caller is allowed to use an endpoint of the kubelet API, exec included.

As a kubelet does with webhook authorization (`pkg/kubelet/server/auth.go`): the home API server
reviews (SubjectAccessReview) whether the user has the permission `nodes/<subresource>` for this
node. `routes.required_permission` determines that permission from method and path. Without an
answer the request fails with 500.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import orjson
import structlog

from farlet import errors, redaction
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.kubelet.authentication import User
from farlet.kubelet.responses import Refusal
from farlet.kubelet.single_flight_cache import Entry, SingleFlightCache

ALLOWED_SECONDS = 300.0
"""`authorization.webhook.cacheAuthorizedTTL` of a kubelet's configuration."""
DENIED_SECONDS = 30.0
"""`authorization.webhook.cacheUnauthorizedTTL`."""
MAX_CACHED = 1024

log = structlog.get_logger()


class Authorizer:
    """Checks the permissions of callers on this node."""

    def __init__(
        self,
        home: ApiClient,
        *,
        node: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._node = node
        self._reviews: SingleFlightCache[bool] = SingleFlightCache(size=MAX_CACHED, clock=clock)

    async def is_allowed(
        self, user: User, verb: str, path: str, subresources: Sequence[str]
    ) -> bool:
        """Whether the user has the permission for any of the `subresources`, checked in order.

        `path` is for the log. Raises `Refusal` (500) if the home API server does not answer.
        """
        for subresource in subresources:
            try:
                if await self._review(user, verb, subresource):
                    return True
            except (errors.FarletError, TimeoutError) as err:
                log.warning(
                    "failed to review access",
                    user=redaction.value(user.name),
                    path=redaction.value(path),
                    err=str(err) or "timed out",
                )
                raise Refusal(
                    500,
                    f"Authorization error (user={user.name}, verb={verb}, resource=nodes, "
                    f"subresource={subresource})",
                ) from err
        log.info(
            "denied access to kubelet API",
            user=redaction.value(user.name),
            verb=verb,
            path=redaction.value(path),
        )
        return False

    async def _review(self, user: User, verb: str, subresource: str) -> bool:
        spec: JSON = {
            "user": user.name,
            "uid": user.uid,
            "groups": user.groups,
            "extra": dict(user.extra),
            "resourceAttributes": {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node,
            },
        }

        async def review() -> Entry[bool]:
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": spec,
            }
            answer = await self._home.create(resources.ACCESS_REVIEWS, body)
            status = answer.get("status") or {}
            allowed = status.get("allowed") is True and status.get("denied") is not True
            return Entry(allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)

        return await self._reviews.get(hashlib.sha256(orjson.dumps(spec)).digest(), review)


def forbidden(user: User, verb: str, subresources: Sequence[str]) -> Refusal:
    """A kubelet's answer to an authenticated caller without the permission."""
    return Refusal(
        403,
        f"Forbidden (user={user.name}, verb={verb}, resource=nodes, "
        f"subresource(s)=[{' '.join(subresources)}])\n",
    )
