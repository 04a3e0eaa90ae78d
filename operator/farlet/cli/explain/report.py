"""What `farlet explain` says about a pod: pure, from what was read of both clusters.

Everything in the result is one line of bounded length (`reading.clean`), and there is a bound for
each list, whatever the clusters contain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from farlet.cli import serving
from farlet.cli.commands import Connection
from farlet.cli.explain import drafts, placement
from farlet.cli.explain.drafts import Draft
from farlet.cli.explain.facts import Facts, Moment, Report, Requirement
from farlet.cli.reading import Absent, Unread, clean
from farlet.cli.status import readiness
from farlet.constants import ACCESS, FOREIGN_CLUSTER, JSON, NodeCondition, PodCondition, Reason
from farlet.forge import mirror_event, timestamps
from farlet.k8s_types import Condition, ContainerState, ContainerStatus, Event, Node, Pod, PodPhase
from farlet.k8s_types import NodeCondition as NodeConditionShape
from farlet.planning import predicates

EVENTS = 40
CONTAINERS = 30
REQUIREMENTS = 60
ADVICE = 8
PROBLEMS = 3
"""Failing checks of farlet."""

_AFTER_START = frozenset(
    {
        Reason.CHANGE_REJECTED,
        Reason.EPHEMERAL_CONTAINER_REJECTED,
        Reason.HOME_API_ENDPOINT_CHANGED,
        Reason.INTERNAL_ERROR,
        Reason.MIRROR_BACK_OFF,
        Reason.SPEC_FIELDS_DROPPED,
        Reason.STATUS_REJECTED,
        Reason.TOKEN_REFRESH_FAILED,
        Reason.UNKNOWN_ANNOTATION,
    }
)
"""Reasons of Events about pods that run. Any other reason explains an earlier wait."""

_IMAGE = (
    "The nodes of the foreign cluster pull the image: check its name and tag, imagePullSecrets, "
    "and that these nodes reach the registry."
)
_CONFIG = "A ConfigMap or Secret, or a key in it, is missing: see Requirements and the message."
_WAITING: Mapping[str, str] = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "InvalidImageName": _IMAGE,
    "RegistryUnavailable": _IMAGE,
    "ErrImageNeverPull": "Its imagePullPolicy is Never, and the foreign node does not have it.",
    "CreateContainerConfigError": _CONFIG,
    "CrashLoopBackOff": "It exits repeatedly: {logs} --previous",
}
"""What to do, by the reason for which a kubelet keeps a container waiting."""


def report(facts: Facts, now: float, home: Connection, foreign: Connection) -> Report:
    """What is known, and what to do. `now`: epoch seconds. The connections are for commands."""
    draft = Draft(facts, now, home, foreign)
    pod = facts.pod if draft.read("the home pod", facts.pod) else None
    draft.read("the foreign namespace", facts.namespace)
    mirror = facts.mirror if draft.read("the mirror", facts.mirror) else None
    events, omitted = _timeline(draft)
    _home(draft, cast("Pod | None", pod))
    _mirror(draft, cast("Pod | None", mirror))
    shown = cast("Pod | None", mirror or pod)
    containers = [] if shown is None else _containers(draft, shown)
    needs = _needs(draft)
    if pod is not None:
        _past(draft, events)
        _unexplained(draft, cast("Pod", pod))
    if facts.mirror is None and facts.foreign_namespace is not None:
        without = Unread("add --foreign-context or --foreign-kubeconfig")
        draft.read("the foreign cluster", without)
    draft.read("whether this is the foreign cluster of the node", facts.identity)
    advice = tuple(dict.fromkeys(draft.advice))[:ADVICE]
    return Report(
        pod=str(facts.key),
        found=pod is not None,
        home={what: drafts.once(text, advice) for what, text in draft.home.items()},
        requirements=needs,
        mirror=draft.mirror,
        containers=containers,
        events=[replace(one, message=drafts.once(one.message, advice)) for one in events],
        events_omitted=omitted,
        not_read=tuple(f"{', '.join(what)}: {why}" for why, what in draft.unread.items()),
        advice=advice,
    )


# --- the pod at home ------------------------------------------------------------------------------


def _home(draft: Draft, pod: Pod | None) -> None:
    facts, home, advice = draft.facts, draft.home, draft.advice
    if pod is None:
        if isinstance(facts.pod, Absent):
            home["phase"] = "the home cluster has no such pod"
            kubectl = draft.kubectl
            advice.append(f"Check the name: {kubectl} get pods -n {facts.key.namespace}")
        return
    status, metadata = pod.get("status") or {}, pod["metadata"]
    home["phase"] = drafts.joined(status.get("phase"), status.get("reason"))
    if "deletionTimestamp" in metadata:
        home["phase"] += f", being deleted since {draft.since(metadata['deletionTimestamp'])}"
    home["age"] = draft.since(metadata.get("creationTimestamp"))
    if status.get("message"):
        home["message"] = clean(draft.named(status["message"]))
    home["access mode"] = facts.mode
    conditions = _by_type(status.get("conditions"))
    scheduled = conditions.get(PodCondition.POD_SCHEDULED, {})
    name = pod["spec"].get("nodeName")
    if not name:
        home["node"] = "none: the scheduler of the home cluster has not found one"
        home["message"] = clean(scheduled.get("message") or home.get("message", "none"))
        _unbound(draft, pod)
        return
    home["node"] = clean(name)
    _node(draft)
    for reason in (status.get("reason"), scheduled.get("reason")):
        if reason in set(Reason):
            draft.advise(Reason(cast("str", reason)))
            break
    if facts.denied:
        advice.append(f"{Reason.HOME_NAMESPACE_FORBIDDEN}: {clean(draft.named(facts.denied))}")
    if facts.foreign_namespace is None:
        home["foreign namespace"] = "none, according to the settings of this command"


def _unbound(draft: Draft, pod: Pod) -> None:
    """The home scheduler has not placed it."""
    nodes = draft.facts.virtual_nodes
    found: Mapping[str, Sequence[str]] = {}
    if draft.read("virtual nodes", nodes):
        known = [one for one in cast("Sequence[Node]", nodes) if _is_farlets(one)]
        found = placement.obstacles(pod, known, draft.home_connection)
    for name, texts in found.items():
        draft.advice += [clean(draft.named(text, name)) for text in texts]
    if not found or not all(found.values()):
        draft.advice.append(
            "The home scheduler decides this, before farlet sees the pod: compare its node "
            "selector, affinity, tolerations (farlet.io/virtual-node) and requests with the node: "
            f"{draft.kubectl} describe nodes -l type=virtual-kubelet"
        )


def _is_farlets(node: Node) -> bool:
    return FOREIGN_CLUSTER in (node["metadata"].get("annotations") or {})


def _node(draft: Draft) -> None:
    """The virtual node, if it can be read."""
    node, home, advice = draft.facts.node, draft.home, draft.advice
    name = home["node"]
    if not draft.read(f"the Node {name}", node):
        if isinstance(node, Absent):
            home["node"] = f"{name}, which does not exist any more"
            advice.append(f"Nothing runs this pod without the Node {name}: {draft.status_command}")
        return
    node = cast("Node", node)
    if not _is_farlets(node):
        home["node"] = f"{name}, which farlet does not serve"
        describe = f"{draft.kubectl} describe node {name}"
        advice.append(f"This pod does not run through farlet: {describe}")
        return
    conditions = _by_type((node.get("status") or {}).get("conditions"))
    if not _served(draft, name):
        return
    ready = conditions.get(NodeCondition.READY, {})
    state = "ready" if ready.get("status") == "True" else "not ready"
    cordoned = ", cordoned" if (node.get("spec") or {}).get("unschedulable") else ""
    home["node"] = f"{name} ({state}{cordoned})"
    if state != "ready":
        message = clean(draft.named(ready.get("message", "")))
        advice.append(f"The Node {name} is not ready: {message}. See {draft.status_command}")
    leading = draft.leading
    for kind in (NodeCondition.FOREIGN_REACHABLE, NodeCondition.HOME_API_REACHABLE):
        found = conditions.get(kind, {})
        if found.get("status") == "False" and not readiness.is_over(kind, leading):
            home[kind.value] = drafts.joined("False", found.get("reason"))
            message = found.get("message") or f"the Node has {kind.value}=False"
            draft.add(clean(draft.named(message)))


def _served(draft: Draft, node: str) -> bool:
    """Whether a farlet serves the node; what it reports now counts more than what it wrote."""
    facts, home, leading = draft.facts, draft.home, draft.leading
    draft.read("what farlet reports of itself", facts.state)
    draft.read("the Lease of the node", facts.lease)
    unserved = "" if leading is not None else serving.unserved(facts.lease, draft.now)
    if unserved:
        home["node"] = f"{node} (no farlet serves it)"
        draft.advice.append(
            f"The Node {node}: {unserved}. Until one does, no new pod starts, kubectl logs and "
            f"exec fail, and the status here is old. What starts it: {draft.status_command}"
        )
        return False
    if leading is None:
        return True
    for check, text in list(readiness.problems(leading).items())[:PROBLEMS]:
        draft.add(f"farlet of the node {node} ({clean(check, most=80)})", text)
    for one in leading.namespaces:
        if one.home == facts.key.namespace and one.problem:
            home["farlet reports"] = clean(draft.named(one.problem))
            if one.reason in set(Reason):
                draft.advise(Reason(one.reason))
            else:
                draft.advice.append(home["farlet reports"])
    return True


# --- the mirror -----------------------------------------------------------------------------------


def _mirror(draft: Draft, mirror: Pod | None) -> None:
    facts, shown, advice = draft.facts, draft.mirror, draft.advice
    if facts.foreign_namespace is None or facts.mirror is None or isinstance(facts.mirror, Unread):
        return
    shown["namespace"] = facts.foreign_namespace
    if isinstance(facts.namespace, Absent):
        shown["namespace"] += ", which does not exist"
    if mirror is None:
        shown["pod"] = "none"
        if not advice and not isinstance(facts.pod, Absent | Unread):
            node = facts.pod["spec"].get("nodeName", "")
            advice.append(
                "farlet has not created the mirror, and the pod shows no reason: see the Events of "
                f"its Node ({draft.kubectl} describe node {node}), {draft.status_command}, and "
                "farlet's log"
            )
        return
    status, metadata = mirror.get("status") or {}, mirror["metadata"]
    shown["pod"] = clean(metadata["name"])
    home = facts.pod
    ours = isinstance(home, Absent | Unread) or predicates.is_mirror_of(
        home, mirror, virtual_node_id=facts.virtual_node_id
    )
    if not ours:
        shown["pod"] += ", which is not the mirror of this pod"
        draft.advise(Reason.NAME_CONFLICT)
        return
    mode = (metadata.get("annotations") or {}).get(ACCESS)
    if mode and mode != draft.home.get("access mode"):
        draft.home["access mode"] = clean(mode, most=80)
    shown["phase"] = drafts.joined(status.get("phase"), status.get("reason"))
    if status.get("message"):
        shown["message"] = clean(draft.at_home(status["message"]))
    if "deletionTimestamp" in metadata:
        shown["phase"] += f", being deleted since {draft.since(metadata['deletionTimestamp'])}"
    shown["node"] = clean(mirror["spec"].get("nodeName") or "none")
    scheduled = _by_type(status.get("conditions")).get(PodCondition.POD_SCHEDULED, {})
    if scheduled.get("status") == "False":
        shown["foreign scheduler"] = clean(draft.at_home(scheduled.get("message")))
        advice.append(
            "The scheduler of the foreign cluster finds no node for the mirror: its message is "
            "above. Add capacity there, or change the requests or constraints of the pod"
        )


def _containers(draft: Draft, pod: Pod) -> list[str]:
    """One line for each container, and what to do about those that do not run."""
    status = pod.get("status") or {}
    lines = []
    found: list[ContainerStatus] = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
        *(status.get("ephemeralContainerStatuses") or ()),
    ]
    for one in found[:CONTAINERS]:
        name = clean(one["name"], most=63)
        state = one.get("state") or {}
        last = one.get("lastState") or {}
        line = f"{name}: {_state(draft, state)}"
        if one["restartCount"]:
            line += f"; {one['restartCount']} restarts"
        if last:
            line += f"; before: {_state(draft, last)}"
        lines.append(f"{line}; image {clean(one['image'], most=200)}")
        _about_container(draft, name, state, last)
    if len(found) > CONTAINERS:
        lines.append(f"and {len(found) - CONTAINERS} more")
    return lines


def _state(draft: Draft, state: ContainerState) -> str:
    if running := state.get("running"):
        return f"running for {draft.since(running.get('startedAt'))}"
    if ended := state.get("terminated"):
        told = drafts.joined(ended.get("reason") or "ended", draft.at_home(ended.get("message")))
        return f"{told}, exit code {ended['exitCode']}, {draft.since(ended.get('finishedAt'))} ago"
    waiting = state.get("waiting") or {}
    message = draft.at_home(waiting.get("message"))
    return f"waiting, {drafts.joined(waiting.get('reason') or 'no reason', message)}"


def _about_container(draft: Draft, name: str, state: ContainerState, last: ContainerState) -> None:
    if text := _WAITING.get(str((state.get("waiting") or {}).get("reason"))):
        command = text.format(logs=_logs(draft, name))
        draft.advice.append(f"Container {name}: {command}")
    for one in (state.get("terminated"), last.get("terminated")):
        if one is not None and one.get("reason") == "OOMKilled":
            draft.advice.append(f"Container {name}: it used more memory than its limit; raise it.")
            return
    if (ended := state.get("terminated")) and ended["exitCode"]:
        draft.advice.append(
            f"Container {name}: it ended with exit code {ended['exitCode']}: {_logs(draft, name)}"
        )


def _logs(draft: Draft, container: str) -> str:
    key = draft.facts.key
    return f"{draft.kubectl} logs -n {key.namespace} {key.name} -c {container}"


def _unexplained(draft: Draft, pod: Pod) -> None:
    """A pod that does not run as it should, where nothing above says why."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    ready = _by_type(status.get("conditions")).get(PodCondition.READY, {})
    if draft.advice:
        return
    if phase == PodPhase.RUNNING and ready.get("status") == "False":
        why = drafts.joined(ready.get("reason"), draft.at_home(ready.get("message")))
        draft.advice.append(f"It runs and is not ready: {why}. See its containers and Events")
    elif phase not in {PodPhase.RUNNING, PodPhase.SUCCEEDED}:
        draft.advice.append(
            f"It is {clean(phase or 'unknown', most=40)}: see its message, containers and Events"
        )


