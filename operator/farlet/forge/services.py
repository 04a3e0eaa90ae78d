"""Foreign Services and EndpointSlices that show those of the home namespace: pure.

A foreign Service has the name and ports of the home one, an address of the foreign cluster, and no
selector. Its EndpointSlices have the endpoints that home's controllers publish, mirrors included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from farlet import names
from farlet.constants import HOME_STATE, JSON, REFLECTED
from farlet.context import Context
from farlet.k8s_types import ObjectMeta

SERVICE_NAME = "kubernetes.io/service-name"
"""Label by which an EndpointSlice belongs to a Service."""
_HEADLESS = "service.kubernetes.io/headless"
"""Label by which kube-proxy leaves a slice out."""
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
"""Label by which a controller leaves the slices of others alone."""
_MANAGER = "farlet.io"
_API_SERVER = ("default", "kubernetes")

_PORT = ("name", "protocol", "port", "targetPort", "appProtocol")
_ENDPOINT = ("conditions", "hostname")


class Identity(NamedTuple):
    """What a foreign object shows, known before it is forged."""

    name: str
    service: str
    """The Service that it is, or that it belongs to."""
    state: str
    """The value of its annotation `HOME_STATE`."""


def service_identity(home: JSON) -> Identity | None:
    """That of the foreign Service; `None`: there is none (`default/kubernetes`)."""
    metadata = home["metadata"]
    name = metadata["name"]
    if (metadata["namespace"], name) == _API_SERVER:
        return None
    return Identity(name, name, _state(metadata))


def slice_identity(home: JSON, ctx: Context) -> Identity | None:
    """That of the foreign EndpointSlice; `None`: the home one belongs to no Service."""
    metadata = home["metadata"]
    owner = metadata.get("labels", {}).get(SERVICE_NAME)
    if not owner:
        return None
    name = names.copy_name(
        metadata["name"],
        home_id=ctx.home_id,
        namespace=metadata["namespace"],
        kind="EndpointSlice",
    )
    return Identity(name, owner, _state(metadata))


def service(home: JSON, identity: Identity) -> JSON:
    """The foreign Service of a home Service."""
    spec = home.get("spec") or {}
    shown: JSON = {}
    if spec.get("type") == "ExternalName":
        shown = {"type": "ExternalName", "externalName": spec.get("externalName", "")}
    elif spec.get("clusterIP") == "None":
        shown["clusterIP"] = "None"
    if spec.get("ports"):
        shown["ports"] = [_only(port, _PORT) for port in spec["ports"]]
    if spec.get("sessionAffinity") == "ClientIP":
        shown["sessionAffinity"] = "ClientIP"
        if spec.get("sessionAffinityConfig"):
            shown["sessionAffinityConfig"] = spec["sessionAffinityConfig"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(identity),
        "spec": shown,
    }


def endpoint_slice(home: JSON, identity: Identity, ctx: Context) -> JSON:
    """The foreign EndpointSlice of a home one."""
    metadata = home["metadata"]
    shown = _metadata(identity)
    shown["labels"] |= {SERVICE_NAME: identity.service, _MANAGED_BY: _MANAGER}
    if _HEADLESS in metadata["labels"]:
        shown["labels"][_HEADLESS] = metadata["labels"][_HEADLESS]
    translate = str if home.get("addressType") == "FQDN" else ctx.to_foreign_ip
    endpoints = []
    for endpoint in home.get("endpoints") or ():
        addresses = [ip for ip in map(translate, endpoint.get("addresses") or ()) if ip]
        if addresses:
            endpoints.append({"addresses": addresses, **_only(endpoint, _ENDPOINT)})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": shown,
        "addressType": home.get("addressType"),
        "endpoints": endpoints,
        "ports": [_only(port, _PORT) for port in home.get("ports") or ()],
    }


def _state(home: ObjectMeta) -> str:
    return f"{home['uid']}/{home['resourceVersion']}"


def _metadata(identity: Identity) -> JSON:
    return {
        "name": identity.name,
        "labels": {REFLECTED: "true"},
        "annotations": {HOME_STATE: identity.state},
    }


def _only(found: Mapping[str, object], keys: tuple[str, ...]) -> JSON:
    return {key: found[key] for key in keys if found.get(key) is not None}
