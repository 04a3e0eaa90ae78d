"""Live reads of home pods, for decisions that must not rest on a watch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.joined_read import JoinedRead
from farlet.constants import ObjectKey
from farlet.k8s_types import Pod


class HomeLookup:
    """Finds home pods by name. Callers that wait at the same time share one list.

    So a thousand mirrors without a home pod, which a user of the foreign cluster may have
    forged, cost a few lists of their namespace and not a thousand requests.
    """

    def __init__(self, cluster: ApiClient, *, node: Callable[[], str]) -> None:
        self._cluster = cluster
        self._node = node
        self._reads: dict[str, JoinedRead[Mapping[str, Pod]]] = {}
        self._wanted: dict[str, set[str]] = {}

    async def find(self, key: ObjectKey) -> Pod | None:
        """The pod of this name that is bound to our node. Raises like `ApiClient.list`."""
        namespace = key.namespace
        if namespace not in self._reads:
            self._reads[namespace] = JoinedRead(functools.partial(self._list, namespace))
        self._wanted.setdefault(namespace, set()).add(key.name)
        found = await self._reads[namespace]()
        return found.get(key.name)

    async def _list(self, namespace: str) -> Mapping[str, Pod]:
        """A list, because the Node authorizer answers 403 to a node that asks by name for a pod
        that is gone or belongs to another node (`authorizePod` in
        `plugin/pkg/auth/authorizer/node`).
        """
        names = self._wanted.pop(namespace)
        selector = f"spec.nodeName={self._node()}"
        if len(names) == 1:
            selector = f"metadata.name={next(iter(names))},{selector}"
        listed, _ = await self._cluster.list_all(
            resources.PODS, namespace=namespace, field_selector=selector
        )
        return {pod["metadata"]["name"]: pod for pod in listed if pod["metadata"]["name"] in names}
