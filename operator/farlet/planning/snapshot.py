"""The question that `plan` is asked: all that is known about one home pod at one moment.

Facts only. What follows from them is decided in `plan`, so nothing here is ever changed to get
another answer. Durations are monotonic seconds; `now` is the only reading of the wall clock,
which the times in objects need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from farlet.access import AccessStrategy
from farlet.constants import ObjectKey
from farlet.errors import FarletError, Refused
from farlet.k8s_types import ObjectMeta, OwnerReference, Pod
from farlet.planning.actions import Action, Step

ANCHOR_TRUSTED_SECONDS = 5.0
"""An anchor that was read so short a time ago is not read again."""


class Missing(Enum):
    """Why an object is not in a snapshot."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since something happened to the home pod in this process; infinite: it did not."""

    first_seen: float = math.inf
    """It was first seen without a mirror, and has none since."""
    mirror_created: float = math.inf
    """Its mirror was created."""
    reason_written: float = math.inf
    """A reason was written into its status."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that has just failed."""

    action: Action
    step: Step
    error: FarletError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known about one key at one moment."""

    key: ObjectKey
    now: float
    """Epoch seconds."""
    home: Pod | Missing
    mirror: Pod | Missing
    mirror_key: ObjectKey | None = None
    """Namespace and name of the mirror; `None`: the home namespace is not offloaded."""
    access: AccessStrategy | Refused | None = None
    """The access mode that H selects, or why it selects none; `None` without H."""
    home_gone: bool = False
    """A live list did not have it, or the deletion of the very uid was seen."""
    mirror_gone: bool = False
    """A live GET answered 404."""
    last: Pod | None = None
    """The mirror as it was last seen before it vanished in this process's lifetime."""
    secret: ObjectMeta | Missing = Missing.UNKNOWN
    secret_failed: bool = False
    """It could not be provided a moment ago; the rest of the pod must not wait for it."""
    accounts: Mapping[str, ObjectMeta] | Missing = Missing.UNKNOWN
    """ServiceAccounts of the foreign namespace by name."""
    namespace_open: bool = True
    """The foreign namespace is followed; in one that is not, nothing can be read."""
    namespace_unused: bool = False
    """The inventory was read, and says that nothing of ours was ever created there."""
    anchor: OwnerReference | None = None
    anchor_age: float = 0.0
    """Seconds since the anchor was last read."""
    problem: Refused | None = None
    """Why the foreign namespace cannot be used or seen now."""
    ages: Ages = field(default_factory=Ages)
    failure: Failure | None = None
    """The action that was decided on these facts, and failed."""
