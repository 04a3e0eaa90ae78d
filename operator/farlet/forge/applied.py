"""Which version of the home pod's changeable fields a mirror has: one annotation on the mirror.

Kubernetes lets few fields of a living pod change. For each of them the annotation has a digest of
the *home* value that the mirror was last written for. So a mirror is written only when the home pod
has changed: neither another version of farlet nor a changed setting nor a change that is made in
the foreign cluster alters a digest. A mirror without the annotation is one of an older farlet, and
is never written.

The digests are a format: what they cover, and how, can only be extended (`docs/decisions/0018`).
Pure.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import orjson

from farlet.constants import APPLIED, JSON, RESERVED
from farlet.k8s_types import Container, Pod

LABELS = "metadata.labels"
ANNOTATIONS = "metadata.annotations"
TOLERATIONS = "spec.tolerations"
DEADLINE = "spec.activeDeadlineSeconds"
RESOURCES = "spec.resources"

LONGEST = 32_768
"""Bytes of the annotation. All annotations of an object together can have 256 KiB. Changes of a pod
that needs a longer one, with a thousand labels or containers, do not reach its mirror."""

_DIGEST_BYTES = 8

_LARGEST = 2**63 - 1
"""A generation is an int64. One that the foreign side names can be larger."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The content of the annotation."""

    home: int
    """Generation of the home pod."""
    mirror: int
    """Generation of the mirror since which it has these values."""
    digests: Mapping[str, str]
    """By path of a field. A path that is missing is one that this farlet did not know."""
    labels: tuple[str, ...] = ()
    """Keys of the labels that the mirror got from the home pod: it loses them when home does."""
    annotations: tuple[str, ...] = ()


def image_path(group: str, name: str) -> str:
    """The path of a container's image; `group` is `containers` or `initContainers`."""
    return f"spec.{group}[{name}].image"


def images(home: Pod) -> dict[tuple[str, str], str]:
    """By group and container: the images that can change."""
    spec = cast("Mapping[str, list[Container]]", home["spec"])
    return {
        (group, container["name"]): container.get("image", "")
        for group in ("initContainers", "containers")
        for container in spec.get(group) or ()
    }


def resources_path(group: str, name: str) -> str:
    """The path of a container's resources."""
    return f"spec.{group}[{name}].resources"


def is_resource(path: str) -> bool:
    """The field changes by the subresource `resize`; no other does."""
    return path.endswith(".resources")


def resources(home: Pod) -> dict[tuple[str, str], JSON]:
    """By group and container: requests and limits."""
    spec = cast("Mapping[str, list[Container]]", home["spec"])
    return {
        (group, container["name"]): amounts(container.get("resources"))
        for group in ("initContainers", "containers")
        for container in spec.get(group) or ()
    }


def amounts(found: JSON | None) -> JSON:
    """What a resize can change of the resources of a container or pod."""
    return {key: found[key] for key in ("requests", "limits") if found and found.get(key)}


def digests(home: Pod) -> dict[str, str]:
    """The digests of a home pod as it is now, by path."""
    metadata, spec = home["metadata"], cast("JSON", home["spec"])
    return {
        LABELS: _digest(_own(metadata.get("labels"))),
        ANNOTATIONS: _digest(_own(metadata.get("annotations"))),
        TOLERATIONS: _digest(spec.get("tolerations") or []),
        DEADLINE: _digest(spec.get("activeDeadlineSeconds")),
        RESOURCES: _digest(amounts(spec.get("resources"))),
        **{image_path(*where): _digest(image) for where, image in images(home).items()},
        **{resources_path(*where): _digest(found) for where, found in resources(home).items()},
    }


def changed(home: Pod, record: Applied) -> frozenset[str]:
    """The paths of fields that have changed in the home pod since the mirror was written.

    A path that this farlet does not know was recorded by a later version, and has not changed.
    """
    now = digests(home)
    return frozenset(
        path for path, digest in record.digests.items() if path in now and now[path] != digest
    )


def record(home: Pod, *, mirror: int, labels: Iterable[str], annotations: Iterable[str]) -> Applied:
    """The record of a mirror that has all of `home` as it is now.

    `labels` and `annotations`: keys that the mirror has from the home pod.
    """
    generation = home["metadata"].get("generation", 0)
    return Applied(
        generation, mirror, digests(home), tuple(sorted(labels)), tuple(sorted(annotations))
    )


def without(now: Applied, paths: Iterable[str], before: Applied) -> Applied:
    """`now`, but for fields that the mirror still has as `before`.

    Paths that only a later version of farlet knows stay. A foreign user can change the record, so
    that `before` lacks some of `paths`.
    """
    old = {path: before.digests[path] for path in paths if path in before.digests}
    home = before.home if old else now.home
    return dataclasses.replace(now, home=home, digests={**before.digests, **now.digests, **old})


def encoded(one: Applied) -> str | None:
    """The annotation; `None` if it would be too long."""
    bounded = dataclasses.replace(one, mirror=min(one.mirror, _LARGEST))
    text = orjson.dumps(bounded, option=orjson.OPT_SORT_KEYS)
    return None if len(text) > LONGEST else text.decode()


def read(mirror: Pod) -> Applied | None:
    """The record of a mirror; `None` if it has none, or one that farlet did not write."""
    found = mirror["metadata"].get("annotations", {}).get(APPLIED)
    if found is None or len(found) > LONGEST:
        return None
    try:
        content = orjson.loads(found)
        digests: dict[str, str] = content["digests"]
        labels, annotations = tuple(content["labels"]), tuple(content["annotations"])
        "".join((*digests.values(), *labels, *annotations))  # raises unless all of them are text
        return Applied(
            _count(content["home"]), _count(content["mirror"]), digests, labels, annotations
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def observed_generation(home: Pod, mirror: Pod, *, resize_rejected: bool) -> int:
    """The generation of the home pod that the mirror's status shows; 0 if home counts none.

    A resize that was rejected counts as seen: a kubelet, too, answers by a condition.

    A deletion increments it, but the status keeps the old one: the final status follows, and this
    saves one write. A foreign user can change the record; so it counts only up to the mirror's own
    generation. A status that names no generation is one of the first.
    """
    metadata, live = home["metadata"], home.get("status", {}).get("observedGeneration", 0)
    if "deletionTimestamp" in metadata:
        return live
    generation = metadata.get("generation", 0)
    if live == generation:
        return generation  # whatever the record says: this decides in most passes
    found = read(mirror)
    if found is None:
        return generation
    written = min(found.mirror, mirror["metadata"].get("generation", 1))
    if mirror.get("status", {}).get("observedGeneration", 1) < written:
        return live
    if found.home < generation:
        missing = changed(home, found)
        if resize_rejected:
            missing = frozenset(path for path in missing if not is_resource(path))
        if missing:
            return max(live, found.home)
    return generation


def _own(found: Mapping[str, str] | None) -> dict[str, str]:
    """Labels or annotations without farlet's own: it writes some to the home pod, too."""
    return {key: value for key, value in (found or {}).items() if not key.startswith(RESERVED)}


def _digest(value: object) -> str:
    encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise TypeError
    return value
