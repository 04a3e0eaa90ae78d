"""What must never happen, checked at every write, and what must hold once nothing changes any more.

It knows a mirror by the request that created it, so that later writes on objects cannot mislead
it.
"""

from __future__ import annotations

from collections.abc import Iterator

from farlet import constants
from unit.planning.fake_cluster import FARLET
from unit.planning.kubelet import Kubelet
from unit.planning.model import JSON, Server, Write, restart_policy

TERMINAL = ("Succeeded", "Failed")
GIVEN_UP = constants.Reason.MIRROR_LOST.value


class Invariants:
    """Collects violations."""

    def __init__(self, home: Server, foreign: Server) -> None:
        self._home = home
        self._foreign = foreign
        self.kubelet = Kubelet(foreign, self._started, self._debugged)
        self.violations: list[str] = []
        self.writes = 0
        """Of farlet, on both sides, for pods."""
        self.made: dict[str, str] = {}
        """Uid of a mirror -> uid of the home pod that it was made for."""
        self.blinded: set[str] = set()
        """Home uids whose mirror lost its finalizer to a user: its end can be unseen."""
        self._ephemeral: set[tuple[str, str]] = set()
        """Home uid and name of each ephemeral container that ran."""
        self._policies: dict[str, str] = {}
        self._finished: set[str] = set()
        """Home uids that farlet has made terminal."""
        home.observers.append(self._home_write)
        foreign.observers.append(self._foreign_write)

    # --- at every write -----------------------------------------------------------------------

    def _home_write(self, write: Write) -> None:
        if write.where[0] != "pods":
            return
        before, after = write.before, write.after
        if before is None or after is None:
            if write.by == FARLET and before is not None and after is None:
                self._removed(before)
            elif after is not None:
                policy = restart_policy(after)
                self._policies[after["metadata"]["uid"]] = policy
            return
        if write.by != FARLET:
            return
        self.writes += 1
        uid = after["metadata"]["uid"]
        if "deletionTimestamp" in after["metadata"].keys() - before["metadata"].keys():
            self._evicted(uid)
        was, now = before["status"].get("phase"), after["status"].get("phase")
        if uid in self._finished and now != was:
            self._violated(f"{uid} went back from {was} to {now}")
        for status in after["status"].get("containerStatuses", ()):
            mirror = self.kubelet.ran(status.get("containerID", ""))
            if mirror is not None and self.made.get(mirror) != uid:
                self._violated(f"{uid} shows a container that was never its own")
        if was not in TERMINAL and now in TERMINAL:
            self._finished.add(uid)
            if after["status"].get("reason") == GIVEN_UP and self._mirrors(uid):
                self._violated(f"the mirror of {uid} was called lost and is there")

    def _removed(self, pod: JSON) -> None:
        self.writes += 1
        uid = pod["metadata"]["uid"]
        if self._mirrors(uid):
            self._violated(f"home pod {uid} was removed before its mirror")

    def _evicted(self, uid: str) -> None:
        going = [m for m in self._mirrors(uid) if self._is_overdue(m)]
        if not going:
            self._violated(f"home pod {uid} was evicted and nothing keeps its mirror")

    def _is_overdue(self, uid: str) -> bool:
        mirror = self._foreign.find("pods", uid)
        return mirror is not None and "deletionTimestamp" in mirror["metadata"]

    def _foreign_write(self, write: Write) -> None:
        if write.by != FARLET or write.where[0] == "configmaps":
            return  # what farlet keeps for itself
        self.writes += 1
        if write.where[0] != "pods":
            return
        if write.before is None:
            assert write.after is not None
            self._created(write.after)
            return
        uid = write.before["metadata"]["uid"]
        if uid not in self.made:
            self._violated(f"{write.verb} of {uid}, which is not farlet's")
            return
        home = self._home.find("pods", self.made[uid])
        if home is None:
            return
        if write.verb == "delete" and _wanted(home):
            self._violated(f"the mirror of {self.made[uid]}, which lives, was deleted")
        if write.verb == "patch" and _let_go(write) and not _told(home, write.before):
            self._violated(f"the mirror of {self.made[uid]} was released before its end was shown")

    def _created(self, mirror: JSON) -> None:
        uid = mirror["metadata"]["annotations"][constants.HOME_UID]
        if uid in self._finished:
            self._violated(f"{uid} has finished and got another mirror")
        self._again(uid)
        self.made[mirror["metadata"]["uid"]] = uid

    def _started(self, uid: str) -> None:
        if uid in self.made:
            self._again(self.made[uid], but=uid)

    def _debugged(self, uid: str, name: str) -> None:
        """A mirror starts an ephemeral container."""
        whose = self.made.get(uid, "")
        if (whose, name) in self._ephemeral:
            self._violated(f"the ephemeral container {name} of {whose} runs twice")
        self._ephemeral.add((whose, name))

    def _again(self, uid: str, but: str = "") -> None:
        """Home pod `uid` gets another mirror, or one of its mirrors starts a container."""
        ran = [
            run
            for mirror, run in self.kubelet.ledger.items()
            if self.made.get(mirror) == uid and mirror != but and run.starts
        ]
        policy = self._policies[uid]
        if policy == "Never" and ran:
            self._violated(f"{uid} of restartPolicy Never runs twice")
        if policy == "OnFailure" and uid not in self.blinded and any(0 in r.codes for r in ran):
            self._violated(f"{uid} of restartPolicy OnFailure runs again after a success")

    def _mirrors(self, uid: str) -> list[str]:
        there = (pod["metadata"]["uid"] for pod in self._foreign.all("pods"))
        return [mirror for mirror in there if self.made.get(mirror) == uid]

    def _violated(self, text: str) -> None:
        self.violations.append(text)

    # --- once all is quiet --------------------------------------------------------------------

    def unconverged(self) -> list[str]:
        """Why the two sides have not converged yet; empty: they have."""
        return [*self._home_unconverged(), *self._foreign_unconverged()]

    def _home_unconverged(self) -> Iterator[str]:
        for pod in self._home.all("pods"):
            metadata, status = pod["metadata"], pod["status"]
            uid = metadata["uid"]
            found = (self._foreign.find("pods", mirror) for mirror in self._mirrors(uid))
            mirrors = [m for m in found if m is not None and (_labelled(m) or _wanted(pod))]
            running = [m for m in mirrors if m["status"].get("phase") not in TERMINAL]
            if "deletionTimestamp" in metadata:
                if metadata["deletionGracePeriodSeconds"] or not metadata.get("finalizers"):
                    yield f"{uid} is still being deleted"
                elif mirrors:
                    yield f"{uid} is held at home and its mirror is there"
            elif status["phase"] in TERMINAL:
                if running:
                    yield f"{uid} has finished and its mirror runs"
            elif (_refused(pod) or self._taken(pod)) and not _shows_generation(pod):
                yield f"{uid} waits and does not show its generation: {status}"
            elif _refused(pod):
                if mirrors or status.get("reason") != "InvalidAPIServerSupport":
                    yield f"{uid} is not refused: {status}"
            elif self._taken(pod):
                if status.get("reason") not in self._obstacles(metadata["name"]):
                    yield f"{uid} does not report that its name is taken: {status}"
            elif not running:
                yield f"{uid} has no mirror: {status}"
            else:
                yield from self._differs(pod, running[0])

    def _differs(self, pod: JSON, mirror: JSON) -> Iterator[str]:
        uid, here, there = pod["metadata"]["uid"], pod["status"], mirror["status"]
        for one in pod["spec"].get("ephemeralContainers", ()):
            if (uid, one["name"]) not in self._ephemeral:
                yield f"the ephemeral container {one['name']} of {uid} never ran"
        if "deletionTimestamp" in mirror["metadata"]:
            yield f"the mirror of {uid} is being deleted"
        elif here["phase"] != there["phase"] and there["phase"] != "Pending":
            yield f"{uid} is {here['phase']} and its mirror {there['phase']}"
        elif _state(pod) != _state(mirror):
            yield f"{uid} shows {_state(pod)} and its mirror {_state(mirror)}"
        elif _changeable(pod) != _changeable(mirror):
            yield f"{uid} has {_changeable(pod)} and its mirror {_changeable(mirror)}"
        elif not _shows_generation(pod):
            yield f"{uid} does not show its generation: {here}"
        elif pod["spec"].get("volumes"):
            owners = [
                owner["uid"]
                for secret in self._foreign.all("secrets")
                for owner in secret["metadata"].get("ownerReferences", ())
            ]
            if mirror["metadata"]["uid"] not in owners:
                yield f"the mirror of {uid} has no Secret"

    def _foreign_unconverged(self) -> Iterator[str]:
        for mirror in self._foreign.all("pods"):
            metadata = mirror["metadata"]
            uid = self.made.get(metadata["uid"])
            if uid is None:
                if "deletionTimestamp" in metadata:
                    yield f"the unrelated pod {metadata['name']} is still going"
                continue
            home = self._home.find("pods", uid)
            if not _labelled(mirror) and (home is None or not _wanted(home)):
                continue  # a finished mirror without our label stays
            if home is None:
                yield f"a mirror outlives {uid}"
            elif mirror["status"].get("phase") in TERMINAL and metadata.get("finalizers"):
                yield f"the mirror of {uid} has ended and is not released"
            elif not _labelled(mirror):
                yield f"the mirror of {uid} has lost its label"
        alive = {pod["metadata"]["uid"] for pod in self._foreign.all("pods")}
        for secret in self._foreign.all("secrets"):
            owners = secret["metadata"].get("ownerReferences", ())
            if not alive & {owner["uid"] for owner in owners}:
                yield f"Secret {secret['metadata']['name']} has no mirror"

    def _obstacles(self, name: str) -> set[str]:
        """Reasons for a pod whose name is taken. What took it can hold up its namespace, too."""
        reasons = {constants.Reason.NAME_CONFLICT.value}
        held = {p["metadata"]["namespace"] for p in self._foreign.all("pods") if _is(p, name)}
        for one in self._foreign.all("namespaces"):
            if one["metadata"]["name"] in held and "deletionTimestamp" in one["metadata"]:
                reasons.add(constants.Reason.NAMESPACE_NOT_FOUND.value)
        return reasons

    def _taken(self, pod: JSON) -> bool:
        """An unrelated pod has the name, or an earlier mirror that cannot be recognised."""
        metadata = pod["metadata"]
        for other in self._foreign.all("pods"):
            whose = self.made.get(other["metadata"]["uid"])
            ours = whose == metadata["uid"] or (whose is not None and _labelled(other))
            if other["metadata"]["name"] == metadata["name"] and not ours:
                return True
        return False


