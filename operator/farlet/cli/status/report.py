"""What `farlet status` says: pure, from what was read of the home cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from farlet.cli.reading import Absent, Unread, age, clean
from farlet.cli.status.facts import Facts, NodeReport, Process, Report, Waiting
from farlet.constants import JSON, NodeCondition, PodCondition
from farlet.forge import timestamps
from farlet.k8s_types import Lease, Node, Pod
from farlet.manager.conditions import NOT_APPLIED, ConditionType
from farlet.manager.findings import QUIET, Reason
from farlet.telemetry.state import Expiry, State

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
    ok = bool(found) and all(one.ready for one in found)
    return Report(ok, not isinstance(facts.virtual_nodes, Absent), found, tuple(not_read))


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
        if isinstance(one.state, Unread)
    ]
    ready, message, problems = _conditions(node, declared)
    problems += [
        f"{pod}: {clean(check, most=80)}: {clean(text)}"
        for pod, state in states.items()
        for check, text in list(state.problems.items())[:REASONS]
    ]
    leader, renewed = _leader(facts.leases.get(name), not_read, now)
    if renewed is not None and renewed > STALE_SECONDS:
        problems.append(f"no farlet has renewed the Lease for {age(renewed)}")
    if leading is None and not not_read:
        not_read.append(
            f"what the leader knows (pods, namespaces, expiry): no pod in the namespace "
            f"{facts.namespace} leads"
        )
    expires = _expiry([state.expires for state in states.values()], now)
    return NodeReport(
        name=name,
        ready=ready,
        message=message,
        leader=leader,
        renewed_seconds=renewed,
        processes={
            pod: clean(f"{state.phase}, {state.version}", most=80) for pod, state in states.items()
        },
        foreign=_foreign(leading),
        home_api=_home_api(leading),
        pods=None if leading is None else _counts(leading.pods),
        waiting={} if leading is None else _numbers(leading.waiting),
        waiting_pods=_waiting(facts.waiting.get(name), not_read, now),
        namespaces=_namespaces(leading),
        expires_seconds=expires,
        renewed=tuple(kind for kind in expires if _is_renewed(kind, declared)),
        problems=tuple(dict.fromkeys(problems)),
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


def _conditions(node: Node | None, declared: JSON | None) -> tuple[bool, str, list[str]]:
    """Whether the node is ready; why not; conditions of Node and VirtualNode that are not true."""
    found: dict[str, JSON] = {}
    if node is not None:
        found = {
            str(one["type"]): cast("JSON", one)
            for one in (node.get("status") or {}).get("conditions") or ()
        }
    problems = [
        f"{kind}: {clean(found[kind].get('message', ''))}"
        for kind in (NodeCondition.FOREIGN_REACHABLE, NodeCondition.HOME_API_REACHABLE)
        if found.get(kind, {}).get("status") == "False"
    ]
    if node is not None and (node.get("spec") or {}).get("unschedulable"):
        problems.append("the Node is cordoned")
    for one in ((declared or {}).get("status") or {}).get("conditions") or ():
        if _is_problem(one):
            what = clean(one.get("type"), most=80)
            told = clean(f"{one.get('reason', '')}: {one.get('message', '')}")
            problems.append(f"VirtualNode {what}={clean(one.get('status'), most=20)}: {told}")
    ready = found.get(NodeCondition.READY, {})
    if node is None:
        return False, "the Node does not exist", problems
    if ready.get("status") == "True":
        return True, "", problems
    return False, clean(ready.get("message") or "no farlet has reported yet"), problems


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
    problem = "" if found.problem is None else f": {clean(found.problem)}"
    return f"{where}, {'reachable' if found.reachable else 'not reachable'}{problem}"


def _home_api(state: State | None) -> str:
    if state is None:
        return "unknown"
    found = state.home_api
    parts = (found.endpoint, found.reason, found.message)
    return clean(" ".join([found.state, *(f"{part}" for part in parts if part)]))


def _counts(pods: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {
        clean(mode, most=80): _numbers(phases) for mode, phases in sorted(pods.items())[:REASONS]
    }


def _numbers(found: Mapping[str, int]) -> dict[str, int]:
    ordered = sorted(found.items(), key=lambda one: -one[1])[:REASONS]
    return {clean(name, most=80): number for name, number in ordered if number}


def _waiting(
    pods: Sequence[Pod] | Absent | Unread | None, not_read: list[str], now: float
) -> tuple[Waiting, ...]:
    """The pods that have waited longest."""
    if isinstance(pods, Unread):
        not_read.append(f"pods that wait: {pods.why}")
    if pods is None or isinstance(pods, Absent | Unread):
        return ()
    ordered = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    return tuple(_waits(pod, now) for pod in ordered[:WAITING])


def _waits(pod: Pod, now: float) -> Waiting:
    status, metadata = pod.get("status") or {}, pod["metadata"]
    reason, message = status.get("reason"), status.get("message")
    if not reason:
        for one in status.get("conditions") or ():
            if one["type"] == PodCondition.POD_SCHEDULED and one.get("status") == "False":
                reason, message = one.get("reason"), one.get("message")
    if not reason:
        states = (one.get("state") or {} for one in status.get("containerStatuses") or ())
        waiting = next((one["waiting"] for one in states if one.get("waiting")), {})
        reason, message = waiting.get("reason"), waiting.get("message")
    created = timestamps.epoch(metadata.get("creationTimestamp"))
    name = f"{metadata['namespace']}/{metadata['name']}"
    return Waiting(
        pod=clean(name, most=320),
        reason=clean(reason or "no reason on the pod", most=80),
        message=clean(message or ("" if reason else f"see farlet explain {name}"), most=400),
        age=age(None if created is None else now - created),
    )


def _namespaces(state: State | None) -> tuple[str, ...]:
    if state is None:
        return ()
    lines = [
        clean(f"{one.home} -> {one.foreign}{f': {one.problem}' if one.problem else ''}")
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
