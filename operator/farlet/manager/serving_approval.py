"""Approves requests for serving certificates of farlet pods: the executor of `serving_requests`.

It never denies: what the manager does not approve, an administrator may. A request often arrives
before the status of its pod contains the address, so refused ones are kept until they are decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.k8s_types import Pod
from farlet.manager import serving_requests
from farlet.manager.virtual_node import VirtualNode

MAX_WAITING = 200
"""Refused requests that are kept; Kubernetes deletes undecided ones after a day."""

log = structlog.get_logger()


class Approver:
    """For one event loop; one call at a time."""

    def __init__(self, home: ApiClient) -> None:
        self._home = home
        self._waiting: dict[str, JSON] = {}
        self._logged: dict[str, str] = {}
        """The last refusal of each request that waits."""

    async def review(
        self, request: JSON, nodes: Sequence[VirtualNode], pods: Sequence[Pod]
    ) -> None:
        """Approve a CSR, if it is open and right. Raises nothing.

        `nodes` are all VirtualNodes, `pods` all pods of their namespaces.
        """
        name = request["metadata"]["name"]
        requested = (
            serving_requests.requested_node(request) if serving_requests.is_open(request) else None
        )
        node = next((one for one in nodes if one.name == requested), None)
        if node is None:
            self.forget(name)
            return
        refusal = serving_requests.refusal(request, serving_requests.owner(node, pods))
        if refusal is None:
            refusal = await self._approve(request, node)
        if refusal is None:
            self.forget(name)
            return
        self._waiting[name] = request
        while len(self._waiting) > MAX_WAITING:
            self.forget(next(iter(self._waiting)))
        if self._logged.get(name) != refusal:
            self._logged[name] = refusal
            log.warning(
                "serving certificate request is not approved",
                request=name,
                node=node.name,
                reason=refusal,
                fix=f"if it is right: kubectl certificate approve {name}",
            )

    async def pods_changed(self, nodes: Sequence[VirtualNode], pods: Sequence[Pod]) -> None:
        """Review again what was refused."""
        for request in list(self._waiting.values()):
            await self.review(request, nodes, pods)

    def forget(self, name: str) -> None:
        """A CSR was deleted."""
        self._waiting.pop(name, None)
        self._logged.pop(name, None)

    async def _approve(self, request: JSON, node: VirtualNode) -> str | None:
        """Approve exactly the version that was reviewed; why it failed."""
        name, status = request["metadata"]["name"], request.get("status") or {}
        approval = {
            "type": "Approved",
            "status": "True",
            "reason": "FarletServingCertificate",
            "message": "The requester is this virtual node, and the addresses are its pods'.",
        }
        body = {
            **request,
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "status": {**status, "conditions": [*(status.get("conditions") or ()), approval]},
        }
        try:
            await self._home.replace(kinds.SIGNING_REQUEST_APPROVALS, name, body)
        except (errors.Conflict, errors.NotFound):
            return None  # it has changed or is gone: another event follows
        except errors.FarletError as err:
            return f"the approval failed: {err}"
        log.info("serving certificate request approved", request=name, node=node.name)
        return None
