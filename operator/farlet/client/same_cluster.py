"""Whether the foreign credentials lead to the home cluster, as a copied kubeconfig does.

Each pod would then get a mirror beside it. Only what any farlet may do is used: the home API server
reviews the foreign ServiceAccount token, and the two connections are compared. A token of another
kind proves nothing: clusters share issuers of user tokens.
"""

from __future__ import annotations

from pathlib import Path

from farlet import errors
from farlet.client import resources
from farlet.client.cluster import Cluster

REVIEW_SECONDS = 5.0
_ACCOUNT = "system:serviceaccount:"
_BEARER = "Bearer "


async def refuse(home: Cluster, foreign: Cluster) -> None:
    """Raises `StartError` if both are the same cluster. No answer proves nothing."""
    how = _by_connection(home, foreign) or await _by_token(home, foreign)
    if how is not None:
        raise errors.StartError(
            f"the foreign cluster is the home cluster: {how}. Set --foreign-kubeconfig (and "
            "--foreign-context) to the credentials of the foreign cluster"
        )


def _by_connection(home: Cluster, foreign: Cluster) -> str | None:
    if home.server != foreign.server or _ca(home) != _ca(foreign):
        return None
    return f"both kubeconfigs contain the server {home.server} and the same CA"


def _ca(cluster: Cluster) -> bytes | None:
    return None if cluster.ca_file is None else Path(cluster.ca_file).read_bytes()


async def _by_token(home: Cluster, foreign: Cluster) -> str | None:
    authorization = (await foreign.login()).authorization or ""
    if not authorization.startswith(_BEARER):
        return None
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": authorization.removeprefix(_BEARER)},
    }
    try:
        # Unqueued, as it asks no guard: a standby verifies this, too, and it changes nothing.
        answer = await home.request_unqueued(
            "POST", resources.TOKEN_REVIEWS, body=body, seconds=REVIEW_SECONDS
        )
    except errors.FarletError:
        return None
    status = answer.get("status") or {}
    user = str((status.get("user") or {}).get("username", ""))
    if status.get("authenticated") is not True or not user.startswith(_ACCOUNT):
        return None
    return f"the home API server accepts the foreign token, of the user {user[:300]}"
