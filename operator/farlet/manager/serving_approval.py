"""Approves requests for serving certificates of farlet pods: the executor of `serving_requests`.

It never denies: an administrator can approve what the manager does not. A request often arrives
before the status of its pod contains the address, so open ones are kept until they are decided, and
reviewed again when a pod or a VirtualNode has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import orjson
import structlog

from farlet import errors, retrying
from farlet.client import kinds, resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.k8s_types import Pod
from farlet.manager import serving_requests
from farlet.manager.virtual_node import INSTANCE_LABEL, VirtualNode

MAX_OPEN = 2000
"""Requests that are kept; Kubernetes deletes undecided ones after a day. Those of virtual nodes
displace those of other nodes, of which a cluster can have many."""
MAX_REQUEST_BYTES = 32 << 10
"""Limit of such a request with its metadata; one of farlet has 3 KiB."""
RETRY_SECONDS = 60.0
"""Pause before a request of a virtual node that was refused is reviewed again."""
RESYNC_SECONDS = 300.0
"""Until requests are listed anew, while some are open."""
MIN_INTERVAL_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Open:
    """A request that is not decided, and the node that has created it."""

    request: JSON
    node: str


class Approver:
    """For one event loop."""

    def __init__(
        self, home: ApiClient, *, namespace: str, nodes: Callable[[], Sequence[VirtualNode]]
    ) -> None:
        """`nodes` are all VirtualNodes, `namespace` is that of their pods."""
        self._home = home
        self._namespace = namespace
        self._nodes = nodes
        self._open: dict[str, _Open] = {}
        """By the name of the request, the oldest first."""
        self._refusals: dict[str, str] = {}
        """Why a request of a virtual node was not approved, by its name."""
        self._wake = asyncio.Event()

    def changed(self, request: JSON, *, deleted: bool) -> None:
        """Note the present version of a CSR."""
        name = request["metadata"]["name"]
        node = serving_requests.requesting_node(request, namespace=self._namespace)
        if deleted or node is None or not serving_requests.is_open(request):
            self._forget(name)
            return
        if len(orjson.dumps(request)) > MAX_REQUEST_BYTES:
            self._forget(name)
            log.warning("serving certificate request is too large", request=name, node=node)
            return
        self._open[name] = _Open(request, node)
        if len(self._open) > MAX_OPEN:
            self._forget(self._dispensable())
        self.wake()

    def _dispensable(self) -> str:
        """The request to forget: the oldest of a node that is not virtual, else the oldest."""
        ours = {node.name for node in self._nodes()}
        others = (name for name, one in self._open.items() if one.node not in ours)
        return next(others, next(iter(self._open)))

    def wake(self) -> None:
        """A pod or a VirtualNode has changed."""
        if self._open:
            self._wake.set()

    async def run(self) -> NoReturn:
        """Review requests until cancelled."""
        loop = asyncio.get_running_loop()
        resync_at = loop.time() + RESYNC_SECONDS
        while True:
            await retrying.wait(self._wake, RETRY_SECONDS)
            self._wake.clear()
            try:
                await self.review()
                if loop.time() >= resync_at:
                    await self.resync()
                    resync_at = loop.time() + RESYNC_SECONDS
            except errors.FarletError as err:
                log.warning("failed to review serving certificate requests", err=str(err))
            except Exception:
                log.exception(
                    "review of serving certificate requests failed with an internal error"
                )
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    async def review(self) -> None:
        """Approve all open requests that are right. Raises `FarletError`."""
        nodes = {node.name: node for node in self._nodes()}
        ours = [name for name, one in self._open.items() if one.node in nodes]
        if not ours:
            return
        pods: dict[str, list[Pod]] = {}
        for pod in (await self._home.list(resources.PODS, namespace=self._namespace)).items:
            labels = pod["metadata"].get("labels") or {}
            pods.setdefault(labels.get(INSTANCE_LABEL, ""), []).append(pod)
        for name in ours:
            if (one := self._open.get(name)) is not None:
                await self._review(one.request, nodes[one.node], pods.get(one.node, ()))

    async def resync(self) -> None:
        """Forget requests that are gone: a watch that was interrupted can miss deletions.

        Raises `FarletError`.
        """
        known = dict(self._open)
        if not known:
            return
        listed = await self._home.list_all(kinds.SIGNING_REQUESTS.metadata_only)
        present = {one["metadata"]["uid"] for one in listed.items}
        for name, one in known.items():
            is_gone = one.request["metadata"]["uid"] not in present
            # A version that arrived later can be newer than the list.
            if is_gone and self._open.get(name) is one:
                self._forget(name)

    async def _review(self, request: JSON, node: VirtualNode, pods: Sequence[Pod]) -> None:
        name = request["metadata"]["name"]
        refusal = serving_requests.refusal(request, serving_requests.owner(node, pods))
        if refusal is None:
            refusal = await self._approve(request, node)
        if refusal is None:
            self._forget(name)
        elif self._refusals.get(name) != refusal:
            self._refusals[name] = refusal
            log.warning(
                "serving certificate request is not approved",
                request=name,
                node=node.name,
                reason=refusal,
                fix=f"if it is right: kubectl certificate approve {name}",
            )

    def _forget(self, name: str) -> None:
        self._open.pop(name, None)
        self._refusals.pop(name, None)

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