# --- what it needs --------------------------------------------------------------------------------


def _needs(draft: Draft) -> tuple[Requirement, ...]:
    found = tuple(
        Requirement(one.kind, clean(one.name, most=253), one.state, clean(one.note))
        for one in draft.facts.requirements[:REQUIREMENTS]
    )
    draft.advice += [
        f"Create {one.kind} {one.name}: {one.note}" for one in found if one.state == "missing"
    ]
    return found


# --- Events ---------------------------------------------------------------------------------------


def _timeline(draft: Draft) -> tuple[list[Moment], int]:
    """Events of both clusters by time, the last ones, and how many are left out.

    Home Events that repeat a foreign one are left out where the foreign one was read.
    """
    facts = draft.facts
    found: list[tuple[float, Moment]] = []
    repeated: set[str] = set()
    foreign = facts.foreign_events
    if draft.read("foreign Events", foreign):
        for event in cast("Sequence[Event]", foreign):
            seen = mirror_event.summary(event)
            if seen is None:
                continue
            found.append(_moment(seen, "foreign", draft.at_home(seen.message)))
            if not isinstance(facts.pod, Absent | Unread):
                repeated.add(mirror_event.name(seen, mirror_event.home_pod(facts.pod)))
    home = facts.home_events
    if draft.read("home Events", home):
        for event in cast("Sequence[Event]", home):
            seen = mirror_event.summary(event)
            if seen is not None and event["metadata"]["name"] not in repeated:
                found.append(_moment(seen, "home", draft.named(seen.message)))
    found.sort(key=lambda one: one[0])
    omitted = max(len(found) - EVENTS, 0)
    return [moment for _, moment in found[omitted:]], omitted


def _moment(seen: mirror_event.Summary, cluster: str, text: str) -> tuple[float, Moment]:
    last = seen.last or seen.first or 0.0
    time = timestamps.rfc3339(last) if last else ""
    message = clean(text.removeprefix(mirror_event.PREFIX))
    return last, Moment(time, cluster, seen.type, seen.reason, message, seen.count)


def _past(draft: Draft, events: Sequence[Moment]) -> None:
    """What Events say about a pod that runs."""
    told = [one.reason for one in events if one.cluster == "home" and one.reason in _AFTER_START]
    for reason in dict.fromkeys(reversed(told)):
        draft.advise(Reason(reason))


def _by_type(conditions: Sequence[Condition | NodeConditionShape] | None) -> dict[str, JSON]:
    return {one["type"]: cast("JSON", one) for one in conditions or ()}
