"""Labels and annotations of the pod in files, from the Secret that farlet stores beside a mirror.

The mirror's own differ: it has farlet's, lacks those that stay in the home cluster, and has what
foreign controllers add. So an item of the downward API that reads all of them, or one that the
mirror lacks, is read from the Secret, with the content that a kubelet at home would write. An item
of a key that the mirror has stays unchanged.

All strategies use this except `remote`.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import orjson

from farlet.access import identity
from farlet.access.changes import ChangeLog
from farlet.constants import FOREIGN_POD_IP, JSON, Reason
from farlet.context import Context
from farlet.errors import Refused
from farlet.k8s_types import DownwardAPIItem, ObjectMeta, Pod, PodSpec, Volume, VolumeProjection

MAX_BYTES = 512 * 1024
"""Limit of all these files of one pod together. A Secret can have 1 MiB; the rest is for tokens and
the CA."""

_WHOLE: Mapping[str, str] = MappingProxyType(
    {"metadata.labels": "labels", "metadata.annotations": "annotations"}
)
"""Field path -> key in the Secret."""

_ESCAPES = MappingProxyType(
    {
        '"': '\\"',
        "\\": "\\\\",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
    }
)


class _Quoted(dict[int, str]):
    """Code point -> how Go writes it. A table for `str.translate`, filled as far as it is used:
    owners of pods choose the text, and it is quoted in each pass over a pod.
    """

    def __missing__(self, code: int) -> str:
        self[code] = quoted = _quoted(chr(code))
        return quoted


def contents(pod: Pod) -> dict[str, str]:
    """Key in the Secret -> content, for every item of labels or annotations in files of the pod.

    Also for items that the mirror's own metadata serve: which those are depends on settings. A
    mirror mounts what it was created with, and a changed setting must change no Secret.
    """
    fields = sorted(set(_fields(pod["spec"])))
    return {_key(field): _content(field, pod["metadata"]) for field in fields}


def check_size(files: Mapping[str, str]) -> None:
    """Raises `Refused` if the files are larger than `MAX_BYTES` together."""
    if is_too_large(files):
        raise Refused(Reason.UNSUPPORTED_POD, f"{_too_large()}. Shorten the pod's annotations")


def is_too_large(files: Mapping[str, str]) -> bool:
    """Whether the files are larger than `MAX_BYTES` together."""
    return sum(len(content.encode()) for content in files.values()) > MAX_BYTES


def not_followed() -> str:
    """What an Event says of a running pod whose files have become too large."""
    return (
        f"{_too_large()}: the files keep the content that they had before. Shorten the pod's "
        "annotations"
    )


def _too_large() -> str:
    return (
        "the pod reads its labels and annotations in files of the downward API, and the files "
        f"together are larger than {MAX_BYTES // 1024} KiB, the most that farlet provides"
    )


def digest(files: Mapping[str, str]) -> str:
    """Identifies the content of the files; empty for none."""
    text = orjson.dumps(dict(files), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32] if files else ""


def in_volume(
    volume: Volume, files: Collection[str], secret: str, ctx: Context, changes: ChangeLog
) -> Volume:
    """The volume, with the items whose content is in `files` read from the Secret.

    Paths and modes stay. A volume of the type `downwardAPI` becomes a projected one, whose files
    a kubelet writes in the same way.
    """
    if not files:
        return volume
    path = f"spec.volumes[{volume['name']}]"
    if "downwardAPI" in volume:
        source = volume["downwardAPI"]
        items = _last_of_each_path(source.get("items") or ())
        sources = _sources(items, {}, secret, ctx, f"{path}.downwardAPI", changes)
        if sources is None:
            return volume
        rest = {key: value for key, value in volume.items() if key != "downwardAPI"}
        modes = {key: value for key, value in source.items() if key != "items"}
        return cast("Volume", {**rest, "projected": {**modes, "sources": sources}})
    if "projected" not in volume:
        return volume
    rewritten: list[VolumeProjection] = []
    changed = False
    for projection in volume["projected"].get("sources") or ():
        other = projection.get("downwardAPI")
        sources = None
        if other is not None:
            at = f"{path}.projected.downwardAPI"
            sources = _sources(other.get("items") or (), other, secret, ctx, at, changes)
        changed |= sources is not None
        rewritten += [projection] if sources is None else sources
    if not changed:
        return volume
    return {**volume, "projected": {**volume["projected"], "sources": rewritten}}


def _sources(
    items: Sequence[DownwardAPIItem],
    other: JSON,
    secret: str,
    ctx: Context,
    path: str,
    changes: ChangeLog,
) -> list[VolumeProjection] | None:
    """The sources in place of these items, or `None` where all of them stay."""
    ours: list[JSON] = []
    rest: list[DownwardAPIItem] = []
    for item in items:
        field = identity.field_path(item)
        if not _from_secret(field, ctx):
            rest.append(item)
            continue
        kept = {key: value for key, value in item.items() if key != "fieldRef"}
        ours.append({"key": _key(field), **kept})
        changes.rewritten(
            f"{path}.items[{item['path']}]", f"{field}: the pod sees its own", routine=True
        )
    if not ours:
        return None
    sources: list[VolumeProjection] = [{"secret": {"name": secret, "items": ours}}]
    if rest:
        sources.append({"downwardAPI": {**other, "items": rest}})
    return sources


def _last_of_each_path(items: Sequence[DownwardAPIItem]) -> list[DownwardAPIItem]:
    """A kubelet writes the last of two items for one file; a projected volume must have one."""
    return list({posixpath.normpath(item["path"]): item for item in items}.values())


def _fields(spec: PodSpec) -> Iterator[str]:
    """The field paths of labels and annotations in files, all of them or one key."""
    for volume in spec.get("volumes") or ():
        sources = [volume, *(volume.get("projected", {}).get("sources") or ())]
        for source in sources:
            for item in (source.get("downwardAPI") or {}).get("items") or ():
                field = identity.field_path(item)
                if field in _WHOLE or identity.subscript(field) is not None:
                    yield field


def _from_secret(field: str, ctx: Context) -> bool:
    return field in _WHOLE or identity.key_differs(field, ctx)


def _key(field: str) -> str:
    """The key in the Secret. Keys of labels can have characters that those of Secrets cannot."""
    if field in _WHOLE:
        return _WHOLE[field]
    return f"field-{hashlib.sha256(field.encode()).hexdigest()[:32]}"


def _content(field: str, home: ObjectMeta) -> str:
    if field == "metadata.labels":
        return format_map(home.get("labels") or {})
    if field == "metadata.annotations":
        return format_map(_as_a_kubelet_has_them(home))
    return identity.key_value(field, home)


def _as_a_kubelet_has_them(home: ObjectMeta) -> dict[str, str]:
    """The pod's annotations, and the two that a kubelet adds in its own memory.

    `recordFirstSeenTime` in pkg/kubelet/config. A kubelet at home would have seen the pod soon
    after its creation.
    """
    own = {k: v for k, v in (home.get("annotations") or {}).items() if k != FOREIGN_POD_IP}
    return own | {
        identity.CONFIG_SEEN: home.get("creationTimestamp", ""),
        identity.CONFIG_SOURCE: "api",
    }


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as a kubelet writes them to a file (`FormatMap` in pkg/fieldpath)."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def quote(text: str) -> str:
    """`strconv.AppendQuote` of Go.

    Characters that only one of the Unicode versions of Python and Go knows can be escaped in one
    and not in the other; both forms mean the same.
    """
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{text.translate(_Quoted())}"'


def _quoted(character: str) -> str:
    escaped = _ESCAPES.get(character)
    if escaped is not None:
        return escaped
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
