"""Whether each API server knows farlet, and whether home knows it as the node that it serves."""

from __future__ import annotations

from farlet import errors, names
from farlet.cli.checks.findings import Finding, Outcome
from farlet.client import resources, reviews
from farlet.client.cluster import Cluster
from farlet.client.reviews import User
from farlet.planning import api_refusals

REVIEW_SECONDS = 5.0
_ANONYMOUS = "system:anonymous"


async def check(cluster: Cluster, *, node: str) -> tuple[Finding, User | None]:
    """The finding, and the user if it is one with which farlet can work. `node`: --nodename."""
    what = f"{cluster.name} identity"
    try:
        user = await _read(cluster)
    except errors.Unauthorized as err:
        return Finding(what, Outcome.FAILED, str(err), err.advice), None
    except errors.FarletError as err:
        if isinstance(err, errors.Forbidden) and _ANONYMOUS in err.message:
            return _anonymous(what, cluster), None
        # A server before 1.28, or one without the ClusterRole system:basic-user.
        hint = "the permissions are not checked: allow farlet to create selfsubjectreviews"
        return Finding(what, Outcome.WARNING, str(err), hint), None
    if user.name == _ANONYMOUS:
        return _anonymous(what, cluster), None
    if cluster.name == "home" and (wrong := _wrong_node(user, node)) is not None:
        return Finding(what, Outcome.FAILED, user.name, wrong), None
    return Finding(what, Outcome.OK, user.name), user


def _wrong_node(user: User, node: str) -> str | None:
    if user.node is None:
        return None
    if user.node != node:
        return api_refusals.other_node(user.node, node=node)
    if names.NODES not in user.groups:
        return (
            f"the certificate lacks the group {names.NODES}, by which the API server "
            f"recognizes nodes: create one with the subject /O={names.NODES}/CN={user.name} "
            "(docs/installation.md)"
        )
    return None


def _anonymous(what: str, cluster: Cluster) -> Finding:
    hint = (
        f"the {cluster.name} kubeconfig contains no credentials: check --{cluster.name}-kubeconfig "
        f"and --{cluster.name}-context, and put a kubeconfig with a token or a client certificate "
        f"into the Secret farlet-NODE-{cluster.name} (docs/installation.md)"
    )
    return Finding(what, Outcome.FAILED, _ANONYMOUS, hint)


async def _read(cluster: Cluster) -> User:
    """Raises kinds of `FarletError`."""
    answer = await cluster.request_unqueued(
        "POST",
        resources.SELF_REVIEWS,
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        seconds=REVIEW_SECONDS,
    )
    return reviews.user((answer.get("status") or {}).get("userInfo") or {})
