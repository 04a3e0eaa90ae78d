"""What the administrator adds to every mirror (`--mirror-patch`). Pure.

The patch narrows where mirrors run and marks them for the foreign cluster's own tools. It wins over
the pod: a node selector with the same key, a label of the same name and the runtime class are
replaced. Affinity is combined: both the pod's terms and those of the patch must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import cast

from farlet.access.changes import ChangeLog
from farlet.constants import JSON
from farlet.context import MirrorPatch
from farlet.forge.scheduling import PREFERRED, REQUIRED
from farlet.k8s_types import PodSpec

_WHY = "--mirror-patch"
_TERM_PARTS = ("matchExpressions", "matchFields")


def apply(
    spec: PodSpec, labels: dict[str, str], patch: MirrorPatch, changes: ChangeLog
) -> tuple[PodSpec, dict[str, str]]:
    """Spec and labels with the patch; the arguments are not changed."""
    patched = cast("JSON", spec.copy())
    if patch.node_selector:
        before = patched.get("nodeSelector") or {}
        patched["nodeSelector"] = _merged(before, patch.node_selector, "spec.nodeSelector", changes)
    if patch.tolerations:
        existing = patched.get("tolerations") or []
        new = [one for one in patch.tolerations if one not in existing]
        patched["tolerations"] = [*existing, *new]
        if new:
            changes.added("spec.tolerations", _WHY, routine=True)
    if patch.affinity:
        patched["affinity"] = _affinity(patched.get("affinity") or {}, patch.affinity)
        changes.rewritten("spec.affinity", _WHY, routine=True)
    if patch.runtime_class_name and patched.get("runtimeClassName") != patch.runtime_class_name:
        path = "spec.runtimeClassName"
        if patched.get("runtimeClassName"):
            changes.rewritten(path, _WHY)
        else:
            changes.added(path, _WHY, routine=True)
        patched["runtimeClassName"] = patch.runtime_class_name
    return cast("PodSpec", patched), _merged(labels, patch.labels, "metadata.labels", changes)


def _merged(
    original: dict[str, str], added: Mapping[str, str], path: str, changes: ChangeLog
) -> dict[str, str]:
    """A pod's own value that the patch replaces is worth an Event."""
    for key, value in added.items():
        if key not in original:
            changes.added(f"{path}[{key}]", _WHY, routine=True)
        elif original[key] != value:
            changes.rewritten(f"{path}[{key}]", _WHY)
    return {**original, **added}


def _affinity(original: JSON, added: JSON) -> JSON:
    """Both must hold, so required terms are combined and preferences are concatenated."""
    combined = dict(original)
    for kind, rules in added.items():
        before = original.get(kind) or {}
        after = {**before, **rules}
        for strength in (REQUIRED, PREFERRED):
            if before.get(strength) and rules.get(strength):
                after[strength] = (
                    _both(before[strength], rules[strength])
                    if (kind, strength) == ("nodeAffinity", REQUIRED)
                    else [*before[strength], *rules[strength]]
                )
        combined[kind] = after
    return combined


def _both(one: JSON, other: JSON) -> JSON:
    """Node selectors are alternatives of terms, and all parts of a term must match.

    (a or b) and (c or d) is ac or ad or bc or bd. A term without parts matches no node.
    """
    terms = [
        {
            part: [*(left.get(part) or ()), *(right.get(part) or ())]
            for part in _TERM_PARTS
            if left.get(part) or right.get(part)
        }
        for left, right in product(one["nodeSelectorTerms"], other["nodeSelectorTerms"])
        if any(left.get(part) for part in _TERM_PARTS)
        and any(right.get(part) for part in _TERM_PARTS)
    ]
    return {"nodeSelectorTerms": terms or [{}]}
