"""Whether the foreign credentials lead to the home cluster, as a copied kubeconfig does.

Each pod would then get a mirror beside it. Only requests that every farlet is allowed to send are
used: the home API server reviews the foreign ServiceAccount token, and the two connections are
compared. A token of another kind proves nothing: clusters share issuers of user tokens.
"""

from __future__ import annotations

from pathlib import Path

from farlet import errors, names
from farlet.client import resources, reviews
from farlet.client.cluster import Cluster

REVIEW_SECONDS = 5.0
_BEARER = "Bearer "


async def refuse(home: Cluster, foreign: Cluster) -> None:
    """Raises `StartError` if both are the same cluster. No answer proves nothing."""
    how = _by_connection(home, foreign) or await _by_token(home, foreign)
    if how is not None:
        raise errors.StartError(
            f"the foreign cluster is the home cluster: {how}. Set --foreign-kubeconfig (and "
            "--foreign-context) to the credentials of the foreign cluster"
        )


def is_same_connection(one: Cluster, other: Cluster) -> bool:
    """Whether both logins, once loaded, have the same server and the same CA."""
    return one.server == other.server and _ca(one) == _ca(other)


def _by_connection(home: Cluster, foreign: Cluster) -> str | None:
    if not is_same_connection(home, foreign):
        return None
    return f"both kubeconfigs contain the server {home.server} and the same CA"


def _ca(cluster: Cluster) -> bytes | None:
    return None if cluster.ca_file is None else Path(cluster.ca_file).read_bytes()


async def _by_token(home: Cluster, foreign: Cluster) -> str | None:
    token = await bearer_token(foreign)
    try:
        user = None if token is None else await account_of(home, token)
    except errors.FarletError:
        return None
    return user and f"the home API server accepts the foreign token, of the user {user}"


async def bearer_token(cluster: Cluster) -> str | None:
    """The token that requests are sent with; `None`: other credentials."""
    authorization = (await cluster.login()).authorization or ""
    return authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else None


async def account_of(cluster: Cluster, token: str) -> str | None:
    """The user of a token, if `cluster` accepts it as that of a ServiceAccount.

    Raises what `ApiClient.request_unqueued` raises.
    """
    # Unqueued, as it asks no guard: a standby verifies this, too, and it changes nothing.
    answer = await cluster.request_unqueued(
        "POST", resources.TOKEN_REVIEWS, body=reviews.token(token), seconds=REVIEW_SECONDS
    )
    status = answer.get("status") or {}
    user = str((status.get("user") or {}).get("username", ""))
    if status.get("authenticated") is not True or not user.startswith(names.ACCOUNT_USER):
        return None
    return user[:300]
