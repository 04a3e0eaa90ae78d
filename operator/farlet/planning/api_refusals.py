"""What an API server's "no" means to the owner of a pod: a reason and what to do.

Pure. The texts of API servers are kept, since they name the quota, the policy or the right;
ours say on which side it happened and who can cure it.
"""

from __future__ import annotations

from farlet import errors
from farlet.constants import Reason
from farlet.errors import Refused
from farlet.planning.actions import Step

_LAGS = (
    "no relationship found",
    "not yet synced",
    "pod scheduled on a different node",
    "does not match the UID in record",
)
"""The Node authorizer's graph, or NodeRestriction's cache, is behind for a pod that was bound a
moment ago: it knows none, one that no scheduler has seen, or another that had the same name."""


def lags(err: errors.FarletError, *, name: str) -> bool:
    """Home's caches have not seen a fresh binding yet: come again at once, without a word.

    NodeRestriction looks the pod up in its own cache (404 naming the pod, or 403), the Node
    authorizer in its graph (403); `admitServiceAccount` in `plugin/pkg/admission/noderestriction`,
    `plugin/pkg/auth/authorizer/node`.
    """
    if not isinstance(err, errors.ApiError) or err.cluster != "home":
        return False
    if isinstance(err, errors.Forbidden):
        return any(text in err.message for text in _LAGS)
    return isinstance(err, errors.NotFound) and f'"{name}" not found' in err.message


_WHAT = {
    Step.TOKEN: "token",
    Step.MIRROR: "mirror",
    Step.SECRET: "secret",
    Step.REMOVAL: "removal of the mirror",
    Step.NAMESPACE: "scope",
}


def of(err: errors.FarletError, *, step: Step) -> Refused | None:
    """The refusal that a failed step means.

    `None`: it says nothing about this pod (a lost answer of the home API, a lost race).
    """
    if isinstance(err, errors.Refused):
        return err
    if isinstance(err, errors.Unreachable):
        if err.cluster == "home":
            return None
        return Refused(
            Reason.FOREIGN_UNREACHABLE,
            f"the foreign API server does not answer ({err.cause}). farlet keeps trying; "
            "its log and the metric farlet_foreign_up tell more",
        )
    if not isinstance(err, errors.ApiError) or isinstance(err, errors.Throttled | errors.Gone):
        return None
    if err.cluster == "home":
        return _home(err) if step is Step.TOKEN else None
    return None if step is Step.HOME else _foreign(err, what=_WHAT[step])


def _home(err: errors.ApiError) -> Refused | None:
    if isinstance(err, errors.Conflict):
        return None
    return Refused(
        Reason.TOKEN_REQUEST_FAILED,
        f"the home API server gave no token for the pod's ServiceAccount: {err.message}. "
        "Check that the ServiceAccount exists and that farlet may create serviceaccounts/token",
    )


def _foreign(err: errors.ApiError, *, what: str) -> Refused | None:
    text = err.message
    if isinstance(err, errors.Forbidden):
        if "exceeded quota" in text:
            return Refused(
                Reason.FOREIGN_QUOTA_EXCEEDED,
                f"the foreign namespace's quota is used up: {text}. "
                "Free or raise it; the pod goes on by itself",
            )
        if "is being terminated" in text:
            return Refused(
                Reason.NAMESPACE_NOT_FOUND,
                f"the foreign namespace is being deleted: {text}. Create it again when it is gone",
            )
        if err.status_reason == "Forbidden" and "cannot" in text and "User " in text:
            return Refused(
                Reason.FOREIGN_FORBIDDEN,
                f"farlet lacks a right in the foreign cluster: {text}. "
                "Apply manifests/foreign/offloaded-namespace.yaml there",
            )
    if isinstance(err, errors.NotFound):
        if "namespaces " not in text:
            return None
        return Refused(
            Reason.NAMESPACE_NOT_FOUND,
            f"the foreign namespace does not exist: {text}. Create it and farlet's Role in it; "
            "the pod goes on by itself",
        )
    if isinstance(err, errors.Conflict):
        return None
    return Refused(
        Reason.FOREIGN_REJECTED,
        f"the foreign cluster does not take the {what}: {text}",
    )
