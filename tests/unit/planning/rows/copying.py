"""Rows: ConfigMaps and Secrets that H refers to."""

from __future__ import annotations

from farlet.constants import Reason
from farlet.errors import Refused
from farlet.forge import copies
from farlet.planning.actions import NOTHING, FollowSources
from farlet.planning.snapshot import Copied, Missing
from unit.planning.objects import RUNNING, home, mirror, snapshot
from unit.planning.rows.row import Row, creates, does, shows

_USER = home(spec={"imagePullSecrets": [{"name": "pull"}, {"name": "other"}]})
_RUNNING = home(
    phase="Running",
    state=RUNNING,
    mirrored="mirror-1",
    spec={"imagePullSecrets": [{"name": "pull"}]},
)
_ENDED = home(phase="Succeeded", mirrored="mirror-1", spec=dict(_USER["spec"]))
_PULL, _OTHER = sorted(copies.sources(_USER))
_KEPT = Refused(Reason.KEPT_AT_HOME, "it is kept at home")
_HOST_NETWORK = home(spec={"hostNetwork": True, "imagePullSecrets": [{"name": "pull"}]})

ROWS = (
    Row(
        "what a new pod refers to is followed",
        snapshot(_USER, Missing.ABSENT),
        does(FollowSources(copies.sources(_USER))),
    ),
    Row(
        "what a running pod refers to is followed after a restart",
        snapshot(_RUNNING, mirror(state=RUNNING)),
        does(FollowSources(copies.sources(_RUNNING))),
    ),
    Row(
        "nothing that a finished pod refers to is followed",
        snapshot(_ENDED, mirror(phase="Succeeded")),
        lambda _, got: not isinstance(got.action, FollowSources),
    ),
    Row(
        "nothing that a refused pod refers to leaves home",
        snapshot(_HOST_NETWORK, Missing.ABSENT),
        shows("Pending", Reason.POD_FEATURE_NOT_ALLOWED),
    ),
    Row(
        "a pod waits for the copy of an object that exists",
        snapshot(_USER, Missing.ABSENT, copies={_PULL: Copied.SETTLED, _OTHER: Copied.PENDING}),
        NOTHING,
    ),
    Row(
        "a pod starts when all copies are as they must be",
        snapshot(_USER, Missing.ABSENT, copies={_PULL: Copied.SETTLED, _OTHER: Copied.SETTLED}),
        creates(),
    ),
    Row(
        "a pod that refers to an object that is kept at home waits with this reason",
        snapshot(_USER, Missing.ABSENT, copies={_PULL: Copied.PENDING, _OTHER: _KEPT}),
        shows("Pending", Reason.KEPT_AT_HOME),
    ),
)
