"""Foreign Services and EndpointSlices that show those of the home namespace: pure.

A foreign Service has the name and ports of the home one, an address of the foreign cluster, and no
selector. Its EndpointSlices have the endpoints that home's controllers publish, mirrors included.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def service(home: JSON) -> JSON | None:
    """The foreign Service of a home Service; `None`: it has none (`default/kubernetes`)."""
    metadata, spec = home["metadata"], home.get("spec") or {}
    if (metadata["namespace"], metadata["name"]) == _API_SERVER:
        return None
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
        "metadata": _metadata(metadata, metadata["name"]),
        "spec": shown,
    }


def endpoint_slice(home: JSON, ctx: Context) -> JSON | None:
    """The foreign EndpointSlice of a home one; `None`: it belongs to no Service."""
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
    shown = _metadata(metadata, name)
    shown["labels"] |= {SERVICE_NAME: owner, _MANAGED_BY: _MANAGER}
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


def _metadata(home: ObjectMeta, name: str) -> JSON:
    state = f"{home['uid']}/{home['resourceVersion']}"
    return {"name": name, "labels": {REFLECTED: "true"}, "annotations": {HOME_STATE: state}}


def _only(found: Mapping[str, object], keys: tuple[str, ...]) -> JSON:
    return {key: found[key] for key in keys if found.get(key) is not None}
