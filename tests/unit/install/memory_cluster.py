"""An API server in memory, with what farlet and Kubernetes do in the two clusters of `connect`.

It knows names, namespaces, uids, labels, finalizers and server-side apply, as far as `connect` and
`disconnect` depend on them. It can be killed before any write.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from farlet import errors
from farlet.client import resources
from farlet.client.decode import WatchEvent
from unit.fakeclient import FakeClient

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace, name."""

MANAGER = "system:serviceaccount:farlet:farlet-manager"
_KEY = ec.generate_private_key(ec.SECP256R1())


class Killed(BaseException):
    """The process that sent the request was killed."""


class Process:
    """The process that sends requests to both clusters."""

    def __init__(self) -> None:
        self.writes = 0
        self.lives: int | None = None
        """How many more writes it sends before it is killed; `None`: it is not."""

    def write(self) -> None:
        """The process is about to send a write."""
        if self.lives is not None:
            if self.lives == 0:
                raise Killed
            self.lives -= 1
        self.writes += 1


class MemoryCluster(FakeClient):
    """One API server."""

    def __init__(self, name: str, *, uid: str, process: Process) -> None:
        self._name = name
        self.objects: dict[Key, Object] = {}
        self._process = process
        self.denied: set[tuple[str, str]] = set()
        """Verbs on plurals that access reviews deny."""
        self.tokens: set[str] = set()
        self.settle: Callable[[], None] = lambda: None
        """Called after each write: what controllers do."""
        self._numbers = itertools.count(1)
        self.issue: Callable[[], str] = lambda: f"token-{next(self._numbers)}"
        """A new token of a ServiceAccount."""
        for one in ("kube-system", "kube-node-lease", "default"):
            self.put("namespaces", "", {"metadata": {"name": one, "uid": f"{uid}-{one}"}})
        self.put("services", "default", {"metadata": {"name": "kubernetes", "uid": f"{uid}-home"}})

    @property
    def name(self) -> str:
        return self._name

    # --- content ------------------------------------------------------------------------------

    def put(self, plural: str, namespace: str, obj: Object) -> Object:
        """Store an object as if it had been created."""
        stored = copy.deepcopy(obj)
        metadata = stored.setdefault("metadata", {})
        if namespace:
            metadata["namespace"] = namespace
        number = str(next(self._numbers))
        metadata.setdefault("uid", f"uid-{number}")
        metadata.setdefault("generation", 1)
        metadata["resourceVersion"] = number
        self.objects[plural, namespace, metadata["name"]] = stored
        return stored

    def names(self) -> list[Key]:
        """All objects."""
        return sorted(self.objects)

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((plural, namespace, name))

    def content(self) -> dict[Key, Object]:
        """All objects without what differs between two runs."""
        found = copy.deepcopy(self.objects)
        for obj in found.values():
            for field in ("uid", "resourceVersion", "generation"):
                obj["metadata"].pop(field, None)
            obj.pop("data", None)
            if "replicas" in (obj.get("status") or {}):
                obj.pop("status")
            template = (obj.get("spec") or {}).get("template") or {}
            template.get("metadata", {}).pop("annotations", None)
            (obj.get("spec") or {}).pop("request", None)
        return found

    # --- requests -----------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = resources.JSON_BODY,
        accept: str | None = None,
    ) -> Object:
        path, _, query = path.partition("?")
        if path == "/version":
            return {"gitVersion": "v1.36.3"}
        group, plural, namespace, name, sub = _parsed(path)
        if plural in ("selfsubjectaccessreviews", "tokenreviews"):
            return self._review(plural, body)
        if method == "GET":
            return self._read(plural, namespace, name, parse_qs(query))
        self._process.write()
        answer = self._write(method, (plural, namespace, name), sub, body, content_type)
        if group == "farlet.io" and self.find("customresourcedefinitions", "", _DEFINITION) is None:
            raise _unknown(path)
        self.settle()
        return copy.deepcopy(answer)

    async def watch_path(
        self,
        path: str,
        *,
        accept: str | None = None,
        bookmarks: bool = True,
        opened: Callable[[], None],
    ) -> AsyncIterator[WatchEvent[Object]]:
        """Each watch ends at once: a caller that waits reads again."""
        opened()
        events: list[WatchEvent[Object]] = []
        for event in events:
            yield event

    def _read(self, plural: str, namespace: str, name: str, query: dict[str, list[str]]) -> Object:
        if plural == "virtualnodes" and not self.find("customresourcedefinitions", "", _DEFINITION):
            raise _unknown(plural)
        if name:
            found = self.find(plural, namespace, name)
            if found is None:
                raise _error(errors.NotFound, 404)
            return copy.deepcopy(found)
        items = [
            copy.deepcopy(obj)
            for (kind, where, _), obj in sorted(self.objects.items())
            if kind == plural and (not namespace or where == namespace) and _selected(obj, query)
        ]
        return {"metadata": {"resourceVersion": "1"}, "items": items}

    def _write(self, method: str, key: Key, sub: str, body: Any, content_type: str) -> Object:
        plural, namespace, _ = key
        if namespace and self.find("namespaces", "", namespace) is None:
            raise _error(errors.NotFound, 404)
        if method == "POST" and sub == "token":
            token = self.issue()
            self.tokens.add(token)
            return {"status": {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}}
        if method == "POST" and sub == "eviction":
            self._delete(key)
            return {}
        if method == "POST":
            key = (plural, namespace, body["metadata"]["name"])
            if key in self.objects:
                raise _error(errors.Conflict, 409, "AlreadyExists")
            return self.put(plural, namespace, body)
        found = self.objects.get(key)
        if method == "PATCH" and content_type == resources.APPLY_PATCH:
            if found is None:
                return self.put(plural, namespace, body)
            return self._merged(key, found, body)
        if found is None:
            raise _error(errors.NotFound, 404)
        if method == "DELETE":
            wanted = (body.get("preconditions") or {}).get("uid", found["metadata"]["uid"])
            if wanted != found["metadata"]["uid"]:
                raise _error(errors.Conflict, 409)
            return self._delete(key)
        if method == "PUT":
            return self.put(plural, namespace, body)
        return self._merged(key, found, body)

    def _merged(self, key: Key, found: Object, body: Object) -> Object:
        before = copy.deepcopy(found)
        _merge(found, body)
        if found["metadata"].get("deletionTimestamp") and not found["metadata"].get("finalizers"):
            del self.objects[key]
        if found.get("spec") != before.get("spec"):
            found["metadata"]["generation"] += 1
        return found

    def _delete(self, key: Key) -> Object:
        found = self.objects[key]
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return found
        del self.objects[key]
        plural, _, name = key
        if plural == "namespaces":
            for one in [one for one in self.objects if one[1] == name]:
                assert not self.objects[one]["metadata"].get("finalizers"), one
                del self.objects[one]
        if plural == "customresourcedefinitions":
            self.objects = {k: v for k, v in self.objects.items() if k[0] != "virtualnodes"}
        return found

    def _review(self, plural: str, body: Any) -> Object:
        if plural == "tokenreviews":
            ok = body["spec"]["token"] in self.tokens
            user = "system:serviceaccount:farlet-far:farlet"
            return {"status": {"authenticated": ok, "user": {"username": user} if ok else {}}}
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.denied}}


