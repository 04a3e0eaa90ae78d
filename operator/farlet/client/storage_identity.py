"""Whether `--home-storage-kubeconfig` leads to the home cluster.

What another cluster answers about claims would let farlet delete foreign claims of the home
cluster. Only requests that farlet is allowed to send anyway are used: the two connections are
compared, and the home API server reviews the ServiceAccount token for volumes, which no other
cluster has issued then.
"""

from __future__ import annotations

from farlet import errors
from farlet.client import same_cluster
from farlet.client.cluster import Cluster
from farlet.constants import Reason


class StorageIdentity:
    """Confirms it once for each connection: server, CA and client certificate."""

    def __init__(self, home: Cluster, storage: Cluster) -> None:
        """`storage` sends with the identity for volumes; it can be `home`."""
        self._home = home
        self._storage = storage
        self._connection: object = None
        """The one that was confirmed last."""

    @property
    def confirmed(self) -> bool:
        """Whether answers and writes are those of the home cluster."""
        if self._storage is self._home:
            return True
        return self._connection is not None and self._connection == self._storage.connection

    def guard(self) -> float:
        """A `write_guard.Guard`: raises `Refused` just before a write would be sent."""
        if not self.confirmed:
            raise _unconfirmed("its connection has changed")
        return float("inf")

    async def confirm(self) -> None:
        """Whether the answers before it are of the home cluster; no request if that is known.

        Raises `Refused` if they are perhaps not, and what `ApiClient.request_unqueued` raises.
        """
        if self.confirmed:
            return
        await self._storage.login()
        connection = self._storage.connection
        if not same_cluster.is_same_connection(self._home, self._storage):
            await self._review()
        if connection != self._storage.connection:
            raise _unconfirmed("its connection has changed")
        self._connection = connection

    async def _review(self) -> None:
        token = await same_cluster.bearer_token(self._storage)
        if token is None:
            raise _unconfirmed(
                f"it contains no token, and its server {self._storage.server} or its CA is not "
                f"that of --home-kubeconfig ({self._home.server})"
            )
        if await same_cluster.account_of(self._home, token) is None:
            raise _unconfirmed(
                f"the home API server {self._home.server} does not accept its token as one of a "
                "ServiceAccount"
            )


def _unconfirmed(why: str) -> errors.Refused:
    return errors.Refused(
        Reason.PROVISIONING_FAILED,
        f"--home-storage-kubeconfig may lead to another cluster: {why}. farlet changes no "
        "volume until this is clear. Set it to the token of a ServiceAccount of the home cluster, "
        "or use the server and CA of --home-kubeconfig (docs/volumes.md)",
    )
