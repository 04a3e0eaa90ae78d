"""Copies of the ConfigMaps and Secrets that pods refer to, and what mirrors and messages call them.

A copy stands in the foreign namespace under a name of its own, in every access mode, so that a pod
never reaches a foreign object by naming it. `kube-root-ca.crt` is not copied: every namespace has
its own, and access mode `home` replaces it (`access.token_mounts`). Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple, cast

from farlet import names
from farlet.access.changes import ChangeLog
from farlet.constants import (
    HOME_NAME,
    HOME_NAMESPACE,
    HOME_UID,
    HOME_VERSION,
    JSON,
    KUBE_ROOT_CA,
    USED_BY,
)
from farlet.context import Context
from farlet.forge import claims, containers
from farlet.forge.references import Kind, Reference, of_container, references, renamed
from farlet.k8s_types import Container, ObjectMeta, Pod, PodSpec

SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105
"""Type of Secrets with a token that never expires; farlet never copies one."""

_CONTENT = ("type", "data", "binaryData", "immutable")
_WHY = "farlet copies it from the home namespace"
_NAME = re.compile(r"[a-z0-9.-]+")
_DIGEST = re.compile(r"-[0-9a-f]{16}")
_DIGEST_LENGTH = 17


class Source(NamedTuple):
    """A ConfigMap or Secret of a home namespace to which pods refer."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def sources(pod: Pod) -> frozenset[Source]:
    """The objects that the mirror of `pod` needs; an ephemeral container that has ended needs none.

    It never runs again. One that farlet rejected has ended, too.
    """
    spec = pod["spec"]
    if "ephemeralContainers" in spec:
        spec = {**spec, "ephemeralContainers": containers.unfinished_ephemeral(pod)}
    return _sources(references(spec), pod["metadata"]["namespace"])


def sources_of(container: Container, namespace: str) -> frozenset[Source]:
    """The objects that one container of a pod in `namespace` needs."""
    return _sources(of_container(cast("JSON", container), ""), namespace)


def _sources(found: Iterable[Reference], namespace: str) -> frozenset[Source]:
    return frozenset(
        Source(one.kind, namespace, one.name)
        for one in found
        if _is_copied(one.kind, one.name) and _can_exist(one.name)
    )


def copy_name(source: Source, ctx: Context) -> str:
    return names.copy_name(
        source.name, home_id=ctx.home_id, namespace=source.namespace, kind=source.kind
    )


def source_of(copy: ObjectMeta, kind: Kind, namespace: str, ctx: Context) -> Source | None:
    """What an object in the foreign namespace of `namespace` is a copy of, by its name."""
    name = copy.get("annotations", {}).get(HOME_NAME, "")
    source = Source(kind, namespace, name)
    return source if name and copy.get("name") == copy_name(source, ctx) else None


def rewritten(spec: PodSpec, namespace: str, ctx: Context, changes: ChangeLog) -> PodSpec:
    """The spec of a mirror, with references to copies."""
    found = [one for one in references(spec) if _is_copied(one.kind, one.name)]
    if not found:
        return spec
    for one in found:
        changes.rewritten(one.path, _WHY, routine=True)

    def rename(kind: Kind, name: str) -> str:
        return copy_name(Source(kind, namespace, name), ctx) if _is_copied(kind, name) else name

    return renamed(spec, rename)


def mark(ctx: Context) -> str:
    """The label by which this virtual node keeps a copy."""
    return f"{USED_BY}{ctx.virtual_node_id}"


def marks(copy: ObjectMeta) -> frozenset[str]:
    """The marks of all virtual nodes on a copy."""
    return frozenset(key for key in copy.get("labels", {}) if key.startswith(USED_BY))


def forge_copy(
    obj: JSON, source: Source, *, namespace: str, existing: ObjectMeta | None, ctx: Context
) -> JSON:
    """The copy of `obj`, the home object. `existing`: what it replaces, if that is still as known.

    Its labels are only marks: labels of the home object could make foreign controllers act on it.
    """
    home = obj["metadata"]
    kept: Iterable[str] = () if existing is None else marks(existing)
    metadata: JSON = {
        "name": copy_name(source, ctx),
        "namespace": namespace,
        "labels": dict.fromkeys((*kept, mark(ctx)), "true"),
        "annotations": {
            HOME_NAMESPACE: source.namespace,
            HOME_NAME: source.name,
            HOME_UID: home["uid"],
            HOME_VERSION: home["resourceVersion"],
        },
    }
    if existing is not None:
        metadata |= {"uid": existing["uid"], "resourceVersion": existing["resourceVersion"]}
    content: JSON = {key: obj[key] for key in _CONTENT if key in obj}
    return {"apiVersion": "v1", "kind": source.kind.value, "metadata": metadata, **content}


def can_name_copies(text: str) -> bool:
    """Whether a message can contain the name of a copy or of a foreign claim."""
    return _DIGEST.search(text) is not None


class HomeNames:
    """Puts the names that the owner of a pod knows into messages of the foreign cluster.

    Example: `configmap "app-0123456789abcdef" not found` becomes `configmap "app" not found`. One
    object serves all messages about a pod: a thousand containers can refer to thousands of objects.
    """

    def __init__(self, pod: Pod, ctx: Context) -> None:
        self._pod = pod
        self._ctx = ctx

    def __call__(self, text: str) -> str:
        """The message with these names."""
        if not can_name_copies(text):
            return text
        return _NAME.sub(lambda found: self._known(found.group()), text)

    def _known(self, word: str) -> str:
        name = word.rstrip(".-")
        stem, digest = name[:-_DIGEST_LENGTH], name[-_DIGEST_LENGTH:]
        if stem in self._claims and _DIGEST.fullmatch(digest) is not None:
            return stem + word[len(name) :]
        return self._copies.get(name, name) + word[len(name) :]

    @functools.cached_property
    def _copies(self) -> dict[str, str]:
        return {copy_name(source, self._ctx): source.name for source in sources(self._pod)}

    @functools.cached_property
    def _claims(self) -> frozenset[str]:
        """By their names alone: the uid of a claim, which its hash includes, is not in the pod."""
        own = self._ctx.storage_class_map
        return claims.claim_names(self._pod) if own else frozenset[str]()


def _can_exist(name: str) -> bool:
    """API servers do not check the names in a pod: only a DNS-1123 subdomain names an object."""
    return names.is_subdomain(name)


def _is_copied(kind: Kind, name: str) -> bool:
    return not (kind is Kind.CONFIG_MAP and name == KUBE_ROOT_CA)
