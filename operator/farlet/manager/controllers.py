"""Passes each change to the controllers that it concerns, one for each VirtualNode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from farlet.constants import JSON, ObjectKey
from farlet.manager.virtual_node import FARLET, INSTANCE_LABEL, KIND, VirtualNode
from farlet.manager.virtual_node_controller import Dependencies, VirtualNodeController

log = structlog.get_logger()


class Controllers:
    """All controllers. For one event loop."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._controllers: dict[ObjectKey, VirtualNodeController] = {}
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}

    @property
    def nodes(self) -> Sequence[VirtualNode]:
        """All VirtualNodes; one whose fields are not valid has default ones."""
        found = (controller.node for controller in self._controllers.values())
        return [node for node in found if node is not None]

    def changed(self, found: JSON, *, deleted: bool) -> None:
        """An object of any watched kind has changed."""
        kind, metadata = found["kind"], found["metadata"]
        instance = (metadata.get("labels") or {}).get(INSTANCE_LABEL, "")
        if kind == "CertificateSigningRequest":
            self._credentials_changed(lambda node: node.name == instance)
            return
        key = ObjectKey(metadata["namespace"], metadata["name"])
        if kind == KIND:
            self._node_changed(key, found, deleted=deleted)
        elif kind == "Secret":
            # Its content stays out of here: credentials are read where they are checked.
            self._credentials_changed(
                lambda node: node.namespace == key.namespace and key.name in node.secrets
            )
        elif kind == "Pod":
            owner = ObjectKey(key.namespace, instance)
            if (controller := self._controllers.get(owner)) is not None:
                controller.pod_changed(found, deleted=deleted)
        elif key.name.startswith(f"{FARLET}-"):
            owner = ObjectKey(key.namespace, key.name.removeprefix(f"{FARLET}-"))
            if (controller := self._controllers.get(owner)) is not None:
                controller.object_changed(kind, None if deleted else found)

    async def close(self) -> None:
        """End all controllers. The next manager completes what they had begun."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _credentials_changed(self, concerns: Callable[[VirtualNode], bool]) -> None:
        for key, controller in self._controllers.items():
            if controller.node is not None and concerns(controller.node):
                self._dependencies.credentials_changed(key)
                controller.credentials_changed()

    def _node_changed(self, key: ObjectKey, found: JSON, *, deleted: bool) -> None:
        controller = self._controllers.get(key)
        if deleted:
            if controller is not None:
                self._tasks[key].cancel()
                self._forget(key)
        elif controller is not None:
            controller.node_changed(found)
        else:
            controller = self._controllers[key] = VirtualNodeController(key, self._dependencies)
            controller.node_changed(found)
            self._tasks[key] = asyncio.create_task(
                self._run(key, controller), name=f"node {key.name}"
            )

    async def _run(self, key: ObjectKey, controller: VirtualNodeController) -> None:
        await controller.run()
        self._forget(key)  # the watch missed its deletion

    def _forget(self, key: ObjectKey) -> None:
        del self._controllers[key], self._tasks[key]
        self._dependencies.forget(key)
        log.info("virtual node was deleted; its mirror pods keep running", node=key.name)
