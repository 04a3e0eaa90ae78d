"""What volumes require of the home cluster, verified at start: permissions and StorageClasses."""

from __future__ import annotations

import asyncio

import structlog

from farlet import errors, rbac, retrying
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.client.reviews import User
from farlet.client.storage_identity import StorageIdentity
from farlet.constants import PROVISIONER
from farlet.context import Context
from farlet.node import prerequisites
from farlet.rbac import Identity

BINDING_MODE = "WaitForFirstConsumer"
_FIX = "In the home cluster: kubectl apply -f manifests/home/volumes (docs/volumes.md)"

RETRY_SECONDS = 5.0

log = structlog.get_logger()


async def confirm(identity: StorageIdentity, stop: asyncio.Event) -> bool:
    """Wait until the identity for volumes is known to be one of the home cluster.

    False if `stop` came first. Raises `StartError` if it is perhaps one of another cluster.
    """
    failures = retrying.OncePerCause()
    while True:
        try:
            await identity.confirm()
        except (errors.Unreachable, errors.Throttled) as err:
            if failures.is_new(str(err)):
                log.warning(
                    "failed to confirm cluster of volumes", err=str(err), retry_in=RETRY_SECONDS
                )
        except (errors.ApiError, errors.Refused) as err:
            raise errors.StartError(str(err)) from err
        else:
            return True
        if await retrying.wait(stop, RETRY_SECONDS):
            return False


async def check(home: ApiClient, ctx: Context, *, user: User | None = None) -> None:
    """Raises `StartError` for a missing permission and for a class that farlet cannot provide for.

    `home` sends with the identity for volumes, unless that is `user`. An API server that does not
    answer is accepted.
    """
    try:
        await _check_permissions(home, user)
        for name in dict(ctx.storage_class_map):
            await _check_class(home, name)
    except errors.Forbidden as err:
        raise errors.StartError(f"farlet cannot provide volumes: {err}. {_FIX}") from err
    except errors.Unauthorized as err:
        raise errors.StartError(
            f"the home API server does not accept the credentials for volumes: {err}. Set "
            "--home-storage-kubeconfig to valid ones"
        ) from err
    except (errors.Unreachable, errors.Throttled) as err:
        log.warning("failed to verify prerequisites of volumes", err=str(err))


async def _check_permissions(home: ApiClient, user: User | None) -> None:
    for row in rbac.TABLE:
        if row.identity is not Identity.STORAGE:
            continue
        if denied := await prerequisites.denied_verbs(home, row, user=user):
            raise errors.StartError(
                f"--storage-class-map is set, and farlet is not allowed to {' or '.join(denied)} "
                f"{row.resource} in the home cluster. A node never is: set "
                "--home-storage-kubeconfig to the credentials of a ServiceAccount with the "
                f"ClusterRole farlet-volumes. {_FIX}"
            )


async def _check_class(home: ApiClient, name: str) -> None:
    """One that does not exist yet is logged: an administrator can create it later."""
    try:
        found = await home.get(resources.STORAGE_CLASSES, name)
    except errors.NotFound:
        log.warning("mapped storage class does not exist in the home cluster", name=name)
        return
    if found["provisioner"] != PROVISIONER:
        raise errors.StartError(
            f"--storage-class-map contains the home StorageClass {name}, whose provisioner is "
            f"{found['provisioner']}: its volumes are in the home cluster. Map a class with "
            f"provisioner: {PROVISIONER} (docs/volumes.md)"
        )
    mode = found.get("volumeBindingMode") or "Immediate"
    if mode != BINDING_MODE:
        raise errors.StartError(
            f"the home StorageClass {name} of --storage-class-map has volumeBindingMode: {mode}, "
            "with which the scheduler selects no node for its claims. Recreate it with "
            f"volumeBindingMode: {BINDING_MODE}"
        )
