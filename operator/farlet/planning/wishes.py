"""Which writes an API server accepts without doing what they ask for.

An API server drops fields that its version does not know or has switched off, and a policy can
remove what it does not allow. The answer to such a write still lacks what was sent, so that `plan`
would send it again, without end. So the last write of each kind is remembered together with the
version of the object in its answer. While the object has that version, the same write is in vain.

Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set

import orjson

from farlet.constants import JSON
from farlet.k8s_types import ObjectMeta
from farlet.planning.actions import (
    PatchStatus,
    ProvideSecret,
    ReclaimMirror,
    ResizeMirror,
    UpdateMirror,
)
from farlet.planning.snapshot import Answered

Wish = PatchStatus | ReclaimMirror | ProvideSecret | UpdateMirror | ResizeMirror
"""The writes that `plan` decides on by comparing an object with what it should be."""

_DIGEST_BYTES = 12


def answered(wish: Wish, answer: ObjectMeta) -> Answered:
    """What to remember of a write and its answer."""
    return Answered(_digest(wish), answer.get("resourceVersion", ""))


def in_vain(wish: Wish, target: ObjectMeta, known: Set[Answered]) -> bool:
    """The API server has accepted this write, and its answer was `target` as it still is.

    `known`: the accepted writes (`Snapshot.answered`).
    """
    version = target.get("resourceVersion", "")
    accepted = {one.wish for one in known if one.version == version}
    return bool(accepted) and _digest(wish) in accepted


def _digest(wish: Wish) -> bytes:
    """Equal for two writes that ask for the same, whenever they are sent."""
    asked: object
    match wish:
        case PatchStatus():
            asked = _timeless(wish.body)
        case ReclaimMirror():
            asked = [dict(wish.labels), dict(wish.annotations)]
        case UpdateMirror() | ResizeMirror():
            asked = wish.wanted
        case ProvideSecret():
            asked = wish.wanted
    text = orjson.dumps([type(wish).__name__, asked], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _timeless(body: JSON) -> JSON:
    """The body without the times at which conditions changed: they differ at each decision."""
    status = body.get("status", {})
    if "conditions" not in status:
        return body
    conditions = [
        {key: value for key, value in one.items() if key != "lastTransitionTime"}
        for one in status["conditions"]
    ]
    return {**body, "status": {**status, "conditions": conditions}}
