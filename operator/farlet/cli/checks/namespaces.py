"""Whether pods of a home namespace can run in its foreign namespace."""

from __future__ import annotations

import asyncio

from farlet import errors
from farlet.cli.checks import permissions
from farlet.cli.checks.findings import ANSWER_SECONDS, Finding, Outcome, of
from farlet.cli.checks.subjects import Subject
from farlet.client import resources
from farlet.client.cluster import Cluster
from farlet.constants import Reason
from farlet.context import Context
from farlet.foreign import home_namespace, services
from farlet.node import prerequisites
from farlet.planning import api_refusals
from farlet.planning.actions import Step
from farlet.rbac import Permission, Side, When, Where
from farlet.settings import Settings


async def foreign(settings: Settings, ctx: Context, subject: Subject, namespace: str) -> Finding:
    """The foreign namespace of a home namespace: it exists, has the Role, and is not in use."""
    cluster = subject.cluster
    what = f"foreign namespace of {namespace}"
    name = ctx.namespaces.foreign(namespace)
    if name is None:
        hint = (
            f"set --namespace-map {namespace}=NAME, or --foreign-namespace-template without the "
            "value none"
        )
        return Finding(what, Outcome.FAILED, f"{namespace} is not offloaded", hint)
    prepare = api_refusals.preparation(name, system=ctx.namespaces.own, home=namespace)

    async def check() -> Finding:
        try:
            try:
                found = await cluster.get(resources.NAMESPACES.metadata_only, name)
            except errors.NotFound:
                if not settings.create_namespaces:
                    raise
                return Finding(what, Outcome.OK, f"{name}, created when a pod needs it")
            if "deletionTimestamp" in found["metadata"]:
                raise errors.Refused(
                    Reason.NAMESPACE_NOT_FOUND,
                    f"the foreign namespace {name} is being deleted. Recreate it, and farlet's "
                    f"Role in it, after the deletion has finished. {prepare}",
                )
            denied = await permissions.denied_in(
                subject, Side.FOREIGN, settings=settings, namespace=name
            )
            if denied:
                hint = prepare
                if any(row.when is When.REFLECTS_SERVICES for row, _ in denied):
                    hint = f"{hint}; kubectl apply -n {name} -f {services.FOREIGN_ROLE}"
                seen = f"{name}: {subject.lacks(denied)}"
                return Finding(what, Outcome.FAILED, seen, hint)
            belongs = await home_namespace.verify(
                cluster, name, home=namespace, home_id=ctx.home_id
            )
        except errors.ApiError as err:
            if isinstance(err, errors.NotFound):
                text = f"the foreign namespace {name} does not exist. {prepare}"
                raise errors.Refused(Reason.NAMESPACE_NOT_FOUND, text) from err
            raise api_refusals.of(err, step=Step.NAMESPACE, home=namespace) or err from err
        used = "belongs to it" if belongs else "not used yet"
        return Finding(what, Outcome.OK, f"{name}, {used}")

    return await of(what, check(), hint=prepare)


_HOME = Permission(Side.HOME, Where.OFFLOADED, "", "namespaces", ("get",), "whether it exists")
"""An administrator's permission; farlet has it only if it creates foreign namespaces."""


async def missing(cluster: Cluster, namespace: str) -> Finding | None:
    """The finding about a home namespace that does not exist, for those who may read it."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if await prerequisites.denied_verbs(cluster, _HOME, namespace=namespace):
                return None
            await cluster.get(resources.NAMESPACES.metadata_only, namespace)
    except errors.NotFound:
        hint = f"check the name; or, in the home cluster: kubectl create namespace {namespace}"
        return Finding(f"home namespace {namespace}", Outcome.FAILED, "does not exist", hint)
    except (errors.FarletError, TimeoutError):
        return None
    return None


async def home(settings: Settings, subject: Subject, namespace: str) -> Finding | None:
    """The RoleBinding of a ServiceAccount in a home namespace; `None` for a node."""
    user = subject.user
    if user.node is not None:
        return None
    what = f"home namespace {namespace}"
    hint = "in the home cluster: " + api_refusals.role_binding(
        namespace, account=user.account or "farlet:farlet"
    )

    async def check() -> Finding:
        denied = await permissions.denied_in(
            subject, Side.HOME, settings=settings, namespace=namespace
        )
        if denied:
            return Finding(what, Outcome.FAILED, subject.lacks(denied), hint)
        return Finding(what, Outcome.OK, "farlet can serve its pods")

    return await of(what, check(), hint=hint)
