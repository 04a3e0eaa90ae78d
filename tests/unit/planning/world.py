"""Two model clusters, a kubelet, a farlet process, and the faults they meet.

A `Step` is one event and the time that passes after it. A step that is not possible now is skipped:
so any list of steps is a story, and so is any shorter one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from farlet import constants, errors
from farlet.telemetry.metrics import Metrics
from unit import faketime
from unit.planning import model, objects, process
from unit.planning.fake_cluster import FakeCluster, Fault
from unit.planning.invariants import Invariants
from unit.planning.model import JSON, Server

MOST_WRITES = 400
"""No story is so long that it needs more of them."""
BACKOFF_SECONDS = 20.0
QUIET_SECONDS = 40.0
CHECKED_EVERY_SECONDS = 10.0
"""A story ends soon after something has gone wrong."""
CONVERGED_WITHIN_SECONDS = 420.0
"""A resync every 300 s finds what vanished at home while no watch was open."""

HOME, FOREIGN = "default", "default-h"
USER = "user"


@dataclass(frozen=True, slots=True)
class Step:
    """`what` names a method of `World`; `then`: seconds that pass afterwards."""

    what: str
    args: tuple[Any, ...] = ()
    then: float = 0.0


class World:
    """One story. `run` it, then see `violations`."""

    def __init__(
        self,
        loop: faketime.Loop,
        clock: Callable[[], float],
        metrics: Metrics,
        logs: Sequence[MutableMapping[str, Any]],
    ) -> None:
        self._loop = loop
        self._logs = logs
        self._metrics = metrics
        self.home = Server(clock, (HOME,))
        self.foreign = Server(clock, (FOREIGN, objects.CONTEXT.namespaces.own))
        self._clusters = {
            "home": FakeCluster("home", self.home, clock),
            "foreign": FakeCluster("foreign", self.foreign, clock),
        }
        self.invariants = Invariants(self.home, self.foreign)
        self._process: asyncio.Task[None] | None = None
        self._backups: dict[str, model.Backup] = {}
        self.foreign.observers.append(lambda _: self._wake_node())
        self._node_wakes = False
        self._wake_node()
        self.start()

    def _wake_node(self) -> None:
        """The foreign node works at the next half second, and at each one while it is busy."""
        if not self._node_wakes:
            self._node_wakes = True
            self._loop.call_at((self._loop.time() // 0.5 + 1) * 0.5, self._node_works)

    def _node_works(self) -> None:
        self.invariants.kubelet.step()
        self._node_wakes = False
        if self.invariants.kubelet.busy:
            self._wake_node()

    @property
    def sent(self) -> list[tuple[float, str, str, JSON]]:
        """All that farlet sent to both clusters, in order: seconds, cluster, request, body."""
        both = [one for cluster in self._clusters.values() for one in cluster.sent]
        return sorted(both, key=lambda one: one[0])

    # --- the story ----------------------------------------------------------------------------

    def run(self, story: Sequence[Step]) -> list[str]:
        """All that violates an invariant in a story and in the quiet after it."""
        for step in story:
            with contextlib.suppress(model.Status):
                getattr(self, step.what)(*step.args)
            self.wait(step.then)
            if self.violations():
                return self.violations()
        return self._end()

    def violations(self) -> list[str]:
        invalid = [text for cluster in self._clusters.values() for text in cluster.invalid]
        endless = ["it writes without end"] if self.invariants.writes > MOST_WRITES else []
        bugs = [str(entry) for entry in self._logs if entry["log_level"] in ("error", "critical")]
        return [*self.invariants.violations, *invalid, *endless, *bugs]

    def _end(self) -> list[str]:
        """All faults end and nothing changes any more: both sides must converge."""
        for cluster in self._clusters.values():
            cluster.faults.clear()
            cluster.down, cluster.lag, cluster.twice = False, 0.0, False
        self.freeze(False)
        self.start()
        waited = 0.0
        while (
            (self._without_namespace() or self.invariants.unconverged())
            and waited < CONVERGED_WITHIN_SECONDS
            and not self.violations()
        ):
            self.recreate_namespace()
            self.wait(5.0)
            waited += 5.0
        if self.violations() or self.invariants.unconverged():
            return [*self.violations(), *self.invariants.unconverged()]
        self.wait(BACKOFF_SECONDS)
        before = self.invariants.writes
        self.wait(QUIET_SECONDS)
        restless = self.invariants.writes - before
        return [
            *self.violations(),
            *self.invariants.unconverged(),
            *([f"{restless} writes while nothing changed"] if restless else []),
        ]

    def wait(self, seconds: float) -> None:
        """Time passes, until something has gone wrong."""
        until = self._loop.time() + seconds
        while not self.violations():
            left = until - self._loop.time()
            self._loop.advance(max(0.0, min(left, CHECKED_EVERY_SECONDS)))
            if left <= CHECKED_EVERY_SECONDS:
                break
        if self._process is not None and self._process.done():
            try:
                self._process.result()
            except* errors.StartError:
                # It ends with a message, and its supervisor starts it again.
                self._process = None
                self.start()

    # --- the operator -------------------------------------------------------------------------

    def start(self) -> None:
        """farlet starts, unless it runs."""
        if self._process is None:
            self._process = self._loop.create_task(
                process.run(self._clusters["home"], self._clusters["foreign"], self._metrics)
            )

    def kill(self) -> None:
        """farlet is killed at any point, and forgets everything."""
        if self._process is not None:
            self._process.cancel()
            self._loop.run_until_complete(asyncio.wait([self._process]))
            self._process = None

    def rest(self) -> None:
        """Ten minutes without changes: resyncs, bookmarks, watches that end."""
        self.wait(600.0)

    def restart(self) -> None:
        self.kill()
        self.start()

    # --- faults -------------------------------------------------------------------------------

    def fault(self, side: str, *faults: Fault) -> None:
        """The next writes of farlet on this side meet these faults."""
        self._clusters[side].faults.extend(faults)

    def outage(self, side: str) -> None:
        """The server does not answer, and watches break."""
        self._clusters[side].down = True
        self._clusters[side].break_watches()

    def back(self, side: str) -> None:
        self._clusters[side].down = False

    def cut(self, side: str) -> None:
        """Watches break; the server still answers."""
        self._clusters[side].break_watches()

    def gap(self, side: str) -> None:
        """Watches break and what happened until now was compacted away."""
        server = self.home if side == "home" else self.foreign
        server.compact()
        self._clusters[side].break_watches()

    def backup(self, side: str) -> None:
        """An administrator copies the storage of a server."""
        server = self.home if side == "home" else self.foreign
        self._backups[side] = server.backup()

    def restore(self, side: str) -> None:
        """All API servers of a side start again with the copy."""
        server = self.home if side == "home" else self.foreign
        server.restore(self._backups[side])
        self._clusters[side].break_watches()

    def lag(self, side: str, seconds: float) -> None:
        self._clusters[side].lag = seconds

    def repeat(self, side: str, twice: bool) -> None:
        self._clusters[side].twice = twice

    # --- home ---------------------------------------------------------------------------------

    def create(self, name: str, policy: str, mode: str, *, held: bool = False) -> None:
        """A user creates a pod that is bound to the virtual node.

        `policy`: `Always`, or `Always, its container Never` and so on.
        """
        of_pod, _, of_container = policy.partition(", its container ")
        pod: JSON = model.clone(
            objects.home(
                policy=of_pod,
                spec=objects.main(restartPolicy=of_container) if of_container else None,
                reads_token=mode == "home",
                annotations={constants.API_SERVER_SUPPORT: mode},
                finalizers=["example.org/held"] if held else [],
            )
        )
        pod["metadata"]["name"] = name
        self.home.create("pods", HOME, pod, by=USER)

    def create_held(self, name: str, policy: str) -> None:
        """As `create`, with a finalizer of another controller."""
        self.create(name, policy, "disabled", held=True)

    def delete(self, name: str, grace: int | None = None) -> None:
        """`kubectl delete`; grace 0 is a forced one."""
        self.home.delete(("pods", HOME, name), by=USER, grace=grace)

    def replace(self, name: str, policy: str) -> None:
        """A pod is deleted by force and recreated at once."""
        self.delete(name, 0)
        self.create(name, policy, "disabled")

    def change(self, name: str, value: str) -> None:
        """A user changes what can change in a running pod."""
        main = {
            "name": "main",
            "image": f"example.org/app:{value}",
            "resources": {"limits": {"cpu": str(len(value))}},
        }
        body = {
            "metadata": {"labels": {"stage": value, value: ""}, "annotations": {"go": value}},
            "spec": {"containers": [main]},
        }
        where = ("pods", HOME, name)
        self.home.patch(where, body, by=USER, status=False, strategic=True)

    def let_go(self, name: str) -> None:
        """Finalizers of other controllers are removed from the home pod."""
        body = {"metadata": {"finalizers": None}}
        self.home.patch(("pods", HOME, name), body, by=USER, status=False, strategic=False)

    def evict(self, name: str) -> None:
        """A controller in the home cluster ends the pod (`Failed`)."""
        pod = self.home.get(("pods", HOME, name))
        if pod["status"]["phase"] not in ("Succeeded", "Failed"):
            body = {"status": {"phase": "Failed", "reason": "Evicted"}}
            self.home.patch(("pods", HOME, name), body, by=USER, status=True, strategic=False)

    def debug(self, name: str, container: str) -> None:
        """`kubectl debug`: an ephemeral container is added to the home pod."""
        body = {"spec": {"ephemeralContainers": [{"name": container, "image": "debugger"}]}}
        self.home.patch(("pods", HOME, name), body, by=USER, status=False, strategic=True)

    # --- the foreign cluster ------------------------------------------------------------------

    def exit(self, name: str, code: int) -> None:
        self.invariants.kubelet.exit(name, code)

    def stops_with(self, name: str, code: int) -> None:
        self.invariants.kubelet.stop_codes[name] = code

    def freeze(self, frozen: bool) -> None:
        """The foreign node stops working, or works again."""
        self.invariants.kubelet.frozen = frozen
        self._wake_node()

    def discard(self, name: str, grace: int | None = None) -> None:
        """A user deletes the mirror in the foreign cluster."""
        self.foreign.delete(("pods", FOREIGN, name), by=USER, grace=grace)

    def strip(self, name: str) -> None:
        """A user removes the finalizer of a mirror that home knows, and deletes it by force."""
        mirror = self._known(name)
        if mirror is not None:
            self.invariants.blinded.add(self.invariants.made[mirror["metadata"]["uid"]])
            where = ("pods", FOREIGN, name)
            body = {"metadata": {"finalizers": None}}
            self.foreign.patch(where, body, by=USER, status=False, strategic=False)
            self.foreign.delete(where, by=USER, grace=0)

    def forge_label(self, name: str) -> None:
        """A user removes our label from a mirror that home knows."""
        self._forge(name, {"labels": {constants.VIRTUAL_NODE_ID: None}})

    def forge_owner(self, name: str) -> None:
        """A user changes the annotation that names the home pod of a mirror that home knows."""
        self._forge(name, {"annotations": {constants.HOME_UID: "another-uid"}})

    def _forge(self, name: str, metadata: JSON) -> None:
        if self._known(name) is not None:
            where = ("pods", FOREIGN, name)
            body = {"metadata": metadata}
            self.foreign.patch(where, body, by=USER, status=False, strategic=False)

    def intrude(self, name: str) -> None:
        """An unrelated pod takes the name."""
        pod = model.clone(objects.unrelated())
        pod["metadata"] = {"name": name, "labels": {"app": "unrelated"}}
        pod["spec"] = {"containers": [{"name": "main"}]}
        self.foreign.create("pods", FOREIGN, pod, by=USER)

    def retreat(self, name: str) -> None:
        """The unrelated pod goes."""
        pod = self.foreign.get(("pods", FOREIGN, name))
        if pod["metadata"]["uid"] not in self.invariants.made:
            self.discard(name, 0)

    def burn(self, name: str) -> None:
        """A user deletes the Secrets of pods of that name."""
        for secret in self.foreign.all("secrets", FOREIGN):
            metadata = secret["metadata"]
            if any(owner["name"] == name for owner in metadata.get("ownerReferences", ())):
                self.foreign.delete(("secrets", FOREIGN, metadata["name"]), by=USER)

    def end_namespace(self) -> None:
        """A user deletes the foreign namespace; what it contains is deleted first."""
        self.foreign.terminate_namespace(FOREIGN)

    def recreate_namespace(self) -> None:
        """A user creates the foreign namespace again, once it is gone."""
        if all(one["metadata"]["name"] != FOREIGN for one in self.foreign.all("namespaces")):
            self.foreign.create_namespace(FOREIGN)

    def _without_namespace(self) -> bool:
        """The foreign namespace is being deleted, or is gone."""
        return all(
            one["metadata"]["name"] != FOREIGN or "deletionTimestamp" in one["metadata"]
            for one in self.foreign.all("namespaces")
        )

    def _known(self, name: str) -> JSON | None:
        """The mirror, if the condition `Mirrored` at home names it."""
        home = self.home.get(("pods", HOME, name))
        mirror = self.foreign.get(("pods", FOREIGN, name))
        named = [
            c.get("message")
            for c in home["status"].get("conditions", ())
            if c["type"] == constants.PodCondition.MIRRORED.value
        ]
        return mirror if named == [mirror["metadata"]["uid"]] else None