_DEFINITION = "virtualnodes.farlet.io"


def _parsed(path: str) -> tuple[str, str, str, str, str]:
    """Group, plural, namespace, name, subresource."""
    parts = [unquote(one) for one in path.strip("/").split("/")]
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = (*rest, "", "")[:3]
    return group, plural, namespace, name, sub


def _selected(obj: Object, query: dict[str, list[str]]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    for selector in query.get("labelSelector", [""])[0].split(","):
        label, equals, value = selector.partition("=")
        if label and (label not in labels or (equals and labels[label] != value)):
            return False
    for selector in query.get("fieldSelector", []):
        path, _, value = selector.partition("=")
        found: Any = obj
        for part in path.split("."):
            found = (found or {}).get(part)
        if found != value:
            return False
    return True


def _merge(target: Object, body: Object) -> None:
    for field, value in body.items():
        if value is None:
            target.pop(field, None)
        elif isinstance(value, dict) and isinstance(target.get(field), dict):
            _merge(target[field], value)
        else:
            target[field] = copy.deepcopy(value)


def _unknown(path: str) -> errors.UnknownPath:
    """As an API server answers for a resource whose definition is not installed."""
    return errors.UnknownPath(cluster="memory", request=path, cause="HTTP 404")


def _error(kind: type[errors.ApiError], code: int, reason: str = "") -> errors.ApiError:
    return kind(cluster="fake", request="request", code=code, status_reason=reason, message="no")


def signing_request(node: str, *, username: str = MANAGER, **changed: Any) -> Object:
    """A CSR for the client certificate of a node."""
    names = changed.pop("names", [("O", "system:nodes"), ("CN", f"system:node:{node}")])
    sans = changed.pop("sans", ())
    oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(oids[kind], value) for kind, value in names])
    )
    if sans:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in sans]), critical=False
        )
    pem = builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "username": username,
        "usages": ["digital signature", "client auth"],
        "request": base64.b64encode(pem).decode(),
        **changed,
    }
    return {"metadata": {"name": f"csr-{node}"}, "spec": spec, "status": {}}


