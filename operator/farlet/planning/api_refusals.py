"""What a refusal by an API server means for a pod: a reason, and what to do.

Pure. Messages contain the API server's text, since it names the quota, the policy or the missing
permission; farlet adds which cluster refused the request and who can fix it.
"""

from __future__ import annotations

from farlet import errors
from farlet.constants import Reason
from farlet.errors import Refused

_LAGS = (
    "no relationship found",
    "not yet synced",
    "pod scheduled on a different node",
    "does not match the UID in record",
)
"""The Node authorizer's graph or NodeRestriction's cache lags behind for a pod that was bound a
moment ago: it has no such pod yet, one without a node, or an earlier pod of that name."""


_SUBJECTS = {
    "mirror": "pod",
    "secret": "pod's Secret",
    "scope": "requests of farlet in the foreign namespace",
}
"""What was rejected, for readers of a pod's status."""


def lags(err: errors.FarletError, *, name: str) -> bool:
    """The home API server's caches have no recent binding yet: retry at once, without a report.

    NodeRestriction looks the pod up in its own cache (404 naming the pod, or 403), the Node
    authorizer in its graph (403); `admitServiceAccount` in `plugin/pkg/admission/noderestriction`,
    `plugin/pkg/auth/authorizer/node`.
    """
    if not isinstance(err, errors.ApiError) or err.cluster != "home":
        return False
    if isinstance(err, errors.Forbidden):
        return any(text in err.message for text in _LAGS)
    return isinstance(err, errors.NotFound) and f'"{name}" not found' in err.message


def of(err: errors.FarletError, *, what: str) -> Refused | None:
    """The refusal that a failed request means, or `None` if it means nothing for this pod.

    `what` is `token` for a request at home, else what the request concerned in the foreign cluster:
    `mirror`, `secret`, `scope`, `removal of the mirror`, or empty. A lost answer of the home API
    server and a lost race, for example, mean nothing for the pod.
    """
    if isinstance(err, errors.Refused):
        return err
    if isinstance(err, errors.Unreachable):
        if err.cluster == "home":
            return None
        return Refused(
            Reason.FOREIGN_UNREACHABLE,
            f"the foreign API server does not answer ({err.cause}). farlet keeps trying; "
            "its log and the metric farlet_foreign_up show when it is back",
        )
    if not isinstance(err, errors.ApiError) or isinstance(err, errors.Throttled | errors.Gone):
        return None
    if err.cluster == "home":
        return _home(err) if what == "token" else None
    if not what:
        return None
    return _foreign(err, what=what)


def _home(err: errors.ApiError) -> Refused | None:
    if isinstance(err, errors.Conflict):
        return None
    return Refused(
        Reason.TOKEN_REQUEST_FAILED,
        f"the home API server refused a token for the pod's ServiceAccount: {err.message}. Check "
        "that the ServiceAccount exists and that farlet is allowed to create serviceaccounts/token",
    )


def _foreign(err: errors.ApiError, *, what: str) -> Refused | None:
    text = err.message
    if isinstance(err, errors.Forbidden):
        if "exceeded quota" in text:
            return Refused(
                Reason.FOREIGN_QUOTA_EXCEEDED,
                f"the quota of the foreign namespace is exhausted: {text}. "
                "Free or raise it; the pod then starts automatically",
            )
        if "is being terminated" in text:
            return Refused(
                Reason.NAMESPACE_NOT_FOUND,
                f"the foreign namespace is being deleted: {text}. Recreate it once it is gone",
            )
        if err.status_reason == "Forbidden" and "cannot" in text and "User " in text:
            return Refused(
                Reason.FOREIGN_FORBIDDEN,
                f"farlet lacks a permission in the foreign cluster: {text}. "
                "Apply manifests/foreign/offloaded-namespace.yaml there",
            )
    if isinstance(err, errors.NotFound):
        if "namespaces " not in text:
            return None
        return Refused(
            Reason.NAMESPACE_NOT_FOUND,
            f"the foreign namespace does not exist: {text}. Create it with farlet's Role in "
            "it; the pod then starts automatically",
        )
    if isinstance(err, errors.Conflict):
        return None
    if err.code == 401:
        return Refused(
            Reason.FOREIGN_REJECTED,
            "the foreign API server does not accept farlet's credentials (401): the token has "
            "expired or was revoked. Put a new one into the Secret farlet-foreign",
        )
    return Refused(
        Reason.FOREIGN_REJECTED,
        f"the foreign API server rejected the {_SUBJECTS.get(what, what)}: {text}",
    )
