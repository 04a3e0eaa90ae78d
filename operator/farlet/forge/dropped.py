"""Which parts of a spec an API server did not keep.

An API server accepts an object with fields that its version does not know, or whose feature is
disabled, and stores it without them (`dropDisabledFields` in `pkg/api/pod/util.go`). Its `Warning`
headers name only the unknown ones, so what was sent is compared with the answer. What the server
or its admission added or changed is not reported: the foreign administrator wants it so.

Pure. One pass over what was sent; nothing of the answer is followed that was not sent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import orjson

from farlet import redaction
from farlet.constants import JSON

IDENTITIES = ("mountPath", "devicePath", "name", "containerPort", "ip", "path")
"""What identifies an item of a list, the first that all items have."""


def message(sent: Mapping[str, object], kept: Mapping[str, object]) -> str | None:
    """The report for the owner of a pod whose spec was `sent` and is `kept`; `None`: no report."""
    paths = [*map(redaction.value, dropped(sent, kept, "spec"))]
    if not paths:
        return None
    return (
        f"the foreign API server dropped {redaction.some(paths)}: its version of Kubernetes "
        "does not know the field, or has the feature disabled. The mirror runs without it"
    )


def dropped(sent: object, kept: object, path: str) -> Iterator[str]:
    """Paths of what was sent and is not there, such as `spec.containers[main].livenessProbe`.

    An explicit false, zero or empty object counts, other than for `merge.same`: API servers print
    one only where it means something (`hostUsers: false`). Null and an empty list or string do
    not count: they omit those (`env` of mode `disabled`).
    """
    if sent is None or sent == kept or (kept is None and sent in ([], "")):
        return
    if kept is None:
        yield path
    elif isinstance(sent, dict):
        if not isinstance(kept, dict):
            yield path
            return
        for key, value in sent.items():
            yield from dropped(value, kept.get(key), f"{path}.{key}")
    elif isinstance(sent, list):
        if isinstance(kept, list):
            yield from _items(sent, kept, path)
        else:
            yield path


def _items(sent: Sequence[object], kept: Sequence[object], path: str) -> Iterator[str]:
    """Admission adds items at any place, so they are compared by what identifies them."""
    objects = [item for item in sent if isinstance(item, dict)]
    identity = next((key for key in IDENTITIES if all(key in item for item in objects)), None)
    if objects and identity:
        places: defaultdict[bytes, list[JSON]] = defaultdict(list)
        for item in reversed(kept):
            if isinstance(item, dict):
                places[_text(item.get(identity))].append(item)
        for item in objects:
            same = places[_text(item[identity])]
            yield from dropped(item, same.pop() if same else None, f"{path}[{item[identity]}]")
        return
    # Nothing identifies them: those that are unchanged, then the others in their order.
    unchanged = Counter(map(_text, kept)) & Counter(map(_text, sent))
    here, there = list(_without(sent, unchanged)), [i for _, i in _without(kept, unchanged)]
    for position, (index, item) in enumerate(here):
        yield from dropped(
            item, there[position] if position < len(there) else None, f"{path}[{index}]"
        )


def _without(items: Sequence[object], texts: Counter[bytes]) -> Iterator[tuple[int, object]]:
    left = texts.copy()
    for index, item in enumerate(items):
        text = _text(item)
        if left[text] > 0:
            left[text] -= 1
        else:
            yield index, item


def _text(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
