"""The farlet that serves the node already: what Kubernetes and its manager report about it.

An administrator can read these objects. farlet itself cannot, and does not need to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from farlet import errors
from farlet.cli import commands
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.reading import ABSENT, Absent, Unread, clean, read
from farlet.client import kinds
from farlet.client.cluster import Cluster
from farlet.client.resources import Resource
from farlet.constants import JSON
from farlet.install import connection
from farlet.manager import findings, objects, rollout, virtual_node
from farlet.manager.conditions import NOT_APPLIED, ConditionType
from farlet.manager.virtual_node import FARLET, MANAGER, Identity, Spec, VirtualNode
from farlet.node import prerequisites
from farlet.rbac import NODE, Permission, Side, Where
from farlet.settings import Settings

MESSAGE_CHARS = 1000


# Permissions of an administrator, not of farlet (`rbac.TABLE`).
_VIRTUAL_NODE = Permission(
    Side.HOME, Where.OWN, "farlet.io", "virtualnodes", ("get",), "the node as declared", NODE
)
_DEPLOYMENT = Permission(
    Side.HOME, Where.OWN, "apps", "deployments", ("get",), "the farlet that serves the node"
)


@dataclass(frozen=True, slots=True)
class Installation:
    """What the home cluster has for one node. `Absent`: nothing, or not for these credentials."""

    node: str
    virtual_node: JSON | Absent | Unread
    deployment: JSON | Absent | Unread
    pods: Sequence[JSON] | Absent | Unread = ABSENT
    manager: JSON | Absent | Unread = ABSENT

    def declared(self) -> VirtualNode | None:
        """With the credentials that its pods use; `None`: they are not known."""
        bare = VirtualNode(name=self.node, namespace=FARLET, uid="", generation=0, spec=Spec())
        if not isinstance(self.deployment, Absent | Unread):
            spec = self.deployment["spec"]["template"]["spec"]
            mounted = objects.mounting(bare, spec)
            if mounted is None or mounted.spec.identity is Identity.NODE:
                return mounted
            return mounted if spec.get("automountServiceAccountToken") is not False else None
        if isinstance(self.virtual_node, Absent | Unread):
            return None
        try:
            return VirtualNode.parse(self.virtual_node)
        except (ValueError, KeyError):
            return None  # of a later version, whose fields are not known here


def not_checked(what: str, why: str, settings: Settings) -> Finding:
    """A finding that only farlet itself can make, with the command for it."""
    home = commands.home_of(settings)
    name = virtual_node.object_name(settings.nodename)
    command = f"{home.kubectl} -n {FARLET} exec deploy/{name} -- farlet check"
    hint = f"check it with the credentials of farlet: {command}"
    return Finding(what, Outcome.WARNING, f"not checked: {why}", hint)


# --- reads --------------------------------------------------------------------------------------


async def read_virtual_node(home: Cluster, name: str) -> JSON | Absent | Unread:
    """The VirtualNode of this name."""
    return await _read(home, _VIRTUAL_NODE, kinds.VIRTUAL_NODES, name, node=name)


async def installation(home: Cluster, name: str) -> Installation | None:
    """What serves the node; `None`: nothing, or these are credentials of farlet itself."""
    deployment = virtual_node.object_name(name)
    found = Installation(
        name,
        await read_virtual_node(home, name),
        await _read(home, _DEPLOYMENT, kinds.DEPLOYMENTS, deployment),
    )
    if isinstance(found.deployment, Absent) and isinstance(found.virtual_node, Absent):
        return None
    selector = connection.owned_by(name)
    pods, manager = await asyncio.gather(
        read(home.list(kinds.PODS, namespace=FARLET, label_selector=selector)),
        _read(home, _DEPLOYMENT, kinds.DEPLOYMENTS, MANAGER),
    )
    listed = pods if isinstance(pods, Absent | Unread) else pods.items
    return Installation(name, found.virtual_node, found.deployment, listed, manager)


async def _read(
    home: Cluster, permission: Permission, resource: Resource[JSON], name: str, *, node: str = ""
) -> JSON | Absent | Unread:
    async def answer() -> JSON | Absent:
        try:
            if await prerequisites.denied_verbs(home, permission, namespace=FARLET, node=node):
                return ABSENT
        except errors.Forbidden:
            return ABSENT
        try:
            return await home.get(resource, name, namespace=FARLET)
        except errors.UnknownPath:  # the cluster has no such resource
            return ABSENT

    return await read(answer())


# --- what is reported about it --------------------------------------------------------------------


def state(found: Installation) -> list[Finding]:
    """The conditions of the VirtualNode, and the Deployments of farlet and of the manager."""
    rows = []
    if isinstance(found.virtual_node, Unread):
        seen = f"not checked: {found.virtual_node.why}"
        rows.append(Finding(f"VirtualNode {found.node}", Outcome.WARNING, seen))
    elif not isinstance(found.virtual_node, Absent):
        rows += _conditions(found.node, found.virtual_node)
        rows.append(_deployment(MANAGER, found.manager, (), "what it last reported may be old"))
    name = virtual_node.object_name(found.node)
    rows.append(_deployment(name, found.deployment, found.pods, "no farlet serves the node"))
    return rows


def _conditions(node: str, declared: JSON) -> list[Finding]:
    what = f"VirtualNode {node}"
    status = declared.get("status") or {}
    found = status.get("conditions") or ()
    hint = f"kubectl -n {FARLET} logs deploy/{MANAGER}"
    if not found:
        return [Finding(what, Outcome.WARNING, "the manager has not reported yet", hint)]
    rows = [_condition(one) for one in found]
    if status.get("observedGeneration") != declared["metadata"].get("generation"):
        seen = "the manager has not seen its last change yet"
        rows.append(Finding(what, Outcome.WARNING, seen, hint))
    return rows


def _condition(one: JSON) -> Finding:
    what = f"VirtualNode {clean(one.get('type'), most=80)}"
    reason = clean(one.get("reason"), most=80)
    message = clean(one.get("message") or "", most=MESSAGE_CHARS)
    warns = one.get("type") == ConditionType.CREDENTIALS_VALID and reason not in findings.QUIET
    match one.get("status"):
        case "False":
            return Finding(what, Outcome.FAILED, reason, message)
        case "True" if reason not in NOT_APPLIED and not warns:
            return Finding(what, Outcome.OK, message or reason)
        case _:
            return Finding(what, Outcome.WARNING, reason, message)


def _deployment(
    name: str, found: JSON | Absent | Unread, pods: Sequence[JSON] | Absent | Unread, without: str
) -> Finding:
    """`without`: what follows where none of its pods is available."""
    what = f"Deployment {name}"
    hint = f"kubectl -n {FARLET} describe deploy/{name}"
    if isinstance(found, Unread):
        return Finding(what, Outcome.WARNING, f"not checked: {found.why}")
    if isinstance(found, Absent):
        return Finding(what, Outcome.WARNING, f"not found in {FARLET}: {without}", hint)
    problems = {} if isinstance(pods, Absent | Unread) else rollout.pod_problems(pods)
    texts = [
        rollout.unfinished(found),
        *(clean(f"{pod}: {why}", most=MESSAGE_CHARS) for pod, why in problems.items()),
    ]
    seen = "; ".join(text for text in texts if text)
    available = (found.get("status") or {}).get("availableReplicas") or 0
    if not available:
        return Finding(what, Outcome.FAILED, seen or "it has no pods", f"{without}: {hint}")
    if seen:
        return Finding(what, Outcome.WARNING, seen, hint)
    return Finding(what, Outcome.OK, f"{available} available")
