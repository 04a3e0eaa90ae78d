"""Which home namespace a foreign namespace belongs to: a ConfigMap in the namespace itself.

Two home namespaces, of one home cluster or of two, must never share a foreign namespace: pods of
one could then replace pods of the other and mount their tokens. The ConfigMap is created before the
first mirror, and all virtual nodes of one home cluster share it. It stays when the last pod is
gone, and its deletion ends no pod: farlet creates it again.
"""

from __future__ import annotations

import re

from farlet import errors
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import HOME_NAMESPACE_CONFIG_MAP, Reason
from farlet.k8s_types import ConfigMap

HOME_ID = "home-id"
HOME_NAMESPACE = "home-namespace"

_SHOWN = re.compile(r"[A-Za-z0-9._-]{1,63}")
"""What a message repeats of a ConfigMap that others can write."""


async def ensure(cluster: ApiClient, foreign: str, *, home: str, home_id: str) -> None:
    """Write that the foreign namespace belongs to `home`, unless that is done already.

    Raises `Refused` if it belongs to another one, and what `ApiClient.create` raises.
    """
    data = {HOME_ID: home_id, HOME_NAMESPACE: home}
    _require(await _find_or_create(cluster, foreign, data), data, foreign)


async def verify(cluster: ApiClient, foreign: str, *, home: str, home_id: str) -> bool:
    """Whether the foreign namespace belongs to `home`; false if it belongs to none.

    Raises `Refused` if it belongs to another one, and what `ApiClient.get` raises.
    """
    found = await _find(cluster, foreign)
    if found is not None:
        _require(found, {HOME_ID: home_id, HOME_NAMESPACE: home}, foreign)
    return found is not None


async def other_holder(cluster: ApiClient, foreign: str, *, home: str, home_id: str) -> str | None:
    """Who else the foreign namespace belongs to; `None`: it belongs to `home`, or to none.

    Raises what `ApiClient.get` raises.
    """
    found = await _find(cluster, foreign)
    holder = {} if found is None else found.get("data") or {}
    if found is None or holder == {HOME_ID: home_id, HOME_NAMESPACE: home}:
        return None
    return _shown(holder)


def _require(found: ConfigMap, data: dict[str, str], foreign: str) -> None:
    holder = found.get("data") or {}
    if holder != data:
        raise in_use(foreign, home=data[HOME_NAMESPACE], holder=_shown(holder))


def in_use(foreign: str, *, home: str, holder: str) -> errors.Refused:
    """Why pods of the home namespace `home` cannot run in this foreign namespace."""
    return errors.Refused(
        Reason.FOREIGN_NAMESPACE_IN_USE,
        f"the foreign namespace {foreign} belongs to {holder}. Select another one for the home "
        f"namespace {home} (--namespace-map {home}=NAME, --foreign-namespace-template or "
        "--home-name); or, if its holder no longer uses it, run in the foreign cluster: kubectl "
        f"delete configmap {HOME_NAMESPACE_CONFIG_MAP} -n {foreign}",
    )


def _shown(holder: dict[str, str]) -> str:
    namespace, home_id = holder.get(HOME_NAMESPACE, ""), holder.get(HOME_ID, "")
    if not _SHOWN.fullmatch(namespace) or not _SHOWN.fullmatch(home_id):
        return f"an unknown holder: its ConfigMap {HOME_NAMESPACE_CONFIG_MAP} names no valid holder"
    return f"the home namespace {namespace} of the home cluster with the id {home_id}"


async def _find(cluster: ApiClient, foreign: str) -> ConfigMap | None:
    try:
        return await cluster.get(
            resources.CONFIG_MAPS, HOME_NAMESPACE_CONFIG_MAP, namespace=foreign
        )
    except errors.NotFound:
        return None


async def _find_or_create(cluster: ApiClient, foreign: str, data: dict[str, str]) -> ConfigMap:
    found = await _find(cluster, foreign)
    if found is not None:
        return found
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": HOME_NAMESPACE_CONFIG_MAP},
        "immutable": True,
        "data": data,
    }
    try:
        return await cluster.create(resources.CONFIG_MAPS, body, namespace=foreign)
    except errors.Conflict:
        # Created by another process, or by our request whose answer was lost.
        return await cluster.get(
            resources.CONFIG_MAPS, HOME_NAMESPACE_CONFIG_MAP, namespace=foreign
        )
