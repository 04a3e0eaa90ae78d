"""The farlet that serves the node already: what Kubernetes and its manager report about it.

An administrator can read these objects. farlet itself cannot, and does not need to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from farlet import errors
from farlet.cli import commands, own_pods
from farlet.cli.checks import causes
from farlet.cli.checks.findings import Finding, Outcome
from farlet.cli.reading import ABSENT, Absent, Unread, read
from farlet.cli.status import process_state
from farlet.client import kinds, resources
from farlet.client.cluster import Cluster
from farlet.client.resources import Resource
from farlet.constants import JSON, ObjectKey
from farlet.install import connection
from farlet.k8s_types import Pod
from farlet.manager import objects, rollout, virtual_node
from farlet.manager.pod_template import PROBES_PORT
from farlet.manager.virtual_node import FARLET, MANAGER, NAME_LABEL, Identity, Spec, VirtualNode
from farlet.node import prerequisites
from farlet.rbac import NODE, Permission, Side, Where
from farlet.settings import Settings
from farlet.telemetry.state import State

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
    pods: Sequence[Pod] | Absent | Unread = ABSENT
    manager: JSON | Absent | Unread = ABSENT
    manager_pods: Sequence[Pod] | Absent | Unread = ABSENT
    states: Mapping[str, State] = field(default_factory=dict)
    """What its pods report now, by their name."""

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
    pods, manager, manager_pods = await asyncio.gather(
        _pods(home, connection.owned_by(name)),
        _read(home, _DEPLOYMENT, kinds.DEPLOYMENTS, MANAGER),
        _pods(home, f"{NAME_LABEL}={MANAGER}"),
    )
    states = await _states(home, pods)
    return replace(found, pods=pods, manager=manager, manager_pods=manager_pods, states=states)


async def _states(home: Cluster, pods: Sequence[Pod] | Absent | Unread) -> Mapping[str, State]:
    """Those that can be read."""
    listed = _listed(pods)
    found = await asyncio.gather(*(process_state.of(home, pod, PROBES_PORT) for pod in listed))
    by_pod = zip(listed, found, strict=True)
    return {pod["metadata"]["name"]: one for pod, one in by_pod if isinstance(one, State)}


async def _pods(home: Cluster, selector: str) -> Sequence[Pod] | Absent | Unread:
    found = await read(home.list(resources.PODS, namespace=FARLET, label_selector=selector))
    return found if isinstance(found, Absent | Unread) else found.items


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


def deployments(found: Installation, kubectl: str) -> list[Finding]:
    """Those of the manager, if the node is declared, and of the farlet that serves the node."""
    declared = not isinstance(found.virtual_node, Absent | Unread)
    return [*([_manager(found, kubectl)] if declared else []), _farlet(found, kubectl)]


def _manager(found: Installation, kubectl: str) -> Finding:
    problems: Sequence[own_pods.NotRunning] = ()
    if not isinstance(found.manager, Unread):
        pods = _listed(found.manager_pods)
        problems = own_pods.of_manager(found.manager, pods, namespace=FARLET, kubectl=kubectl)
    without = "what it last reported may be old"
    return _deployment(ObjectKey(FARLET, MANAGER), found.manager, problems, without=without)


def _farlet(found: Installation, kubectl: str) -> Finding:
    key = ObjectKey(FARLET, virtual_node.object_name(found.node))
    problems: Sequence[own_pods.NotRunning] = ()
    if not isinstance(found.deployment, Absent | Unread):
        pods = _listed(found.pods)
        problems = own_pods.of_deployment(key, found.deployment, pods, kubectl=kubectl)
    without = "no farlet serves the node"
    return _deployment(key, found.deployment, problems, without=without)


def _listed(pods: Sequence[Pod] | Absent | Unread) -> Sequence[Pod]:
    return () if isinstance(pods, Absent | Unread) else pods


def row(name: str) -> str:
    """Of the Deployment of this name."""
    return f"{causes.DEPLOYMENT} {name}"


def _deployment(
    key: ObjectKey,
    found: JSON | Absent | Unread,
    problems: Sequence[own_pods.NotRunning],
    *,
    without: str,
) -> Finding:
    """`without`: what follows where none of its pods is available."""
    what = row(key.name)
    if isinstance(found, Unread):
        return Finding(what, Outcome.WARNING, f"not checked: {found.why}")
    fixes = "; ".join(dict.fromkeys(one.fix for one in problems))
    why = [one.why for one in problems]
    if isinstance(found, Absent):
        seen = "; ".join(why) or f"the Deployment {key} does not exist"
        return Finding(what, Outcome.WARNING, f"{seen}: {without}", fixes)
    unfinished = rollout.unfinished(found)
    if unfinished and not any(unfinished in text for text in why):
        why.insert(0, unfinished)
    available = (found.get("status") or {}).get("availableReplicas") or 0
    if not available:
        seen = "; ".join(why) or "none of its pods is available"
        return Finding(what, Outcome.FAILED, seen, f"{without}. {fixes}")
    if why:
        return Finding(what, Outcome.WARNING, "; ".join(why), fixes)
    return Finding(what, Outcome.OK, f"{available} available")
