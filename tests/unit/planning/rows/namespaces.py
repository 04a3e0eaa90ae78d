"""Rows: what is known of the foreign namespace: not offloaded, never used, its anchor in doubt."""

from __future__ import annotations

from typing import Any

from farlet import constants
from farlet.constants import Reason
from farlet.context import NamespaceMap
from farlet.errors import Refused
from farlet.k8s_types import Pod
from farlet.planning import plan
from farlet.planning.actions import (
    NOTHING,
    ConfirmMirrorGone,
    CreateNamespace,
    RecheckAnchor,
    ReclaimMirror,
    Wait,
)
from farlet.planning.snapshot import Missing, Snapshot
from unit.planning.objects import (
    CONTEXT,
    MIRROR,
    MIRROR_KEY,
    RUNNING,
    daemon,
    ended,
    home,
    mirror,
    shown,
    snapshot,
)
from unit.planning.rows.row import Row, creates, does, notes, removes, shows, within

_NOT_OFFLOADED = within(namespaces=NamespaceMap(home="h", own="farlet", template=None))
_UNREACHABLE = Refused(Reason.FOREIGN_UNREACHABLE, "connection refused")
_RUNNING = home(phase="Running", state=RUNNING, mirrored=MIRROR)
_LEAVING = home(phase="Running", state=RUNNING, mirrored=MIRROR, grace=30)


def _unread(pod: Pod | Missing) -> Snapshot:
    """The inventory was not read, so that no namespace is followed."""
    return snapshot(pod, Missing.UNKNOWN, namespace_open=False, problem=_UNREACHABLE)


def _unused(pod: Pod | Missing) -> Snapshot:
    """The inventory lists no such namespace, and farlet does not follow it."""
    return snapshot(pod, Missing.UNKNOWN, namespace_open=False, namespace_unused=True)


_MISSPELLED = {"liqo.io/api-server-suport": "remote"}

