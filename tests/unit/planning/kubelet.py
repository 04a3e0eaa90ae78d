"""The foreign cluster's scheduler, kubelet and garbage collector, as far as pods notice.

Written from pkg/kubelet: a deleted pod's containers are stopped, then its status becomes
terminal, then it is deleted with grace 0; restart policies; a pod that was forced away loses
its containers. It keeps a ledger of what ran, which no write can change. Nothing of farlet is
in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from unit.planning.model import JSON, Server, Status, Where, clone, restart_policy

BY = "kubelet"


@dataclass(slots=True)
class Run:
    """What happened to one pod's container on this node."""

    uid: str
    starts: int = 0
    running: bool = False
    codes: list[int] = field(default_factory=list)
    """How its runs ended, in order."""
    stopping: bool = False
    ephemeral: list[str] = field(default_factory=list)
    """Names of ephemeral containers that were started."""


class Kubelet:
    """One node. `step` does what is to be done now, one thing per pod and step."""

    def __init__(
        self,
        server: Server,
        on_start: Callable[[str], None],
        on_ephemeral: Callable[[str, str], None],
    ) -> None:
        self._server = server
        self._on_start = on_start
        self._on_ephemeral = on_ephemeral
        self._seen = -1
        """The version at which the last step began."""
        self.ledger: dict[str, Run] = {}
        """By uid of the foreign pod."""
        self.frozen = False
        self.stop_codes: dict[str, int] = {}
        """Exit code of pods of this name when they are stopped; 143 where none is set."""

    @property
    def busy(self) -> bool:
        """Whether the next step can have an effect: an object has changed, or a run ends."""
        stopping = any(run.running and run.stopping for run in self.ledger.values())
        return not self.frozen and (self._server.version != self._seen or stopping)

    def step(self) -> None:
        """Schedule, start, stop and remove, if it is busy."""
        if not self.busy:
            return
        self._seen = self._server.version
        pods = self._server.all("pods")
        alive = {pod["metadata"]["uid"] for pod in pods}
        for run in self.ledger.values():
            if run.uid not in alive:
                run.running = False
        for pod in pods:
            try:
                self._look_after(pod)
            except Status:
                continue  # it was changed meanwhile; the next step sees how
        self._collect()
        self._server.finish_namespaces()

    def exit(self, name: str, code: int) -> None:
        """The container of the pod of that name exits."""
        for pod in self._server.all("pods"):
            run = self.ledger.get(pod["metadata"]["uid"])
            if pod["metadata"]["name"] != name or self.frozen or run is None or not run.running:
                continue
            self._ended(run, code)
            policy = restart_policy(pod)
            if policy == "Always" or (policy == "OnFailure" and code):
                self._start(pod, run)
            else:
                self._report(pod, run, phase="Failed" if code else "Succeeded")

    def ran(self, container: str) -> str | None:
        """The uid of the foreign pod whose container has this id."""
        return next((uid for uid in self.ledger if container.startswith(f"run://{uid}/")), None)

    def _look_after(self, pod: JSON) -> None:
        metadata = pod["metadata"]
        where = _where(pod)
        if not pod["spec"].get("nodeName"):
            if "deletionTimestamp" not in metadata:
                body = {"spec": {"nodeName": "worker"}}
                self._server.patch(where, body, by="scheduler", status=False, strategic=False)
            return
        run = self.ledger.setdefault(metadata["uid"], Run(metadata["uid"]))
        over = pod["status"].get("phase") in ("Succeeded", "Failed")
        if "deletionTimestamp" not in metadata:
            if not over and not run.running:
                self._start(pod, run)
            elif self._start_ephemeral(pod, run):
                self._report(pod, run, phase="Running")
            elif pod["status"].get("observedGeneration") != metadata["generation"]:
                self._report(pod, run, phase=pod["status"]["phase"])
            return
        if run.running and not run.stopping and metadata["deletionGracePeriodSeconds"]:
            run.stopping = True  # it takes until the next step
        elif run.running or not over:
            if run.running:
                self._ended(run, self.stop_codes.get(metadata["name"], 143))
            code = run.codes[-1] if run.codes else 137
            self._report(pod, run, phase="Failed" if code else "Succeeded")
        elif metadata["deletionGracePeriodSeconds"]:
            self._server.delete(where, by=BY, grace=0, uid=metadata["uid"])

    def _start(self, pod: JSON, run: Run) -> None:
        run.starts += 1
        run.running = True
        self._on_start(run.uid)
        self._report(pod, run, phase="Running")

    def _start_ephemeral(self, pod: JSON, run: Run) -> bool:
        """Start those that never ran; whether there were any."""
        if not run.running:
            return False
        wanted = [one["name"] for one in pod["spec"].get("ephemeralContainers", ())]
        new = [name for name in wanted if name not in run.ephemeral]
        for name in new:
            run.ephemeral.append(name)
            self._on_ephemeral(run.uid, name)
        return bool(new)

    def _ended(self, run: Run, code: int) -> None:
        run.running = False
        run.codes.append(code)

    def _report(self, pod: JSON, run: Run, *, phase: str) -> None:
        code = run.codes[-1] if run.codes else 137
        ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        status = {
            "name": pod["spec"]["containers"][0]["name"],
            "image": "app",
            "imageID": "app@1",
            "containerID": f"run://{run.uid}/{run.starts}",
            "ready": run.running,
            "started": run.running,
            "restartCount": max(0, run.starts - 1),
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if run.running else ended,
            "lastState": ended if run.running and run.codes else {},
        }
        statuses: JSON = {
            "phase": phase,
            "observedGeneration": pod["metadata"]["generation"],
            "containerStatuses": [clone(status)],
        }
        if run.ephemeral:
            statuses["ephemeralContainerStatuses"] = [
                {**clone(status), "name": name, "containerID": f"run://{run.uid}/{name}"}
                for name in run.ephemeral
            ]
        body = {"status": statuses}
        self._server.patch(_where(pod), body, by=BY, status=True, strategic=False)

    def _collect(self) -> None:
        """What has owners that are all gone goes as well."""
        owned = ("secrets", "pods")
        owners = {o["metadata"]["uid"] for k in ("namespaces", "pods") for o in self._server.all(k)}
        for kind in owned:
            for obj in self._server.all(kind):
                metadata = obj["metadata"]
                uids = {owner["uid"] for owner in metadata.get("ownerReferences", ())}
                if uids and not uids & owners and "deletionTimestamp" not in metadata:
                    self._server.delete(_where(obj, kind), by="garbage-collector")


def _where(obj: JSON, resource: str = "pods") -> Where:
    return (resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