def _is(pod: JSON, name: str) -> bool:
    return bool(pod["metadata"]["name"] == name)


def _wanted(home: JSON) -> bool:
    return "deletionTimestamp" not in home["metadata"] and home["status"]["phase"] not in TERMINAL


def _shows_generation(pod: JSON) -> bool:
    observed = pod["status"].get("observedGeneration")
    return bool(observed == pod["metadata"]["generation"])


def _changeable(pod: JSON) -> JSON:
    """Labels, annotation and images of a pod that a user can change while it runs."""
    metadata = pod["metadata"]
    labels = metadata.get("labels", {}).items()
    return {
        "labels": {key: value for key, value in labels if "farlet.io/" not in key},
        "annotation": metadata.get("annotations", {}).get("go"),
        "images": [container["image"] for container in pod["spec"]["containers"]],
        "resources": [container.get("resources") for container in pod["spec"]["containers"]],
    }


def _labelled(mirror: JSON) -> bool:
    return constants.VIRTUAL_NODE_ID in mirror["metadata"].get("labels", {})


def _refused(home: JSON) -> bool:
    mode = home["metadata"]["annotations"][constants.API_SERVER_SUPPORT]
    return mode not in ("home", "disabled")


def _let_go(write: Write) -> bool:
    """Our finalizer was removed."""
    assert write.before is not None
    before = write.before["metadata"].get("finalizers", ())
    left = () if write.after is None else write.after["metadata"].get("finalizers", ())
    return constants.OBSERVED in before and constants.OBSERVED not in left


def _told(home: JSON, mirror: JSON) -> bool:
    """Home shows how the mirror's container ended, if it has."""
    ended = _state(mirror).get("terminated")
    return not ended or _state(home).get("terminated", {}).get("exitCode") == ended["exitCode"]


def _state(pod: JSON) -> JSON:
    statuses = pod["status"].get("containerStatuses")
    return dict(statuses[0]["state"]) if statuses else {}
