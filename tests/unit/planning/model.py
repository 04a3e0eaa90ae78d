"""An API server as Kubernetes has it: it keeps objects and refuses invalid writes.

Written to check farlet, so it contains nothing of farlet, not even its terms. What is kept:
uids and resourceVersions, preconditions, graceful deletion and finalizers (`BeforeDelete` in
k8s.io/apiserver/pkg/registry/rest, `podStrategy.CheckGracefulDelete`), patches, the container
states that an update may not take back (`ValidateContainerStateTransition`), watch events as a
selector shows them, and compaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

JSON = dict[str, Any]
Selects = Callable[[JSON], bool]
Where = tuple[str, str, str]
"""Resource, namespace, name."""


class Status(Exception):
    """An answer other than 2xx."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Write:
    """One change that was made. `after` None: the object is gone."""

    at: float
    version: int
    by: str
    verb: str
    where: Where
    before: JSON | None
    after: JSON | None


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the storage of a server."""

    version: int
    objects: list[tuple[Where, JSON]]


def clone(obj: Any) -> Any:
    """A deep copy of JSON."""
    return orjson.loads(orjson.dumps(obj))


class Server:
    """One API server and its storage. All methods raise `Status`."""

    def __init__(
        self, clock: Callable[[], float], namespaces: tuple[str, ...], *, cluster: str = "uid"
    ) -> None:
        """`cluster` is a part of all uids."""
        self._clock = clock
        self._cluster = cluster
        self._objects: dict[Where, JSON] = {}
        self._log: list[Write] = []
        self._version = 100
        self._compacted = 100
        self._uids = 0
        self.policy: Callable[[str, JSON], None] = lambda _resource, _obj: None
        """Changes each object before it is stored, as a webhook does, or a version that does not
        know a field."""
        self.observers: list[Callable[[Write], None]] = []
        for name in namespaces:
            self.create_namespace(name)

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def find(self, resource: str, uid: str) -> JSON | None:
        """The object of a uid."""
        for (kind, _, _), obj in self._objects.items():
            if kind == resource and obj["metadata"]["uid"] == uid:
                return obj
        return None

    def all(self, resource: str, namespace: str | None = None) -> list[JSON]:
        """The stored objects themselves, read only."""
        return [
            obj
            for (kind, space, _), obj in self._objects.items()
            if kind == resource and namespace in (None, space)
        ]

    def get(self, where: Where) -> JSON:
        obj = self._objects.get(where)
        if obj is None:
            raise Status(404, "NotFound", f'{where[0]} "{where[2]}" not found')
        return obj

    def create(self, resource: str, namespace: str, body: JSON, *, by: str) -> JSON:
        if resource == "namespaces":
            return self._create_namespace(body, by=by)
        space = self.get(("namespaces", "", namespace)) if namespace else None
        if space is not None and "deletionTimestamp" in space["metadata"]:
            text = "unable to create new content in namespace"
            raise Status(403, "Forbidden", f"{text} {namespace} because it is being terminated")
        where = (resource, namespace, body["metadata"]["name"])
        if where in self._objects:
            raise Status(409, "AlreadyExists", f'{resource} "{where[2]}" already exists')
        obj: JSON = clone(body)
        self._uids += 1
        obj["metadata"] |= {
            "uid": f"{self._cluster}-{self._uids}-{where[2]}",
            "creationTimestamp": _stamp(self._clock()),
        }
        if namespace:
            obj["metadata"]["namespace"] = namespace
        if resource == "pods":
            obj["metadata"]["generation"] = 1
            obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        self.policy(resource, obj)
        return self._store(where, None, obj, by=by, verb="create")

    def _create_namespace(self, body: JSON, *, by: str) -> JSON:
        """A POST; controllers fill the namespace."""
        name = body["metadata"]["name"]
        where = ("namespaces", "", name)
        if where in self._objects:
            raise Status(409, "AlreadyExists", f'namespaces "{name}" already exists')
        obj: JSON = clone(body)
        self._uids += 1
        obj["metadata"]["uid"] = f"{self._cluster}-{self._uids}-{name}"
        made = self._store(where, None, obj, by=by, verb="create")
        for resource, filled in (
            ("serviceaccounts", "default"),
            ("configmaps", "kube-root-ca.crt"),
        ):
            self.create(resource, name, {"metadata": {"name": filled}}, by="controller")
        return made

    def create_namespace(self, name: str) -> None:
        self._uids += 1
        metadata = {"name": name, "uid": f"{self._cluster}-{self._uids}-{name}"}
        self._store(
            ("namespaces", "", name), None, {"metadata": metadata}, by="user", verb="create"
        )

    def terminate_namespace(self, name: str) -> None:
        """DELETE it; `finish_namespaces` deletes its content."""
        before = self.get(("namespaces", "", name))
        after: JSON = clone(before)
        after["metadata"]["deletionTimestamp"] = _stamp(self._clock())
        self._store(("namespaces", "", name), before, after, by="user", verb="delete")

    def finish_namespaces(self) -> None:
        """Delete the content of namespaces that are being deleted, and those that are empty."""
        for space in self.all("namespaces"):
            name = space["metadata"]["name"]
            if "deletionTimestamp" not in space["metadata"]:
                continue
            inside = [where for where in self._objects if where[1] == name]
            for where in inside:
                if "deletionTimestamp" not in self.get(where)["metadata"]:
                    self.delete(where, by="namespace-controller")
            if not inside:
                where = ("namespaces", "", name)
                self._store(
                    where, space, None, by="namespace-controller", verb="delete", last=clone(space)
                )

    def patch(self, where: Where, body: JSON, *, by: str, status: bool, strategic: bool) -> JSON:
        """A merge patch (RFC 7386), or a strategic one of a pod's status."""
        before = self.get(where)
        wanted = body.get("metadata", {})
        _require(wanted, before)
        after: JSON = clone(before)
        metadata, kept = body.get("metadata", {}), before["metadata"]
        _merge(after["metadata"], metadata, strategic=strategic)
        if status:
            _merge(after["status"], body.get("status", {}), strategic=strategic)
            if where[0] == "pods":
                _check_states(before, after)
            after["metadata"]["finalizers"] = kept.get("finalizers")
        else:
            for key in body.keys() - {"metadata", "status"}:
                _merge(after, {key: body[key]}, strategic=strategic)
        self.policy(where[0], after)
        after["metadata"] = {k: v for k, v in after["metadata"].items() if v not in (None, [])}
        if after == before:
            return before
        if _asked(after) != _asked(before):
            after["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
        going = "deletionTimestamp" in kept and not kept.get("deletionGracePeriodSeconds")
        if going and not after["metadata"].get("finalizers"):
            # Nothing stores it without its finalizers, so watches show it with them.
            self._store(where, before, None, by=by, verb="patch", last=clone(before))
            return after
        return self._store(where, before, after, by=by, verb="patch")

    def replace(self, where: Where, body: JSON, *, by: str) -> JSON:
        """PUT an object without a status; what is immutable cannot change."""
        before = self.get(where)
        _require(body["metadata"], before)
        fixed = ["type", *(("data", "binaryData", "immutable") if before.get("immutable") else ())]
        for field in fixed:
            if body.get(field) != before.get(field):
                raise Status(422, "Invalid", f"{field}: field is immutable")
        after: JSON = clone(body)
        for field in ("uid", "namespace", "creationTimestamp"):
            after["metadata"][field] = before["metadata"][field]
        return self._store(where, before, after, by=by, verb="update")

    def delete(
        self,
        where: Where,
        *,
        by: str,
        grace: int | None = None,
        uid: str | None = None,
        version: str | None = None,
    ) -> JSON:
        """A DELETE; the answer shows the object as it is now, or as it went."""
        before = self.get(where)
        metadata = before["metadata"]
        _require({"uid": uid, "resourceVersion": version}, before)
        after: JSON = clone(before)
        if where[0] == "namespaces":
            after["metadata"]["deletionTimestamp"] = _stamp(self._clock())
            return self._store(where, before, after, by=by, verb="delete")
        if where[0] != "pods":
            period = 0
        elif "deletionTimestamp" in metadata:
            left = metadata.get("deletionGracePeriodSeconds") or 0
            if left and (grace is None or grace >= left):
                return before
            period = (grace or 0) if left else 0
        else:
            period = _grace(before, grace)
            after["metadata"]["generation"] += 1
        if not period and not metadata.get("finalizers"):
            after["metadata"]["deletionTimestamp"] = _stamp(self._clock())
            after["metadata"]["deletionGracePeriodSeconds"] = 0
            self._store(where, before, None, by=by, verb="delete", last=after)
            return after
        after["metadata"]["deletionTimestamp"] = _stamp(self._clock() + period)
        after["metadata"]["deletionGracePeriodSeconds"] = period
        return (
            before if after == before else self._store(where, before, after, by=by, verb="delete")
        )

    def since(self, version: int, resource: str, selects: Selects) -> Iterator[Write]:
        """Writes after `version` that such a watch shows, oldest first."""
        if version < self._compacted:
            raise Status(410, "Expired", "too old resource version")
        start = len(self._log)
        while start and self._log[start - 1].version > version:
            start -= 1
        for write in self._log[start:]:
            if write.where[0] == resource and any(
                obj is not None and selects(obj) for obj in (write.before, write.after)
            ):
                yield write

    def backup(self) -> Backup:
        """All objects as they are now, and the version."""
        return Backup(self._version, clone(list(self._objects.items())))

    def restore(self, backup: Backup, *, bump: int = 0) -> None:
        """Restore the objects of a backup. `bump`: by how much later versions are from now on.

        As `etcdutl snapshot restore`, with `--bump-revision` and `--mark-compacted` or without.
        Watches have to be broken by the test: all API servers are stopped meanwhile.
        """
        self._objects = {
            (kind, space, name): obj for (kind, space, name), obj in clone(backup.objects)
        }
        if bump:
            self._version = self._compacted = self._version + bump
            self._log.clear()
        else:
            self._version = backup.version
            self._log = [write for write in self._log if write.version <= backup.version]

    def compact(self) -> None:
        """Drop all history: a watch that is behind must list again."""
        self._compacted = self._version
        self._log.clear()

    def _store(
        self,
        where: Where,
        before: JSON | None,
        after: JSON | None,
        *,
        by: str,
        verb: str,
        last: JSON | None = None,
    ) -> JSON:
        self._version += 1
        stored = after if after is not None else last
        assert stored is not None
        stored["metadata"]["resourceVersion"] = str(self._version)
        if after is None:
            del self._objects[where]
        else:
            self._objects[where] = after
        shown = before if after is not None else stored
        write = Write(self._clock(), self._version, by, verb, where, shown, after)
        self._log.append(write)
        for observer in self.observers:
            observer(write)
        return stored


def event(write: Write, selects: Selects) -> tuple[str, JSON]:
    """Kind and object as a watch with this selector shows a write."""
    seen = write.before is not None and selects(write.before)
    if write.after is None or not selects(write.after):
        assert write.before is not None
        # What the watch showed last, at the version at which it left the selection.
        gone = clone(write.before)
        gone["metadata"]["resourceVersion"] = str(write.version)
        return "DELETED", gone
    return ("MODIFIED" if seen else "ADDED"), clone(write.after)


def _asked(obj: JSON) -> object:
    """The spec, without what a binding sets. Tests also store specs that are not objects."""
    spec = obj.get("spec")
    return {k: v for k, v in spec.items() if k != "nodeName"} if isinstance(spec, dict) else spec


def _require(wanted: JSON, before: JSON) -> None:
    for field in ("uid", "resourceVersion"):
        if wanted.get(field) not in (None, before["metadata"][field]):
            raise Status(409, "Conflict", f"Precondition failed: {field}")


def _grace(pod: JSON, seconds: int | None) -> int:
    spec, phase = pod["spec"], pod["status"].get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    return int(spec.get("terminationGracePeriodSeconds", 30) if seconds is None else seconds)


_KEYS = {
    "conditions": "type",
    "podIPs": "ip",
    "hostIPs": "ip",
    "addresses": "type",
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
}
"""Lists that a strategic merge patch merges; all others are replaced."""


def _merge(into: JSON, patch: JSON, *, strategic: bool) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, strategic=strategic)
        elif strategic and key in _KEYS and isinstance(value, list):
            into[key] = _merged(into.get(key, []), value, _KEYS[key])
        else:
            into[key] = clone(value)


def _merged(old: list[JSON], patch: list[JSON], by: str) -> list[JSON]:
    if any(p.get("$patch") == "replace" for p in patch):
        return [p for p in patch if "$patch" not in p]
    result = {o[by]: clone(o) for o in old}
    for element in patch:
        if element.get("$patch") == "delete":
            result.pop(element[by], None)
        else:
            _merge(result.setdefault(element[by], {}), element, strategic=True)
    return list(result.values())


def restart_policy(pod: JSON) -> str:
    """Of its one container."""
    spec = pod["spec"]
    own: str | None = spec["containers"][0].get("restartPolicy")
    return own or str(spec.get("restartPolicy", "Always"))


def _check_states(before: JSON, after: JSON) -> None:
    """A container that ended may start again only where its pod's policy restarts it."""
    policy = restart_policy(after)
    now = {s["name"]: s["state"] for s in after["status"].get("containerStatuses", ())}
    for old in before["status"].get("containerStatuses", ()):
        ended = old["state"].get("terminated")
        if not ended or "terminated" in now.get(old["name"], ended and {"terminated": 1}):
            continue
        if policy == "Never" or (policy == "OnFailure" and ended["exitCode"] == 0):
            raise Status(422, "Invalid", "may not be transitioned to non-terminated state")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
