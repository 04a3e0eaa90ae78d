"""What `farlet status` says: pure, from what was read of the home cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farlet import errors
from farlet.cli import new_pods
from farlet.cli.reading import Absent, Unread, age, clean
from farlet.cli.status import own_pods
from farlet.cli.status.causes import Causes
from farlet.cli.status.facts import Facts, NodeReport, Process, Report, Waiting
from farlet.constants import JSON, NodeCondition, PodCondition
from farlet.forge import node_health, timestamps
from farlet.k8s_types import Lease, Node, Pod
from farlet.manager import findings
from farlet.manager.conditions import MAX_MESSAGE, NOT_APPLIED, ConditionType
from farlet.manager.findings import QUIET, Reason
from farlet.manager.virtual_node import foreign_secret
from farlet.telemetry.state import Expiry, NamespaceState, State

NODES = 50
PROCESSES = 20
WAITING = 10
NAMESPACES = 30
REASONS = 20
STALE_SECONDS = 60.0
"""A leader renews its Lease every few seconds."""


def report(facts: Facts, now: float) -> Report:
    """`now`: epoch seconds."""
    not_read: list[str] = []
    nodes = _list(not_read, "Nodes", facts.nodes)
    processes = _list(not_read, f"farlet pods in {facts.namespace}", facts.processes)
    virtual_nodes = _list(not_read, "VirtualNodes", facts.virtual_nodes)
    declared = {str(one["metadata"]["name"]): one for one in virtual_nodes}
    by_name = {one["metadata"]["name"]: one for one in nodes}
    shown = sorted({*by_name, *declared})[:NODES]
    found = tuple(
        _node(name, by_name.get(name), declared.get(name), processes, facts, now) for name in shown
    )
    if len({*by_name, *declared}) > NODES:
        not_read.append(f"{len({*by_name, *declared}) - NODES} further virtual nodes")
    if isinstance(facts.manager.deployment, Unread):
        not_read.append(f"the Deployment of the manager: {facts.manager.deployment.why}")
    return Report(
        ok=bool(found) and all(one.ready for one in found),
        installed=not isinstance(facts.virtual_nodes, Absent),
        manager_problems=own_pods.manager_problems(facts),
        nodes=found,
        not_read=tuple(not_read),
    )


def _list(not_read: list[str], what: str, value: Sequence[object] | Absent | Unread) -> list:  # type: ignore[type-arg]
    if isinstance(value, Unread):
        not_read.append(f"{what}: {value.why}")
    return [] if isinstance(value, Absent | Unread) else list(value)


def _node(
    name: str,
    node: Node | None,
    declared: JSON | None,
    processes: Sequence[Process],
    facts: Facts,
    now: float,
) -> NodeReport:
    own = [one for one in processes if _serves(one, name)][:PROCESSES]
    states = {one.pod["metadata"]["name"]: one.state for one in own if isinstance(one.state, State)}
    leading = next((state for state in states.values() if state.leader), None)
    not_read = [
        f"state of {one.pod['metadata']['name']}: {one.state.why}"
        for one in own
        if isinstance(one.state, Unread) and not own_pods.problem(one.pod)
    ]
    leader, renewed = _leader(facts.leases.get(name), not_read, now)
    if leading is None and not not_read:
        not_read.append(
            f"what the leader knows (pods, namespaces, expiry): no pod in the namespace "
            f"{facts.namespace} leads"
        )
    words = _Words(foreign_secret(declared or {"metadata": {"name": name}}))
    causes = _causes(node, declared, own, leading, words)
    if renewed is not None and renewed > STALE_SECONDS:
        causes.add("Lease", f"no farlet has renewed the Lease for {age(renewed)}")
    message = _not_ready(node, declared, causes, words)
    expires = _expiry([state.expires for state in states.values()], now)
    return NodeReport(
        name=name,
        ready=not message,
        message=message,
        leader=leader,
        renewed_seconds=renewed,
        processes={
            pod: clean(f"{state.phase}, {state.version}", most=80) for pod, state in states.items()
        },
        foreign=_foreign(leading),
        home_api=_home_api(leading, causes),
        pods=None if leading is None else _counts(leading.pods),
        waiting={} if leading is None else _numbers(leading.waiting),
        waiting_pods=_waiting(facts.waiting.get(name), leading, causes, words, not_read, now),
        namespaces=_namespaces(leading),
        expires_seconds=expires,
        renewed=tuple(kind for kind in expires if _is_renewed(kind, declared)),
        problems=causes.problems(),
        not_read=tuple(not_read),
    )


_OF_FARLET = frozenset({"serving certificate", "pod token"})
"""What farlet itself renews. The manager renews the credentials for both clusters, but not foreign
ones of every kind."""
_FOREIGN = "foreign credentials"


def _is_renewed(kind: str, declared: JSON | None) -> bool:
    """farlet renews what expires, or a manager that reports no problem with the credentials."""
    if kind in _OF_FARLET:
        return True
    conditions = ((declared or {}).get("status") or {}).get("conditions") or ()
    reasons = {
        one.get("reason")
        for one in conditions
        if one.get("type") == ConditionType.CREDENTIALS_VALID
    }
    return Reason.VALID in reasons or (Reason.NOT_RENEWED in reasons and kind != _FOREIGN)


def _is_problem(condition: JSON) -> bool:
    """Whether a condition of a VirtualNode is not as it should be, or is a warning."""
    reason = condition.get("reason")
    warns = condition.get("type") == ConditionType.CREDENTIALS_VALID and reason not in QUIET
    return condition.get("status") != "True" or reason in NOT_APPLIED or warns


def _serves(process: Process, name: str) -> bool:
    if isinstance(process.state, State):
        return process.state.node == name
    labels = process.pod["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/instance", name) == name


@dataclass(frozen=True, slots=True)
class _Words:
    """Texts of farlet and of the manager, clean, with the name of the Secret that farlet lacks."""

    foreign_secret: str

    def __call__(self, text: object) -> str:
        named = errors.with_secret(str(text), "foreign", self.foreign_secret)
        return clean(named, most=MAX_MESSAGE)


def _causes(
    node: Node | None,
    declared: JSON | None,
    own: Sequence[Process],
    leading: State | None,
    words: _Words,
) -> Causes:
    """What farlet, its Node and its VirtualNode report, whose conditions can join causes."""
    causes = Causes()
    for process in own:
        pod = clean(process.pod["metadata"]["name"], most=253)
        if why := own_pods.problem(process.pod):
            causes.add(pod, words(why))
        if isinstance(process.state, State):
            for check, text in list(process.state.problems.items())[:REASONS]:
                causes.add(f"{pod} ({clean(check, most=80)})", words(text))
    if leading is not None and leading.foreign.problem is not None:
        causes.add("foreign cluster", words(leading.foreign.problem))
    for kind in (NodeCondition.FOREIGN_REACHABLE, NodeCondition.HOME_API_REACHABLE):
        condition = None if node is None else node_health.condition(node, kind)
        if condition is not None and condition["status"] == "False":
            reason = clean(condition.get("reason", ""), most=80)
            causes.add(f"Node {kind}=False ({reason})", words(condition.get("message", "")))
    for found in ((declared or {}).get("status") or {}).get("conditions") or ():
        if _is_problem(found):
            message = findings.problems(str(found.get("message", "")))
            causes.add(f"VirtualNode {_shown(found)}", words(message))
    for namespace in () if leading is None else leading.namespaces:
        if namespace.problem is not None:
            causes.add(f"namespace {clean(namespace.home, most=80)}", words(namespace.problem))
    return causes


def _shown(condition: JSON) -> str:
    kind, status, reason = (
        clean(condition.get(field, ""), most=80) for field in ("type", "status", "reason")
    )
    return f"{kind}={status} ({reason})"


def _not_ready(node: Node | None, declared: JSON | None, causes: Causes, words: _Words) -> str:
    """Why the node takes no new pods; empty: it does. Causes that are shown are not repeated."""
    if node is None:
        return "the Node does not exist"
    found = []
    for one in new_pods.obstacles(node):
        cause = words(one.cause)
        if one.what == new_pods.NOT_READY and not causes.contain(cause):
            found.append(cause)
        else:
            found.append(f"{one.what}. {one.fix}" if one.fix else one.what)
    found += [
        f"the VirtualNode has {_shown(one)}"
        for one in ((declared or {}).get("status") or {}).get("conditions") or ()
        if one.get("type") == ConditionType.READY and one.get("status") == "False"
    ]
    return "; ".join(found)


def _leader(
    lease: Lease | Absent | Unread | None, not_read: list[str], now: float
) -> tuple[str, float | None]:
    if isinstance(lease, Unread):
        not_read.append(f"the Lease: {lease.why}")
    if lease is None or isinstance(lease, Absent | Unread):
        return "", None
    spec = lease.get("spec") or {}
    holder = clean(spec.get("holderIdentity") or "", most=300)
    renewed = timestamps.epoch(spec.get("renewTime"))
    host = holder.rpartition("_")[0] or holder  # HOSTNAME_UUID of an election, NODE@HOST without
    return host, None if renewed is None else max(now - renewed, 0.0)


def _foreign(state: State | None) -> str:
    if state is None:
        return "unknown"
    found = state.foreign
    where = clean(found.server or "no address", most=300)
    reason = f" ({clean(found.reason, most=80)})" if found.reason else ""
    return f"{where}, {'reachable' if found.reachable else f'not reachable{reason}'}"


def _home_api(state: State | None, causes: Causes) -> str:
    if state is None:
        return "unknown"
    found = state.home_api
    told = found.message is None or causes.contain(clean(found.message, most=MAX_MESSAGE))
    parts = (found.endpoint, found.reason, None if told else found.message)
    return clean(" ".join([found.state, *(f"{part}" for part in parts if part)]))


def _counts(pods: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {
        clean(mode, most=80): _numbers(phases) for mode, phases in sorted(pods.items())[:REASONS]
    }


def _numbers(found: Mapping[str, int]) -> dict[str, int]:
    ordered = sorted(found.items(), key=lambda one: -one[1])[:REASONS]
    return {clean(name, most=80): number for name, number in ordered if number}


def _waiting(
    pods: Sequence[Pod] | Absent | Unread | None,
    leading: State | None,
    causes: Causes,
    words: _Words,
    not_read: list[str],
    now: float,
) -> tuple[Waiting, ...]:
    """The pods that have waited longest."""
    if isinstance(pods, Unread):
        not_read.append(f"pods that wait: {pods.why}")
    if pods is None or isinstance(pods, Absent | Unread):
        return ()
    ordered = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    namespaces = {} if leading is None else {one.home: one for one in leading.namespaces}
    return tuple(_waits(pod, namespaces, causes, words, now) for pod in ordered[:WAITING])


def _waits(
    pod: Pod,
    namespaces: Mapping[str, NamespaceState],
    causes: Causes,
    words: _Words,
    now: float,
) -> Waiting:
    """A pod without a reason waits for the reason of its namespace, which farlet reports there
    where it is not allowed to write the status of pods."""
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    reason, message = _reason(pod)
    if not reason and (namespace := namespaces.get(metadata["namespace"])) is not None:
        reason, message = namespace.reason, namespace.problem
    if not reason and not message:
        message = f"see farlet explain {name}"
    told = words(message or "")
    created = timestamps.epoch(metadata.get("creationTimestamp"))
    return Waiting(
        pod=clean(name, most=320),
        reason=clean(reason or "no reason on the pod", most=80),
        message="" if causes.contain(told) else told,
        age=age(None if created is None else now - created),
    )


def _reason(pod: Pod) -> tuple[str | None, str | None]:
    """Why a pod waits, as it shows it itself: reason and message."""
    status = pod.get("status") or {}
    if reason := status.get("reason"):
        return reason, status.get("message")
    for one in status.get("conditions") or ():
        if one["type"] == PodCondition.POD_SCHEDULED and one.get("status") == "False":
            return one.get("reason"), one.get("message")
    states = (one.get("state") or {} for one in status.get("containerStatuses") or ())
    waiting = next((one["waiting"] for one in states if one.get("waiting")), {})
    return waiting.get("reason"), waiting.get("message")


def _namespaces(state: State | None) -> tuple[str, ...]:
    if state is None:
        return ()
    lines = [
        clean(f"{one.home} -> {one.foreign or 'none'}{', pods wait' if one.problem else ''}")
        for one in state.namespaces[:NAMESPACES]
    ]
    if len(state.namespaces) > NAMESPACES:
        lines.append(f"and {len(state.namespaces) - NAMESPACES} more")
    return tuple(lines)


def _expiry(found: Sequence[Expiry], now: float) -> dict[str, float]:
    """For each kind of credentials, when the first of all processes expires."""
    first: dict[str, float] = {}
    for one in found:
        for kind, moment in one.model_dump().items():
            if moment is not None:
                remaining = round(moment - now, 1)
                first[kind] = min(first.get(kind, remaining), remaining)
    return {kind.replace("_", " "): remaining for kind, remaining in first.items()}
