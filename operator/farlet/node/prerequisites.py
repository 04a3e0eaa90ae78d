"""What a leader needs and a standby can verify, so that no process leads that would end at once.

What is *refused* keeps a process unready and from taking the Lease: credentials that are not
accepted, another foreign cluster than the recorded one, another foreign namespace for pods than
before, a missing permission, an unknown capacity, a Node of another program. So a rollout with such
a configuration stops, and the processes before it keep working. An API server that is *unreachable*
is accepted: a restart during an outage must not take the Node away.

A standby writes nothing, so permissions are verified by access reviews, for which every
authenticated user has the permission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from farlet import errors, rbac, retrying
from farlet.client import resources, reviews
from farlet.client.api_client import ApiClient
from farlet.client.reviews import User
from farlet.constants import JSON
from farlet.context import Context
from farlet.foreign import created_namespaces, inventory, services
from farlet.node import cluster_record, foreign_nodes, registration
from farlet.planning import api_refusals, cluster_identity
from farlet.rbac import Side, When, Where
from farlet.settings import Settings

CHECK_SECONDS = 30.0
REFUSED_SECONDS = 2.0
"""Between two checks while something is refused, so that its correction is noticed soon."""
ANSWER_SECONDS = 3.0
"""For each check. Longer waiting would delay a restart during an outage."""

log = structlog.get_logger()


class Prerequisites:
    """Checks until cancelled. `problem` says why this process must not lead."""

    def __init__(
        self,
        settings: Settings,
        *,
        home: ApiClient,
        foreign: ApiClient,
        ctx: Callable[[], Context],
    ) -> None:
        self._settings = settings
        self._home = home
        self._foreign = foreign
        self._ctx = ctx
        self.problem: str | None = "not checked yet"
        self.met = asyncio.Event()
        """Set when `problem` becomes `None`."""

    async def run(self) -> NoReturn:
        failures = retrying.OncePerCause()
        while True:
            before, self.problem = self.problem, await self._check()
            if self.problem is None:
                failures.clear()
                if before is not None:
                    self.met.set()
            elif failures.is_new(self.problem):
                log.error("this process cannot lead", err=self.problem)
            await asyncio.sleep(CHECK_SECONDS if self.problem is None else REFUSED_SECONDS)

    async def _check(self) -> str | None:
        checks: list[Callable[[], Awaitable[object]]] = [
            self.read_node,
            self._compare_clusters,
            self._check_permissions,
        ]
        if not self._settings.capacity:
            checks.append(self.check_capacity)
        if self._settings.create_namespaces:
            checks.append(self._check_creation)
        if self._settings.reflect:
            checks.append(self._check_reflection)
        for check in checks:
            if (problem := await _refusal(check())) is not None:
                return problem
        return None

    async def _compare_clusters(self) -> None:
        ctx = self._ctx()
        try:
            compared = await cluster_record.compare(self._home, self._foreign, ctx=ctx)
        except (errors.Forbidden, errors.NotFound) as err:
            if err.cluster == "home":
                raise
            raise inventory.unusable(ctx.namespaces.own, err) from err
        if compared.doubt is not None and self._settings.adopt_foreign_cluster != compared.word:
            raise cluster_identity.unconfirmed(compared.doubt, node=ctx.node, adopt=compared.word)
        inventory.verify(compared.found.namespaces, ctx)

    async def _check_permissions(self) -> None:
        namespace = self._ctx().namespaces.own
        denied = await self._denied(Where.OWN, When.ALWAYS, namespace=namespace)
        if denied is not None:
            raise errors.StartError(
                f"{denied} in the foreign namespace {namespace}. "
                f"{api_refusals.preparation(namespace, system=namespace)}"
            )

    async def option_problem(self) -> str | None:
        """Which permission an option lacks; `None` also if the server does not answer."""
        problem = None
        if self._settings.create_namespaces:
            problem = await _refusal(self._check_creation())
        if self._settings.reflect and problem is None:
            problem = await _refusal(self._check_reflection())
        return problem

    async def _check_reflection(self) -> None:
        """Those in each foreign namespace are checked when it is used."""
        denied = await self._denied(Where.CLUSTER, When.REFLECTS_SERVICES, side=Side.HOME)
        if denied is not None:
            raise errors.StartError(
                f"{denied} in the home cluster, which --reflect=services requires. In the home "
                f"cluster: kubectl apply -f {services.HOME_ROLE}"
            )

    async def _check_creation(self) -> None:
        denied = await self._denied(Where.CLUSTER, When.CREATES_NAMESPACES)
        if denied is not None:
            raise errors.StartError(
                f"{denied} in the foreign cluster, which --create-namespaces requires. In the "
                f"foreign cluster: kubectl apply -k {created_namespaces.ROLES}"
            )

    async def _denied(
        self, where: Where, when: When, *, namespace: str = "", side: Side = Side.FOREIGN
    ) -> str | None:
        """What farlet is not allowed to do; `None` also if the cluster allows no reviews."""
        cluster = self._foreign if side is Side.FOREIGN else self._home
        for row in rbac.TABLE:
            if (row.side, row.where, row.when) != (side, where, when):
                continue
            try:
                denied = await denied_verbs(cluster, row, namespace=namespace)
            except errors.Forbidden:
                return None
            if denied:
                return f"farlet is not allowed to {' or '.join(denied)} {row.resource}"
        return None

    async def check_capacity(self) -> None:
        """Raises `StartError` if farlet is not allowed to list the foreign nodes."""
        try:
            await self._foreign.list(resources.NODES, limit=1)
        except errors.Forbidden as err:
            raise foreign_nodes.capacity_unknown(err) from err

    async def read_node(self) -> bool:
        """Whether the Node exists. Raises `StartError` if farlet must not adopt it."""
        name = self._settings.nodename
        try:
            node = await self._home.get(resources.NODES, name)
        except errors.NotFound:
            return False
        except errors.Forbidden as err:
            other = api_refusals.denied_to_other_node(err, node=name)
            raise err if other is None else errors.StartError(other) from err
        config = registration.node_config(self._settings, self._ctx())
        registration.check_adoptable(node, config)
        return True


async def _refusal(check: Awaitable[object]) -> str | None:
    """What a check says that is not allowed; `None` also if no answer came."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await check
    except errors.Unauthorized as err:
        return err.advice
    except (errors.StartError, errors.Forbidden, errors.Unconfirmed) as err:
        return str(err)
    except (errors.FarletError, TimeoutError):
        return None
    return None


async def denied_verbs(
    cluster: ApiClient,
    row: rbac.Permission,
    *,
    namespace: str = "",
    node: str = "",
    user: User | None = None,
) -> list[str]:
    """The verbs of a row of `rbac.TABLE` that `user` lacks; `None`: the caller.

    Raises `Forbidden` where reviews are not allowed, `Unauthorized`, `Unreachable` and `Throttled`.
    """
    denied = []
    resource, _, subresource = row.resource.partition("/")
    for verb in row.verbs:
        attributes: JSON = {
            "verb": verb,
            "group": row.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": node if row.name == rbac.NODE else row.name,
        }
        if row.fields:
            selector = row.fields.replace(rbac.NODE, node)
            attributes["fieldSelector"] = {"rawSelector": selector}
        if user is None:
            kind, body = resources.SELF_ACCESS_REVIEWS, reviews.own_access(attributes)
        else:
            kind, body = resources.ACCESS_REVIEWS, reviews.access(user, attributes)
        # Unqueued, as it asks no guard: it changes nothing, and a standby may send it.
        answer = await cluster.request_unqueued("POST", kind, body=body, seconds=ANSWER_SECONDS)
        if not (answer.get("status") or {}).get("allowed"):
            denied.append(verb)
    return denied