def api_server(home: MemoryCluster) -> None:
    """Definitions are established, and Deployments rolled out, immediately."""
    for (plural, _, _), obj in list(home.objects.items()):
        if plural == "customresourcedefinitions":
            obj["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        if plural == "deployments":
            count = obj.get("spec", {}).get("replicas", 1)
            seen = {"observedGeneration": obj["metadata"]["generation"]}
            counted = ("replicas", "updatedReplicas", "availableReplicas")
            obj["status"] = {**seen, **dict.fromkeys(counted, count)}


def deployment(image: str, node: str) -> Object:
    """What the manager creates for a virtual node."""
    labels = {"app.kubernetes.io/name": "farlet", "app.kubernetes.io/instance": node}
    spec = {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}}
    return {"metadata": {"name": f"farlet-{node}", "labels": labels}, "spec": spec}


def controllers(home: MemoryCluster) -> Callable[[], None]:
    """What the API server, the manager and farlet do in the home cluster."""

    def settle() -> None:
        for node in _nodes(home):
            name = node["metadata"]["name"]
            manager = home.find("deployments", "farlet", "farlet-manager")
            if manager is None:
                continue
            (container,) = manager["spec"]["template"]["spec"]["containers"]
            wanted = deployment(container["image"], name)
            running = home.find("deployments", "farlet", f"farlet-{name}")
            if running is None:
                home.put("deployments", "farlet", wanted)
            else:
                running["spec"] = wanted["spec"]
            request = home.find("certificatesigningrequests", "", f"csr-{name}")
            if request is None:
                home.put("certificatesigningrequests", "", signing_request(name))
            elif request["status"].get("conditions"):
                seen = {"observedGeneration": node["metadata"]["generation"]}
                ready = {"type": "Ready", "status": "True", **seen}
                node["status"] = {"conditions": [ready]}
                metadata = {
                    "name": name,
                    "labels": {"type": "virtual-kubelet"},
                    "annotations": {"farlet.io/home-cluster-id": "h-home"},
                }
                if home.find("nodes", "", name) is None:
                    home.put("nodes", "", {"metadata": metadata, "spec": {}})
                    home.put("leases", "kube-node-lease", {"metadata": {"name": name}})
        api_server(home)

    return settle


def _nodes(home: MemoryCluster) -> Iterator[Object]:
    return (obj for (plural, _, _), obj in list(home.objects.items()) if plural == "virtualnodes")