NOT_FOLLOWED = (
    Row(
        "a misspelled annotation is reported while the pod waits",
        snapshot(home(annotations=_MISSPELLED), Missing.UNKNOWN),
        notes(Reason.UNKNOWN_ANNOTATION),
    ),
    Row(
        "a misspelled annotation is reported although the pod runs",
        snapshot(shown(home(annotations=_MISSPELLED), mirror()), mirror()),
        notes(Reason.UNKNOWN_ANNOTATION),
    ),
    Row(
        "a terminating pod that ran in a namespace no longer offloaded stays and reports why",
        _unused(_LEAVING),
        notes(Reason.NAMESPACE_NOT_OFFLOADED),
        ctx=_NOT_OFFLOADED,
    ),
    Row(
        "a terminating pod of a namespace that is not offloaded is removed if it never ran",
        _unused(ended(home(grace=30))),
        removes(),
        ctx=_NOT_OFFLOADED,
    ),
    Row(
        "a running pod of a namespace that is no longer offloaded stays as it is",
        _unused(_RUNNING),
        NOTHING,
        ctx=_NOT_OFFLOADED,
    ),
    Row(
        "a DaemonSet's pod waits although its foreign namespace is not watched",
        _unused(daemon(home())),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "a DaemonSet's terminating pod is removed although its foreign namespace is not watched",
        _unused(daemon(ended(home(grace=30)))),
        removes(),
    ),
    *(
        Row(
            f"before the inventory is read a terminating pod {text} stays",
            _unread(pod),
            NOTHING,
        )
        for pod, text in ((home(grace=30), "that never ran"), (_LEAVING, "that ran"))
    ),
    Row(
        "before the inventory is read a new pod waits with the reason",
        _unread(home()),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
    Row("a home pod that is gone needs no namespace", _unused(Missing.ABSENT), NOTHING),
)

UNUSED = (
    Row(
        "a terminating pod is removed without a request where nothing was ever created",
        snapshot(ended(home(grace=30)), Missing.ABSENT, namespace_unused=True),
        removes(),
    ),
    Row(
        "a terminating pod whose status shows a mirror is read live in any namespace",
        snapshot(_LEAVING, Missing.ABSENT, namespace_unused=True),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a lost mirror is read live though the inventory lists no such namespace",
        snapshot(_RUNNING, Missing.ABSENT, namespace_unused=True),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "nothing is created in an unused namespace while it is not open yet",
        snapshot(home(), Missing.UNKNOWN, namespace_unused=True, anchor=None),
        NOTHING,
    ),
)

_DYING = mirror(grace=30)
_SHOWN = shown(home(), _DYING)
_ONCE = home(phase="Running", state=RUNNING, mirrored=MIRROR, policy="Never")

ANCHORS = (
    Row(
        "a new pod waits until an anchor in doubt is read again",
        snapshot(home(), Missing.ABSENT, anchor_doubted=True),
        does(RecheckAnchor()),
    ),
    Row(
        "a lost mirror is not created again until an anchor in doubt is read again",
        snapshot(_RUNNING, Missing.ABSENT, mirror_gone=True, anchor_doubted=True),
        does(RecheckAnchor()),
    ),
    Row(
        "a mirror that is absent is read live before its anchor is read again",
        snapshot(_RUNNING, Missing.ABSENT, anchor_doubted=True),
        does(ConfirmMirrorGone(MIRROR_KEY)),
    ),
    Row(
        "a lost mirror of restartPolicy Never fails its home pod whatever the anchor is",
        snapshot(_ONCE, Missing.ABSENT, mirror_gone=True, anchor_doubted=True),
        shows("Failed", Reason.MIRROR_LOST),
    ),
    Row(
        "a pod that cannot be created needs no anchor",
        snapshot(daemon(home()), Missing.ABSENT, anchor_doubted=True),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "a mirror that is being deleted needs no anchor",
        snapshot(_SHOWN, _DYING, anchor_doubted=True),
        does(Wait(plan.OVERDUE_SECONDS)),
    ),
    Row(
        "nothing is created without an anchor",
        snapshot(home(), Missing.ABSENT, anchor=None),
        NOTHING,
    ),
    Row(
        "a pod reports why its namespace has no anchor",
        snapshot(home(), Missing.ABSENT, anchor=None, problem=_UNREACHABLE),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
)

_ELSEWHERE = mirror(of="another-home-uid", home_namespace="shop")

SHARED = (
    Row(
        "a pod waits whose foreign namespace belongs to another home namespace",
        snapshot(
            home(),
            Missing.UNKNOWN,
            namespace_open=False,
            namespace_unused=True,
            anchor=None,
            problem=Refused(Reason.FOREIGN_NAMESPACE_IN_USE, "it belongs to shop"),
        ),
        shows("Pending", Reason.FOREIGN_NAMESPACE_IN_USE),
    ),
    Row(
        "a pod of another home namespace that has the name is never changed",
        snapshot(home(), _ELSEWHERE),
        shows("Pending", Reason.NAME_CONFLICT, retry=True),
    ),
    Row(
        "a pod of another home namespace does not end with a home pod of its name",
        snapshot(Missing.ABSENT, _ELSEWHERE, home_gone=True),
        NOTHING,
    ),
    Row(
        "a mirror whose home namespace was changed gets it back",
        snapshot(_RUNNING, _CHANGED := mirror(home_namespace="shop")),
        does(
            ReclaimMirror(
                _RUNNING,
                _CHANGED,
                {constants.VIRTUAL_NODE_ID: CONTEXT.virtual_node_id},
                {
                    constants.HOME_NAMESPACE: "default",
                    constants.HOME_NAME: "web",
                    constants.HOME_UID: "home-1",
                },
            )
        ),
    ),
)


def _nonexistent(pod: Pod, mirror: Pod | Missing = Missing.UNKNOWN, **known: Any) -> Snapshot:
    """The foreign namespace does not exist, and farlet creates namespaces."""
    return snapshot(
        pod, mirror, namespace_missing=True, namespace_unused=True, anchor=None, **known
    )


_WRONG = home(annotations={constants.API_SERVER_SUPPORT: "any"})
_ON_HOST = home()
_ON_HOST["spec"]["hostNetwork"] = True

NONEXISTENT = (
    Row(
        "the first pod of a namespace has its foreign namespace created",
        _nonexistent(home()),
        does(CreateNamespace()),
    ),
    Row(
        "a pod that had a mirror has a foreign namespace that is gone created",
        _nonexistent(_RUNNING),
        does(CreateNamespace()),
    ),
    Row(
        "a lost mirror has a foreign namespace that is gone created",
        _nonexistent(_RUNNING, Missing.ABSENT, mirror_gone=True),
        does(CreateNamespace()),
    ),
    Row(
        "a foreign namespace whose creation was refused is tried again for a lost mirror",
        _nonexistent(
            home(phase="Running", mirrored=MIRROR, reads_token=True),
            Missing.ABSENT,
            mirror_gone=True,
            secret=Missing.UNKNOWN,
            problem=Refused(Reason.FOREIGN_FORBIDDEN, "namespaces is forbidden"),
        ),
        does(CreateNamespace()),
    ),
    Row(
        "no namespace is created for a pod of a DaemonSet",
        _nonexistent(daemon(home())),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "no namespace is created for a pod with an unknown access mode",
        _nonexistent(_WRONG),
        shows("Pending", Reason.INVALID_API_SERVER_SUPPORT),
    ),
    Row(
        "no namespace is created for a pod with a feature that is not allowed",
        _nonexistent(_ON_HOST),
        shows("Pending", Reason.POD_FEATURE_NOT_ALLOWED),
    ),
    Row(
        "no namespace is created for a pod that is being deleted and never ran",
        _nonexistent(ended(home(grace=30))),
        removes(),
    ),
    Row(
        "no namespace is created for a pod that has ended",
        _nonexistent(home(phase="Succeeded")),
        NOTHING,
    ),
    Row(
        "no namespace is created in a cluster that is not confirmed",
        _nonexistent(home(), foreign_confirmed=False),
        NOTHING,
    ),
)

_NOT_REFLECTED = Refused(Reason.FOREIGN_FORBIDDEN, "no Role for Services")

REFLECTED = (
    Row(
        "a new pod waits until the Services of its namespace are reflected",
        snapshot(home(), Missing.ABSENT, services_ready=False),
        NOTHING,
    ),
    Row(
        "a lost mirror waits until the Services of its namespace are reflected",
        snapshot(_RUNNING, Missing.ABSENT, mirror_gone=True, services_ready=False),
        NOTHING,
    ),
    Row(
        "a pod reports why the Services of its namespace are not reflected",
        snapshot(home(), Missing.ABSENT, services_ready=False, services_problem=_NOT_REFLECTED),
        shows("Pending", Reason.FOREIGN_FORBIDDEN),
    ),
    Row(
        "a pod starts although Services that were reflected cannot be updated now",
        snapshot(home(), Missing.ABSENT, services_problem=_NOT_REFLECTED),
        creates(),
    ),
)

ROWS = (*NOT_FOLLOWED, *UNUSED, *ANCHORS, *SHARED, *NONEXISTENT, *REFLECTED)
