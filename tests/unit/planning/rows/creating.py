"""Rows: H never had a mirror."""

from __future__ import annotations

from farlet import context
from farlet.constants import (
    API_SERVER_SUPPORT,
    OFFLOADABLE_ACCOUNT,
    REMOTE_SERVICE_ACCOUNT_NAME,
    Reason,
)
from farlet.context import DaemonSetPods, RemoteServiceAccounts
from farlet.errors import Refused
from farlet.k8s_types import Pod
from farlet.planning.actions import NOTHING, CreateMirror, Decision
from farlet.planning.snapshot import Missing, Snapshot
from unit.planning.objects import daemon, home, snapshot, waiting
from unit.planning.rows.row import Expected, Row, creates, shows, within

_REMOTE = {API_SERVER_SUPPORT: "remote", REMOTE_SERVICE_ACCOUNT_NAME: "robot"}
_UNREACHABLE = Refused(Reason.FOREIGN_UNREACHABLE, "connection refused")
_LABELLED = within(remote_service_accounts=RemoteServiceAccounts.LABELLED)
_NOT_OFFLOADED = {"namespace_open": False, "namespace_unused": True}
_HOST_NETWORK = home(spec={"hostNetwork": True})


def _wrong(value: str, **more: str) -> Pod:
    return home(annotations={API_SERVER_SUPPORT: value, **more})


def _continues(reason: Reason | None) -> Expected:
    """The mirror of H, and an Event that names this reason, or none."""

    def check(_: Snapshot, got: Decision) -> bool:
        if not isinstance(got.action, CreateMirror):
            return False
        event = got.action.continues
        if reason is None or event is None:
            return event is None and reason is None
        words = f"the pod no longer waits ({reason.value}): farlet created its mirror in"
        return event[0] is Reason.MIRROR_CREATED and event[1].startswith(words)

    return check


CREATED = (
    Row(
        "a pod that starts at once has no Event", snapshot(home(), Missing.ABSENT), _continues(None)
    ),
    Row(
        "a pod that has waited with a reason has an Event when its mirror is created",
        snapshot(waiting(home(), Reason.NAME_CONFLICT, "taken"), Missing.ABSENT),
        _continues(Reason.NAME_CONFLICT),
    ),
    Row(
        "a pod that waited for a foreign node has no such Event",
        snapshot(waiting(home(), Reason.UNSCHEDULABLE, "0/3 nodes"), Missing.ABSENT),
        _continues(None),
    ),
    Row("a new pod gets a mirror", snapshot(home(), Missing.ABSENT), creates()),
    *(
        Row(
            f"a mirror of restartPolicy {policy} is kept by a finalizer until its end is seen",
            snapshot(home(policy=policy), Missing.ABSENT),
            creates(observed=True),
        )
        for policy in ("Never", "OnFailure")
    ),
    Row(
        "a pod that reads the home API gets its token with the mirror",
        snapshot(home(reads_token=True), Missing.ABSENT),
        creates(token_specs=1),
    ),
    Row(
        "a pod of the foreign API starts where its account exists",
        snapshot(home(annotations=_REMOTE), Missing.ABSENT, accounts={"robot": {}}),
        creates(),
    ),
    Row(
        "a pod of the foreign API starts where its account has the required label",
        snapshot(
            home(annotations=_REMOTE),
            Missing.ABSENT,
            accounts={"robot": {"labels": {OFFLOADABLE_ACCOUNT: "true"}}},
        ),
        creates(),
        ctx=_LABELLED,
    ),
    Row(
        "a pod of a DaemonSet gets a mirror where the setting lets it pass",
        snapshot(waiting(daemon(home()), Reason.DAEMONSET_NOT_ALLOWED, "before"), Missing.ABSENT),
        creates(),
        ctx=within(daemonset_pods=DaemonSetPods.RUN),
    ),
    Row(
        "a pod that waited for its account starts when it appears",
        snapshot(
            waiting(home(annotations=_REMOTE), Reason.SERVICE_ACCOUNT_NOT_FOUND, "missing"),
            Missing.ABSENT,
            accounts={"robot": {}},
        ),
        creates(),
    ),
)

