"""Every kind of write that farlet sends, and how to recognize it by its request."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from clusters import workspace
from faults import failures, manifests
from faults.proxy import Fault, Match, Request

HOME, FOREIGN = "home", "foreign"
_OWN = f"/namespaces/{workspace.FARLET_NAMESPACE}/"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of write: its cluster, and how to recognize it."""

    side: str
    match: Match


def _ends(method: str, *ends: str) -> Match:
    return lambda request: request.method == method and request.path.endswith(ends)


def _on(method: str, resource: str) -> Match:
    return lambda request: request.method == method and f"/{resource}/" in request.path


def _sets(key: str) -> Match:
    def match(request: Request) -> bool:
        metadata = request.json.get("metadata", {}) if _on("PATCH", "pods")(request) else {}
        return key in metadata or key in metadata.get("annotations", {})

    return match


def _own(match: Match, *, own: bool) -> Match:
    return lambda request: match(request) and (_OWN in request.path) is own


def _last_status(request: Request) -> bool:
    """The final status of a pod."""
    phase = request.json.get("status", {}).get("phase") if request.method == "PATCH" else None
    return request.path.endswith("/status") and phase in {"Succeeded", "Failed"}


KINDS: Mapping[str, Kind] = {
    "inventory": Kind(FOREIGN, _own(_ends("POST", "/configmaps"), own=True)),
    "inventory entry": Kind(FOREIGN, _on("PATCH", "configmaps")),
    "home namespace": Kind(FOREIGN, _own(_ends("POST", "/configmaps"), own=False)),
    "token": Kind(HOME, _ends("POST", "/token")),
    "mirror": Kind(FOREIGN, _ends("POST", "/pods")),
    "secret": Kind(FOREIGN, _ends("POST", "/secrets")),
    "refreshed secret": Kind(FOREIGN, _on("PATCH", "secrets")),
    "token times": Kind(FOREIGN, _sets(manifests.TOKENS)),
    "status": Kind(HOME, _ends("PATCH", "/status")),
    "last status": Kind(HOME, _last_status),
    "mirror deletion": Kind(FOREIGN, _on("DELETE", "pods")),
    "finalizer": Kind(FOREIGN, _sets("finalizers")),
    "home deletion": Kind(HOME, _on("DELETE", "pods")),
}


def short_tokens(seconds: int) -> Fault:
    """Shorten the reported lifetime of tokens, so that half of it passes within a test."""

    def short(answer: dict[str, Any]) -> dict[str, Any]:
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        status = {**answer["status"], "expirationTimestamp": expires.isoformat()}
        return {**answer, "status": status}

    return failures.changed(short)


def everything(_: Request) -> bool:
    return True


def watches(resource: str) -> Match:
    """Match watches of a resource."""
    return lambda request: request.watch and request.path.endswith(f"/{resource}")


def lists(resource: str) -> Match:
    """Match lists of a resource."""
    return lambda request: (
        request.method == "GET" and not request.watch and request.path.endswith(f"/{resource}")
    )
