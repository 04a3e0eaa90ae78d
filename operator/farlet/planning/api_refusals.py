"""What an API server's refusal means to the owner of a pod: a reason, and what to do.

Pure. The messages of API servers are kept, since they name the quota, the policy or the missing
permission. The words around them say in which cluster it happened and who can fix it.
"""

from __future__ import annotations

import re

from farlet import errors, names
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
moment ago: it has no such pod, the pod as it was before it was bound, or an earlier pod of the
same name."""


def lags(err: errors.FarletError, *, name: str) -> bool:
    """The caches of the home API server lack a new binding: retry soon, without a report.

    NodeRestriction looks the pod up in its own cache (404 naming the pod, or 403), the Node
    authorizer in its graph (403); `admitServiceAccount` in `plugin/pkg/admission/noderestriction`,
    `plugin/pkg/auth/authorizer/node`.
    """
    if not isinstance(err, errors.ApiError) or err.cluster != "home":
        return False
    if isinstance(err, errors.Forbidden):
        return any(text in err.message for text in _LAGS)
    return isinstance(err, errors.NotFound) and f'"{name}" not found' in err.message


def doubts_namespace(err: errors.FarletError) -> bool:
    """The answer of the foreign API server means that a namespace may not be the one that it was.

    It is being deleted, does not exist, or lacks farlet's Role, as one that was just recreated.
    """
    refused = of(err, step=Step.NAMESPACE)
    return refused is not None and refused.reason in {
        Reason.NAMESPACE_NOT_FOUND,
        Reason.FOREIGN_FORBIDDEN,
    }


_NOT_READY = "not yet ready to handle request"
"""What admission plugins of a starting API server answer, with 403."""

_TERMINATED = "is being terminated"
"""What a namespace that is being deleted answers to all creations, with 403."""


def rejects_for_good(err: errors.ApiError) -> bool:
    """The foreign API server will reject this body each time.

    Its authorizer does not: an administrator can add a permission, and a starting server has not
    read the Roles yet. Nor does a quota: other pods end.
    """
    if isinstance(err, errors.Forbidden):
        return _by_admission(err) and not exceeds_quota(err)
    return isinstance(err, errors.Invalid)


def exceeds_quota(err: errors.ApiError) -> bool:
    """A quota of the namespace is used up (`plugin/pkg/admission/resourcequota` of the API
    server); it can be raised, and what uses it can end.
    """
    return isinstance(err, errors.Forbidden) and "exceeded quota" in err.message


def concerns_one_object(err: errors.ApiError) -> bool:
    """The foreign API server does not accept this object, and possibly accepts others.

    Its name is taken, it is not valid, or admission rejects it: a quota, a policy, the restricted
    endpoints of OpenShift.
    """
    if _by_admission(err):
        return not namespace_ends(err)
    return isinstance(err, errors.Conflict | errors.Invalid)


def namespace_ends(err: errors.FarletError) -> bool:
    """The namespace is being deleted, and takes no object any more."""
    return isinstance(err, errors.Forbidden) and _TERMINATED in err.message


def _by_admission(err: errors.ApiError) -> bool:
    """A 403 about the body: of admission, not of the authorizer or of a starting server."""
    return isinstance(err, errors.Forbidden) and not (_NOT_READY in err.message or _is_denied(err))


def _is_denied(err: errors.ApiError) -> bool:
    """The authorizer does not allow the request."""
    return err.status_reason == "Forbidden" and "cannot" in err.message and "User " in err.message


_REJECTED = {
    Step.TOKEN: "the foreign API server rejected a token request",
    Step.MIRROR: "the foreign API server rejected the mirror pod",
    Step.SECRET: "the foreign API server rejected the mirror pod's Secret",
    Step.CLAIM: "the foreign API server rejected the foreign claim",
    Step.COPY: "the foreign API server rejected the copy of a ConfigMap or Secret",
    Step.CHANGE: "the foreign API server rejected a change of the mirror pod",
    Step.EPHEMERAL_CONTAINER: "the foreign API server rejected the ephemeral container",
    Step.REMOVAL: "the foreign API server rejected the deletion of the mirror pod",
    Step.NAMESPACE: "the foreign API server does not let farlet use the foreign namespace",
}


_DENIED = re.compile(
    r'cannot (?P<verb>[a-z]{1,20}) resource "(?P<resource>[a-z./]{1,100})" '
    r'in API group "[^"]{0,253}" in the namespace "(?P<namespace>[a-z0-9-]{1,63})"'
)
"""A denial in a namespace (`forbiddenMessage` in
`apiserver/pkg/endpoints/handlers/responsewriters/errors.go`). Only what is a valid name becomes
part of a command."""
_ACCOUNT = re.compile(
    r'User "system:serviceaccount:(?P<namespace>[a-z0-9-]{1,63}):(?P<name>[a-z0-9.-]{1,253})"'
)
_OTHER_NODE = re.compile(
    r'User "system:node:(?P<user>[a-z0-9.-]{1,253})" cannot'
    r'|node "(?P<node>[a-z0-9.-]{1,253})" is not allowed to modify node'
)
"""A denial of the Node authorizer, and of NodeRestriction
(`plugin/pkg/admission/noderestriction/admission.go`)."""
_MISSING = re.compile(r'namespaces "(?P<namespace>[a-z0-9-]{1,63})"')

HOME_NAMESPACE = "NAMESPACE"
"""In a command, where the home namespace is not known."""

_BY_HAND = "farlet"
_CONNECTED = "farlet-"
"""The system namespace of manifests, and the prefix of those that `farlet connect` creates."""

_PRIORITY_CLASS = re.compile(r"no PriorityClass with name (?P<name>[a-z0-9.-]{1,253}) was found")
"""`plugin/pkg/admission/priority/admission.go`."""


def of(err: errors.FarletError, *, step: Step, home: str = HOME_NAMESPACE) -> Refused | None:
    """The refusal that a failed step means. `home`: the home namespace that it is about.

    `None`: the error says nothing about this pod (the home API server did not answer, or the
    write met a newer version).
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
        return _home(err) if step is Step.TOKEN else None
    return None if step is Step.HOME else _foreign(err, step=step, home=home)