UNSEEN = (
    Row(
        "a pod that needs a Secret waits with the reason why Secrets cannot be watched",
        snapshot(
            home(reads_token=True),
            Missing.ABSENT,
            problem=Refused(Reason.FOREIGN_FORBIDDEN, "secrets is forbidden"),
        ),
        shows("Pending", Reason.FOREIGN_FORBIDDEN),
    ),
    Row(
        "a pod without a Secret starts although Secrets cannot be watched",
        snapshot(
            home(),
            Missing.ABSENT,
            problem=Refused(Reason.FOREIGN_FORBIDDEN, "secrets is forbidden"),
        ),
        creates(),
    ),
    Row(
        "nothing is created while the foreign side is unknown",
        snapshot(home(), Missing.UNKNOWN),
        NOTHING,
    ),
    Row(
        "a pod waits with the reason why the foreign side is unknown",
        snapshot(home(), Missing.UNKNOWN, problem=_UNREACHABLE),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
    Row(
        "the same reason is not written twice",
        snapshot(
            waiting(home(), _UNREACHABLE.reason, _UNREACHABLE.message),
            Missing.UNKNOWN,
            problem=_UNREACHABLE,
        ),
        NOTHING,
    ),
    Row(
        "a refused pod shows that although the foreign side is unknown",
        snapshot(_wrong("nearby"), Missing.UNKNOWN, problem=_UNREACHABLE),
        shows("Pending", Reason.INVALID_API_SERVER_SUPPORT),
    ),
    Row(
        "a pod waits without a reason while accounts are unknown",
        snapshot(home(annotations=_REMOTE), Missing.ABSENT),
        NOTHING,
    ),
    Row(
        "accounts that cannot be read are reported",
        snapshot(home(annotations=_REMOTE), Missing.ABSENT, problem=_UNREACHABLE),
        shows("Pending", Reason.FOREIGN_UNREACHABLE),
    ),
)

REFUSED = (
    *(
        Row(
            f"API access {value!r} is refused",
            snapshot(_wrong(value), Missing.ABSENT),
            shows("Pending", Reason.INVALID_API_SERVER_SUPPORT),
        )
        for value in ("nearby", "Home", " home", "", "true")
    ),
    *(
        Row(
            f"a foreign account is refused with API access {value}",
            snapshot(_wrong(value, **{REMOTE_SERVICE_ACCOUNT_NAME: "robot"}), Missing.ABSENT),
            shows("Pending", Reason.INVALID_REMOTE_SERVICE_ACCOUNT),
        )
        for value in ("home", "disabled")
    ),
    Row(
        "a foreign account of an impossible name is refused",
        snapshot(_wrong("remote", **{REMOTE_SERVICE_ACCOUNT_NAME: "No_Name"}), Missing.ABSENT),
        shows("Pending", Reason.INVALID_REMOTE_SERVICE_ACCOUNT),
    ),
    Row(
        "a missing account is waited for",
        snapshot(home(annotations=_REMOTE), Missing.ABSENT, accounts={"default": {}}),
        shows("Pending", Reason.SERVICE_ACCOUNT_NOT_FOUND),
    ),
    Row(
        "a pod waits for an account without the required label",
        snapshot(
            home(annotations=_REMOTE),
            Missing.ABSENT,
            accounts={"robot": {"labels": {OFFLOADABLE_ACCOUNT: "false"}}},
        ),
        shows("Pending", Reason.SERVICE_ACCOUNT_NOT_ALLOWED),
        ctx=_LABELLED,
    ),
    Row(
        "an account of another name is refused where only the same is allowed",
        snapshot(home(annotations=_REMOTE), Missing.ABSENT, accounts={"robot": {}}),
        shows("Pending", Reason.SERVICE_ACCOUNT_NOT_ALLOWED),
        ctx=within(remote_service_accounts=RemoteServiceAccounts.SAME_NAME),
    ),
    Row(
        "a pod of a DaemonSet waits",
        snapshot(daemon(home()), Missing.ABSENT),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "a pod of a DaemonSet shows that although the foreign side is unknown",
        snapshot(daemon(home()), Missing.UNKNOWN, problem=_UNREACHABLE),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "a pod of a DaemonSet shows no other obstacle",
        snapshot(
            daemon(home(annotations={API_SERVER_SUPPORT: "nearby"}, spec={"hostNetwork": True})),
            Missing.ABSENT,
        ),
        shows("Pending", Reason.DAEMONSET_NOT_ALLOWED),
    ),
    Row(
        "a pod of a namespace that is not offloaded waits",
        snapshot(home(), Missing.UNKNOWN, **_NOT_OFFLOADED),
        shows("Pending", Reason.NAMESPACE_NOT_OFFLOADED),
        ctx=within(
            namespaces=type(within().namespaces)(home="h", own="farlet", template=None),
        ),
    ),
    Row(
        "a pod of mode remote in a namespace that is not offloaded waits",
        snapshot(
            home(annotations={API_SERVER_SUPPORT: "remote"}), Missing.UNKNOWN, **_NOT_OFFLOADED
        ),
        shows("Pending", Reason.NAMESPACE_NOT_OFFLOADED),
        ctx=within(
            namespaces=type(within().namespaces)(home="h", own="farlet", template=None),
        ),
    ),
    Row(
        "a pod without an address of the home API waits",
        snapshot(home(reads_token=True), Missing.ABSENT),
        shows("Pending", Reason.HOME_API_NOT_CONFIGURED),
        ctx=within(home_api=context.NotConfigured()),
    ),
    Row(
        "a pod is not sent to an address with a wrong certificate",
        snapshot(home(reads_token=True), Missing.ABSENT),
        shows("Pending", Reason.HOME_API_CERTIFICATE_INVALID),
        ctx=within(
            home_api=context.Refused(
                Reason.HOME_API_CERTIFICATE_INVALID, "another CA", within().endpoint
            )
        ),
    ),
    Row(
        "a pod that wants the host's network waits",
        snapshot(_HOST_NETWORK, Missing.ABSENT),
        shows("Pending", Reason.POD_FEATURE_NOT_ALLOWED),
    ),
    Row(
        "a new reason replaces the old one",
        snapshot(waiting(_wrong("nearby"), Reason.FOREIGN_UNREACHABLE, "before"), Missing.ABSENT),
        shows("Pending", Reason.INVALID_API_SERVER_SUPPORT),
    ),
)

ROWS = (*CREATED, *UNSEEN, *REFUSED)
