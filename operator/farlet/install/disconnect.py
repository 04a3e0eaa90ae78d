"""The steps of `farlet disconnect`: one virtual node leaves both clusters as they were.

The home cluster comes first: its pods end while farlet still works. Each step reads what is there
and can be repeated, so that the same command continues after any interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farlet import errors
from farlet.client import kinds
from farlet.client.api_client import ApiClient
from farlet.constants import (
    FOREIGN_CLUSTER,
    HOME_CLUSTER,
    JSON,
    VIRTUAL_NODE_TAINT,
)
from farlet.install import (
    checks,
    foreign_search,
    home_data,
    installed_manager,
    requests,
    steps,
)
from farlet.install.connection import HOME_SYSTEM
from farlet.install.foreign_removal import ForeignRemoval
from farlet.install.foreign_search import Found
from farlet.install.home_data import Volumes
from farlet.install.home_removal import HomeRemoval
from farlet.install.steps import Step
from farlet.manager.virtual_node import object_name
from farlet.planning.api_refusals import CONTEXTS

STEP_SECONDS = 4 * requests.END_SECONDS
"""The end of a step, whatever it waits for. Each wait in it ends earlier, with a reason."""


class Disconnect:
    """Removes one virtual node. A cluster that is `None` is gone, and is left as it is."""

    def __init__(
        self,
        node: str,
        home: ApiClient | None,
        foreign: ApiClient | None,
        *,
        system: str | None,
        home_id: str | None,
        volumes: Volumes,
        force: bool,
        report: Callable[[str], None],
        seconds: float,
    ) -> None:
        """`system`: the foreign system namespace, by default that of the VirtualNode.

        `force`: delete pods without a controller, too. `seconds` is how long the pods of the node
        may take to end.
        """
        self._node = node
        self._home = home
        self._foreign = foreign
        self._system = system
        self._home_id = home_id
        self._volumes = volumes
        self._report = report
        self._seconds = seconds
        self._force = force
        self._home_removal: HomeRemoval | None = None
        self._foreign_removal: ForeignRemoval | None = None
        self._manager_left: list[str] = []
        self.left: list[str] = []
        """What stays, and why."""

    async def run(self) -> None:
        """Raises `StartError` with the step that failed and what to do."""
        wanted = [Step("checks", self._check)]
        if self._home is not None:
            if self._foreign is not None:
                wanted.append(Step("drain", lambda: self._at_home().drain()))
            wanted += [
                Step("farlet", lambda: self._at_home().end()),
                Step("home objects", self._clean_home),
            ]
        if self._foreign is not None:
            wanted += [
                Step("revocation", lambda: self._there().revoke()),
                Step("foreign objects", lambda: self._there().clean()),
                Step("foreign permissions", lambda: self._there().remove_permissions()),
            ]
        if self._home is not None:
            home = self._home
            wanted.append(Step("manager", lambda: self._remove_manager(home)))
        await steps.run(wanted, report=self._report, seconds=self._seconds + STEP_SECONDS)
        for removal in (self._home_removal, self._foreign_removal):
            self.left += removal.left if removal is not None else ()
        self.left += self._manager_left
        self.left += self._beyond()

    # --- checks -------------------------------------------------------------------------------

    async def _check(self) -> str:
        node, virtual, is_machine = None, None, False
        if self._home is not None:
            node = await requests.find(self._home, kinds.NODES, self._node)
            virtual = await requests.find(
                self._home, kinds.VIRTUAL_NODES, self._node, namespace=HOME_SYSTEM
            )
            is_machine = node is not None and not is_ours(node)
            if is_machine and virtual is None:
                raise errors.StartError(
                    f"the Node {self._node} of the home cluster does not belong to farlet, which "
                    "leaves it unchanged. Set --node to the name of a virtual node"
                )
            if self._home_id is None:
                self._home_id = await checks.home_id(self._home)
            self._home_removal = HomeRemoval(
                self._home, self._node, is_machine, self._seconds, force=self._force
            )
        if self._system is None:
            self._system = await self._system_namespace(virtual)
        found = None
        if self._foreign is not None:
            found = await foreign_search.look(
                self._foreign, node=self._node, system=self._system, home_id=self._home_id
            )
            _confirm(None if is_machine else node, virtual, found)
            if found.claims and self._volumes is Volumes.REFUSE:
                raise home_data.hold_data(found.claims)
            delete = self._volumes is Volumes.DELETE
            later = self._deletion_of_data(found)
            self._foreign_removal = ForeignRemoval(self._foreign, found, delete, later)
            if found.claims and not delete:
                self.left += [f"the foreign claim {claim}" for claim in found.claims]
        if node is None and virtual is None and (found is None or found.is_empty):
            await self._refuse_unknown_name()
            return f"neither cluster has a virtual node {self._node} any more"
        await self._check_bare_pods()
        where = f"in the foreign namespace {self._system}" if found is not None else "at home"
        return f"virtual node {self._node}, {where}"

    def _deletion_of_data(self, found: Found) -> str:
        """The command that later deletes claims that are kept now."""
        command = f"--node {self._node} --delete-volumes"
        if self._home is not None:
            return f"farlet disconnect {CONTEXTS} {command}"
        return f"farlet disconnect {command} --foreign-only --home-id {found.home_id or 'ID'}"

    async def _check_bare_pods(self) -> None:
        """Raises `StartError` for pods that end for good, unless that is wanted."""
        pods = () if self._home_removal is None else await self._home_removal.bare_pods()
        if pods:
            shown = f"{requests.counted(len(pods), 'pod')} without a controller"
            self._report(
                f"      deletes {shown}: {', '.join(map(str, pods))}; they do not come back"
            )

    async def _refuse_unknown_name(self) -> None:
        """Raises `StartError` if nothing is left of a node of this name, and others exist."""
        if self._home is None or [one async for one in self._at_home().granted()]:
            return
        others = await self._others(self._home)
        if others:
            raise errors.StartError(
                f"the home cluster has no virtual node {self._node}, and nothing is left of "
                f"one. It has: {', '.join(others[: requests.SHOWN])}"
            )

    async def _others(self, home: ApiClient) -> list[str]:
        """Names of all VirtualNodes."""
        try:
            found = await home.list_all(kinds.VIRTUAL_NODES)
        except (errors.NotFound, errors.UnknownPath):  # the definition is gone
            return []
        return sorted(one["metadata"]["name"] for one in found.items)

    async def _system_namespace(self, virtual: JSON | None) -> str:
        if virtual is not None:
            named = (virtual["spec"].get("foreign") or {}).get("systemNamespace")
            return named or object_name(self._node)
        if self._foreign is None:
            return object_name(self._node)
        return await foreign_search.system_namespace(self._foreign, self._node, self._home_id)

    # --- steps --------------------------------------------------------------------------------

    def _at_home(self) -> HomeRemoval:
        assert self._home_removal is not None
        return self._home_removal

    def _there(self) -> ForeignRemoval:
        assert self._foreign_removal is not None
        return self._foreign_removal

    async def _clean_home(self) -> str:
        assert self._home_id is not None
        wanted = foreign_search.virtual_node_id(self._home_id, self._node)
        return await self._at_home().clean(wanted, self._volumes)

    async def _remove_manager(self, home: ApiClient) -> str:
        names = await self._others(home)
        if names:
            return f"stays for {', '.join(names)}"
        done, self._manager_left = await installed_manager.remove(home)
        return done

    def _beyond(self) -> list[str]:
        """What this command cannot see."""
        if self._foreign is None:
            where, once = "foreign", "--foreign-only"
        elif self._home is None:
            where, once = "home", "--home-only"
        else:
            return []
        command = f"farlet disconnect --node {self._node} {once}"
        return [f"all that the {where} cluster has of it, if that still exists: {command}"]


def is_ours(node: Any) -> bool:
    """Whether farlet has created this Node."""
    annotations = node["metadata"].get("annotations") or {}
    taints = (node.get("spec") or {}).get("taints") or ()
    return (
        HOME_CLUSTER in annotations
        or FOREIGN_CLUSTER in annotations
        or any(one.get("key") == VIRTUAL_NODE_TAINT for one in taints)
    )


def _confirm(node: JSON | None, virtual: JSON | None, found: Found) -> None:
    """Raises `StartError` if the foreign credentials lead to another cluster."""
    annotations = {} if node is None else node["metadata"].get("annotations") or {}
    status = {} if virtual is None else virtual.get("status") or {}
    recorded = annotations.get(FOREIGN_CLUSTER) or status.get("foreignCluster")
    advice = (
        "Set --foreign-context to the right one, and --foreign-system-namespace if farlet's "
        "namespace there has another name; if that cluster is gone, add --home-only"
    )
    namespace = found.system_namespace
    if recorded is not None and (namespace is None or namespace["metadata"]["uid"] != recorded):
        seen = "does not exist" if namespace is None else f"has {namespace['metadata']['uid']}"
        raise errors.StartError(
            f"this is not the foreign cluster of the node: its namespace {found.system} must have "
            f"the uid {recorded}, but {seen}. {advice}"
        )
    if virtual is not None and found.is_empty:
        raise errors.StartError(
            f"the foreign cluster has nothing of the VirtualNode {found.node}, not even the "
            f"namespace {found.system}. {advice}"
        )