def _home(err: errors.ApiError) -> Refused | None:
    if isinstance(err, errors.Conflict):
        return None
    return Refused(
        Reason.TOKEN_REQUEST_FAILED,
        "the home API server did not grant a token for the pod's ServiceAccount: "
        f"{err.message}. Check that the ServiceAccount exists and that farlet is allowed to create "
        "serviceaccounts/token",
    )


def _foreign(err: errors.ApiError, *, step: Step, home: str) -> Refused | None:
    text = err.message
    if isinstance(err, errors.Unauthorized):
        return Refused(Reason.FOREIGN_UNAUTHORIZED, err.advice)
    if isinstance(err, errors.Forbidden):
        if exceeds_quota(err):
            return Refused(
                Reason.FOREIGN_QUOTA_EXCEEDED,
                f"the quota of the foreign namespace is used up: {text}. "
                "Raise it or delete what uses it; the pod then starts automatically",
            )
        if namespace_ends(err):
            return Refused(
                Reason.NAMESPACE_NOT_FOUND,
                f"the foreign namespace is being deleted: {text}. Recreate it after the deletion "
                "has finished",
            )
        unknown = _PRIORITY_CLASS.search(text)
        if unknown is not None:
            name = unknown["name"]
            return Refused(
                Reason.FOREIGN_REJECTED,
                f"the foreign cluster has no PriorityClass {name}, which the pod has, by its own "
                "choice or as the default of the home cluster. Ask an administrator to create it "
                f"there, or to set --priority-class-map={name}=CLASS (a class of the foreign "
                "cluster, or 'drop' for none; spec.extraArgs of a VirtualNode). The API server "
                f"answered: {text}",
            )
        if "unable to validate against any security context constraint" in text:
            return Refused(
                Reason.FOREIGN_REJECTED,
                f"{_REJECTED[step]}: {text}. If the home cluster is also OpenShift and chose the "
                "ids, set --scc-ranges=drop (spec.extraArgs of a VirtualNode)",
            )
        if _is_denied(err):
            return Refused(Reason.FOREIGN_FORBIDDEN, _denied(text, home=home))
    if isinstance(err, errors.NotFound):
        if "namespaces " not in text:
            return None
        missing = _MISSING.search(text)
        namespace = "NAMESPACE" if missing is None else missing.group("namespace")
        return Refused(
            Reason.NAMESPACE_NOT_FOUND,
            "the foreign namespace does not exist. "
            f"{preparation(namespace, system=_BY_HAND, home=home)}. The pod then starts "
            f"automatically. The API server answered 404: {text}",
        )
    if isinstance(err, errors.Conflict):
        return None
    return Refused(Reason.FOREIGN_REJECTED, f"{_REJECTED[step]}: {text}")


def _denied(text: str, *, home: str) -> str:
    """An API server authorizes first: it answers 403 also where the namespace does not exist."""
    denied, what = _DENIED.search(text), grant(text, home=home)
    if denied is None:
        return f"farlet lacks a permission in the foreign cluster: {text}. {what}"
    verb, resource, namespace = denied.group("verb", "resource", "namespace")
    return (
        f"farlet is not allowed to {verb} {resource} in the foreign namespace {namespace}, or the "
        f"namespace does not exist. {what}. The API server answered 403: {text}"
    )


def grant(text: str, *, home: str = HOME_NAMESPACE) -> str:
    """What gives farlet the permission whose lack the foreign API server reports in `text`."""
    denied, system = _DENIED.search(text), system_of(text)
    if denied is None and system == _BY_HAND:
        return "Apply manifests/foreign/offloaded-namespace.yaml to the foreign namespace"
    namespace = "" if denied is None else denied["namespace"]
    return preparation(namespace, system=system, home=home)


