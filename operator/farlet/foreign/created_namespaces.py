"""Foreign namespaces that farlet creates and deletes (`--create-namespaces`).

A namespace is complete when it has the ConfigMap of `home_namespace`, which is created last: a
process that ends before leaves the rest to the next one. `planning.namespaces` decides what is
deleted.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from farlet import errors, retrying
from farlet.client import resources, reviews
from farlet.client.api_client import ApiClient
from farlet.client.resources import Resource
from farlet.constants import JSON, Reason
from farlet.context import Context, NewNamespaces
from farlet.foreign import home_namespace
from farlet.forge import foreign_namespace
from farlet.k8s_types import ObjectMeta, PartialObject
from farlet.planning import api_refusals, namespaces
from farlet.planning.namespaces import Facts, Home, Next

USABLE_SECONDS = 15.0
USABLE_FIRST_SECONDS = 0.1
USABLE_LAST_SECONDS = 2.0
"""Until the foreign cluster knows a new RoleBinding and has created the default account."""

ROLES = "manifests/foreign/created-namespaces"

CONTENT: Mapping[str, Resource[PartialObject]] = {
    resource.plural: resource.metadata_only
    for resource in (
        resources.PODS,
        resources.CLAIMS,
        resources.SERVICES,
        resources.CONFIG_MAPS,
        resources.SECRETS,
    )
}
"""What keeps a namespace."""

log = structlog.get_logger()


class CreatedNamespaces:
    """Creates, completes and retires them."""

    def __init__(
        self,
        home: ApiClient,
        foreign: ApiClient,
        *,
        new: NewNamespaces,
        ctx: Callable[[], Context],
        confirm: Callable[[], Awaitable[None]],
        report: Callable[[str, Reason, str], None],
    ) -> None:
        """`confirm` raises unless the answers before it are of the recorded foreign cluster.

        `report` gets a home namespace, a reason and a message for administrators.
        """
        self._home = home
        self._foreign = foreign
        self._new = new
        self._ctx = ctx
        self._confirm = confirm
        self._report = report

    # --- creation -----------------------------------------------------------------------------

    async def create(self, name: str, *, home: str) -> PartialObject:
        """Create the namespace for `home`, or return the one that exists now.

        Raises `Refused` if farlet is not allowed to, and what `ApiClient.create` raises.
        """
        body = foreign_namespace.namespace(
            name, home=home, home_id=self._ctx().home_id, new=self._new
        )
        try:
            made = await self._foreign.create(resources.NAMESPACES, body)
        except errors.Conflict as err:
            if not err.already_exists:
                raise
            # By our request whose answer was lost, or by others.
            return await self._foreign.get(resources.NAMESPACES.metadata_only, name)
        except errors.Forbidden as err:
            raise _refused(name, err) from err
        log.info("foreign namespace created", namespace=name, home=home)
        return made

    def is_own(self, found: PartialObject, *, home: str) -> bool:
        """Whether farlet created this namespace for `home`."""
        home_id = self._ctx().home_id
        return namespaces.is_created_for(found["metadata"], home=home, home_id=home_id)

    async def complete(self, name: str, *, home: str, new: bool) -> None:
        """Create what a namespace of ours lacks, that ConfigMap last. `new`: it lacks all.

        Raises like `home_namespace.ensure`.
        """
        home_id = self._ctx().home_id
        if not new:
            try:
                if await home_namespace.verify(self._foreign, name, home=home, home_id=home_id):
                    return
            except errors.Forbidden:
                pass  # the RoleBinding is missing
        review = await self._foreign.create(resources.SELF_REVIEWS, _SELF_REVIEW)
        user = str(review["status"]["userInfo"]["username"])
        try:
            await self._create(
                resources.ROLE_BINDINGS, foreign_namespace.role_binding(user), namespace=name
            )
        except errors.Forbidden as err:
            raise _refused(name, err) from err
        await self._until_usable(name)
        for resource, body in (
            (resources.RESOURCE_QUOTAS, foreign_namespace.resource_quota(self._new)),
            (resources.NETWORK_POLICIES, foreign_namespace.network_policy(self._new)),
        ):
            if body is not None:
                await self._create(resource, body, namespace=name)
        await home_namespace.ensure(self._foreign, name, home=home, home_id=home_id)

    async def _create(self, resource: Resource[JSON], body: JSON, *, namespace: str) -> None:
        try:
            await self._foreign.create(resource, body, namespace=namespace)
        except errors.Conflict as err:
            if not err.already_exists:
                raise

    async def _until_usable(self, name: str) -> None:
        """Wait until the API server knows the RoleBinding, and pods can have an account."""
        backoff = retrying.Backoff(USABLE_FIRST_SECONDS, USABLE_LAST_SECONDS)
        try:
            async with asyncio.timeout(USABLE_SECONDS):
                for usable in (self._is_allowed, self._has_account):
                    while not await usable(name):  # noqa: ASYNC110
                        await asyncio.sleep(backoff.next())
        except TimeoutError:
            raise errors.Refused(
                Reason.FOREIGN_FORBIDDEN,
                f"farlet has created the foreign namespace {name}, which is not usable yet: its "
                f"RoleBinding has no effect, or it has no ServiceAccount. In the foreign cluster: "
                f"kubectl apply -k {ROLES}; kubectl get rolebinding,serviceaccount -n {name}",
            ) from None

    async def _is_allowed(self, name: str) -> bool:
        attributes = {"namespace": name, "verb": "create", "resource": "pods"}
        review = reviews.own_access(attributes)
        answer = await self._foreign.create(resources.SELF_ACCESS_REVIEWS, review)
        return bool(answer["status"]["allowed"])

    async def _has_account(self, name: str) -> bool:
        accounts = resources.SERVICE_ACCOUNTS.metadata_only
        return bool((await self._foreign.list(accounts, namespace=name, limit=1)).items)

    # --- removal ------------------------------------------------------------------------------

    async def retire(self, name: str, *, home: str, needed: Callable[[], bool]) -> bool:
        """Delete a namespace that no pod needs, if that is right; whether farlet is done with it.

        Raises what the API servers raise; the namespace stays then.
        """
        facts = Facts(name, home, self._ctx().home_id, await self._metadata(name))
        while True:
            facts = dataclasses.replace(facts, needed=needed())
            decision = namespaces.decide(facts)
            if decision.report:
                self._report(home, Reason.FOREIGN_NAMESPACE_KEPT, decision.report)
            match decision.next:
                case Next.READ_HOME:
                    facts = dataclasses.replace(facts, home=await self._read_home(home))
                case Next.READ_CONTENT:
                    content = await self._content(name)
                    # Another cluster could have answered all of this.
                    await self._confirm()
                    facts = dataclasses.replace(facts, content=content)
                case Next.DELETE:
                    await self._delete(facts)
                    log.info("foreign namespace deleted", namespace=name, home=home)
                    return True
                case Next.FORGET:
                    await self._confirm()
                    return True
                case Next.KEEP:
                    return False

    async def _metadata(self, name: str) -> ObjectMeta | None:
        try:
            found = await self._foreign.get(resources.NAMESPACES.metadata_only, name)
        except errors.NotFound:
            return None
        return found["metadata"]

    async def _read_home(self, home: str) -> Home:
        try:
            await self._home.get(resources.NAMESPACES.metadata_only, home)
        except errors.NotFound:
            return Home.GONE
        except errors.Forbidden:
            return Home.FORBIDDEN
        return Home.EXISTS

    async def _content(self, name: str) -> Mapping[str, Sequence[str]]:
        return {
            kind: [
                found["metadata"]["name"]
                for found in (await self._foreign.list_all(resource, namespace=name)).items
            ]
            for kind, resource in CONTENT.items()
        }

    async def _delete(self, facts: Facts) -> None:
        assert facts.metadata is not None
        # Without a version the precondition fails.
        version = facts.metadata.get("resourceVersion", "")
        body = {"preconditions": {"uid": facts.metadata["uid"], "resourceVersion": version}}
        await self._foreign.delete(resources.NAMESPACES, facts.foreign, body)


_SELF_REVIEW: JSON = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def _refused(name: str, err: errors.Forbidden) -> errors.Refused:
    return errors.Refused(
        Reason.FOREIGN_FORBIDDEN,
        f"the foreign API server does not let farlet create the namespace {name}: {err.message}. "
        f"In the foreign cluster: kubectl apply -k {ROLES}; or create the namespace. "
        f"{api_refusals.preparation(name, system=api_refusals.system_of(err.message))}",
    )