def system_of(text: str) -> str:
    """farlet's namespace in the foreign cluster, by the account that a denial names."""
    account = _ACCOUNT.search(text)
    return _BY_HAND if account is None else account["namespace"]


CONTEXTS = errors.CONTEXTS
"""In a command of a text, in place of the contexts of its reader, which farlet does not know."""
AT_HOME, THERE = "kubectl --context HOME", "kubectl --context FOREIGN"
"""The same in commands of kubectl."""


def preparation(namespace: str, *, system: str, home: str = HOME_NAMESPACE) -> str:
    """How to prepare a foreign namespace for mirror pods of the home namespace `home`.

    `system` is farlet's namespace in the foreign cluster. The shipped manifests bind the account of
    `farlet`; `farlet connect` binds that of a system namespace with the name of the node.
    """
    if system != _BY_HAND:
        node = system.removeprefix(_CONNECTED)
        named = node if node != system else f"NODE --foreign-system-namespace {system}"
        added = "" if namespace == system else f" --namespace {home}"
        return (
            f"{errors.RUN}farlet connect {CONTEXTS} --node {named}{added} "
            "(a node without farlet connect: docs/namespaces.md)"
        )
    if namespace == system:
        return (
            "In the foreign cluster: kubectl apply -f manifests/foreign/namespace.yaml; kubectl "
            "apply -f manifests/foreign/farlet-namespace.yaml"
        )
    return (
        f"In the foreign cluster: kubectl create namespace {namespace}; kubectl apply -n "
        f"{namespace} -f manifests/foreign/offloaded-namespace.yaml"
    )


def by_manifest(apply: str, *, system: str) -> str:
    """`apply`, a step by hand; for a node of `farlet connect`, which does that itself, connect."""
    return apply if system == _BY_HAND else preparation(system, system=system)


def home_namespace_denied(err: errors.FarletError) -> tuple[str, str] | None:
    """A home namespace in which farlet's ServiceAccount has no permissions, and what to do.

    farlet cannot report that on the pods themselves.
    """
    if not isinstance(err, errors.Forbidden) or err.cluster != "home":
        return None
    denied, account = _DENIED.search(err.message), _ACCOUNT.search(err.message)
    if denied is None or account is None:
        return None
    verb, resource, namespace = denied.group("verb", "resource", "namespace")
    return namespace, (
        f"farlet is not allowed to {verb} {resource} in the home namespace {namespace}, so its "
        "pods stay Pending. In the home cluster: "
        + role_binding(namespace, account=f"{account['namespace']}:{account['name']}")
    )


def of_source(err: errors.ApiError, source: str) -> Refused | None:
    """Why a ConfigMap or Secret of the home cluster, `source`, cannot be read.

    `None`: caches of the home API server lag.
    """
    if not isinstance(err, errors.Forbidden) or lags(err, name=""):
        return None
    denied = home_namespace_denied(err)
    message = denied[1] if denied else f"the home API server answered 403: {err.message}"
    return Refused(Reason.HOME_NAMESPACE_FORBIDDEN, f"farlet cannot read the {source}: {message}")


def of_claim(err: errors.FarletError) -> Refused | None:
    """Why a claim has no volume, or a pod cannot use it.

    `None`: the server did not answer, or the write met a newer version.
    """
    if not isinstance(err, errors.ApiError) or err.cluster != "home":
        return of(err, step=Step.CLAIM)
    if isinstance(err, errors.Conflict | errors.Gone | errors.Throttled):
        return None
    return Refused(
        Reason.VOLUME_NOT_BOUND,
        f"the home API server refuses a request of farlet about volumes: {err.message}. Check "
        "--home-storage-kubeconfig and the ClusterRole farlet-volumes (run farlet check)",
    )


def role_binding(namespace: str, *, account: str) -> str:
    """The command that lets a ServiceAccount `NAMESPACE:NAME` serve pods of a home namespace.

    Its roles are named after it, in `manifests/home` and by `farlet connect`.
    """
    name = account.rpartition(":")[2]
    return (
        f"kubectl create rolebinding {name} -n {namespace} --clusterrole {name}-pods "
        f"--serviceaccount {account}"
    )


def denied_to_other_node(err: errors.Forbidden, *, node: str) -> str | None:
    """What to do where the home API server denied a request for `node` to another node."""
    denied = _OTHER_NODE.search(err.message)
    user = denied and (denied["user"] or denied["node"])
    return None if not user or user == node else other_node(user, node=node)


def other_node(user: str, *, node: str) -> str:
    """The error for a certificate of the node `user`, while farlet should serve `node`."""
    return (
        f"the certificate is of {names.node_user(user)}, but --nodename is {node}: set "
        f"FARLET_NODENAME={user}, or create a certificate for {node} (docs/installation.md)"
    )
