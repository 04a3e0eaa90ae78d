"""What `farlet status` says: pure, from what was read of the home cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from farlet import constants, errors
from farlet.cli import commands, new_pods, serving
from farlet.cli.commands import Connection
from farlet.cli.reading import Absent, Unread, age, clean
from farlet.cli.status import deployments, readiness
from farlet.cli.status.causes import Causes
from farlet.cli.status.facts import Facts, NodeReport, Process, Report, Waiting
from farlet.constants import JSON, NodeCondition, PodCondition
from farlet.forge import node_health, timestamps
from farlet.k8s_types import Node, Pod
from farlet.manager import findings
from farlet.manager.conditions import MAX_MESSAGE, ConditionType
from farlet.manager.findings import Reason
from farlet.manager.virtual_node import foreign_secret
from farlet.telemetry.state import Expiry, NamespaceState, State

NODES = 50
PROCESSES = 20
WAITING = 10
NAMESPACES = 30
REASONS = 20


def report(facts: Facts, now: float, home: Connection) -> Report:
    """`now`: epoch seconds. `home`: for commands in the answer."""
    not_read: list[str] = []
    nodes = _list(not_read, "Nodes", facts.nodes)
    processes = _list(not_read, f"farlet pods in {facts.namespace}", facts.processes)
    virtual_nodes = _list(not_read, "VirtualNodes", facts.virtual_nodes)
    _list(not_read, f"Deployments in {facts.namespace}", facts.deployments)
    declared = {str(one["metadata"]["name"]): one for one in virtual_nodes}
    by_name = {one["metadata"]["name"]: one for one in nodes}
    shown = sorted({*by_name, *declared})[:NODES]
    found = tuple(
        _node(name, by_name.get(name), declared.get(name), processes, facts, now, home)
        for name in shown
    )
    if len({*by_name, *declared}) > NODES:
        not_read.append(f"{len({*by_name, *declared}) - NODES} further virtual nodes")
    if isinstance(facts.manager.deployment, Unread):
        not_read.append(f"the Deployment of the manager: {facts.manager.deployment.why}")
    return Report(
        ok=bool(found) and all(one.ready and not one.blocked for one in found),
        installed=not isinstance(facts.virtual_nodes, Absent),
        manager_problems=deployments.manager_problems(facts, home.kubectl),
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
    home: Connection,
) -> NodeReport:
    own = [one for one in processes if _serves(one, name)][:PROCESSES]
    states = {one.pod["metadata"]["name"]: one.state for one in own if isinstance(one.state, State)}
    leader, leading = _leading(states)
    not_read = [
        f"state of {one.pod['metadata']['name']}: {one.state.why}"
        for one in own
        if isinstance(one.state, Unread) and not deployments.problem(one.pod, home.kubectl)
    ]
    lease = facts.leases.get(name)
    if isinstance(lease, Unread):
        not_read.append(f"the Lease: {lease.why}")
    unserved = serving.unserved(lease, now) if leading is None else ""
    if leading is None and not unserved and not not_read:
        not_read.append(
            f"what the leader knows (pods, namespaces, expiry): no pod in the namespace "
            f"{facts.namespace} leads"
        )
    words = _Words(foreign_secret(declared or {"metadata": {"name": name}}), home)
    manager_runs = not deployments.manager_problems(facts, home.kubectl)
    causes = _causes(node, declared, own, leading, words, manager_runs=manager_runs)
    found = []
    if unserved:
        why = deployments.stopped(name, facts, declared=declared is not None, kubectl=home.kubectl)
        found.append(f"{unserved}; {why}" if why else unserved)
    elif leading is not None and (why := readiness.of_leader(leader, leading)):
        found.append(clean(why))
    found += _closed(node, declared, leading, causes, words, unserved=unserved)
    expires = _expiry([state.expires for state in states.values()], now)
    return NodeReport(
        name=name,
        ready=not found,
        message="; ".join(found),
        leader="" if unserved else serving.holder(lease),
        renewed_seconds=serving.renewed_seconds(lease, now),
        processes={
            pod: clean(f"{state.phase}, {state.version}", most=80) for pod, state in states.items()
        },
        foreign=_foreign(leading),
        home_api=_home_api(leading, causes),
        pods=None if leading is None else _counts(leading.pods),
        waiting={} if leading is None else _numbers(leading.waiting),
        waiting_pods=_waiting(
            facts.waiting.get(name), leading, causes, words, not_read, now, unserved=bool(unserved)
        ),
        namespaces=_namespaces(leading),
        blocked=_blocked(leading),
        expires_seconds=expires,
        renewed=tuple(
            kind for kind in expires if _is_renewed(kind, declared, manager_runs=manager_runs)
        ),
        rejected=_rejected(states.values()),
        problems=causes.problems(),
        not_read=tuple(not_read),
    )


def _leading(states: Mapping[str, State]) -> tuple[str, State | None]:
    """The process that leads, and its pod. Of two during a handover, as the manager chooses it."""
    leaders = [(pod, state) for pod, state in states.items() if state.leader]
    return min(leaders, key=lambda one: len(one[1].problems), default=("", None))


_POD_TOKEN = "pod token"  # noqa: S105
_SERVING = "serving certificate"
_FOREIGN = "foreign credentials"


def _is_renewed(kind: str, declared: JSON | None, *, manager_runs: bool) -> bool:
    """farlet renews tokens of pods, and its serving certificate, which the manager of a VirtualNode
    has to approve. The manager renews the credentials for both clusters, but not foreign ones of
    every kind, and reports problems with them."""
    if kind == _POD_TOKEN or declared is None or not manager_runs:
        return kind == _POD_TOKEN or (kind == _SERVING and declared is None)
    conditions = (declared.get("status") or {}).get("conditions") or ()
    reasons = {
        one.get("reason")
        for one in conditions
        if one.get("type") == ConditionType.CREDENTIALS_VALID
    }
    renewed = Reason.VALID in reasons or (Reason.NOT_RENEWED in reasons and kind != _FOREIGN)
    return kind == _SERVING or renewed


def _rejected(states: Iterable[State]) -> tuple[str, ...]:
    unauthorized = constants.Reason.FOREIGN_UNAUTHORIZED
    return (_FOREIGN,) if any(one.foreign.reason == unauthorized for one in states) else ()


def _serves(process: Process, name: str) -> bool:
    if isinstance(process.state, State):
        return process.state.node == name
    labels = process.pod["metadata"].get("labels") or {}
    return labels.get("app.kubernetes.io/instance", name) == name


@dataclass(frozen=True, slots=True)
class _Words:
    """Texts of farlet and of the manager, clean, with what these do not know: the name of the
    Secret, and the context of the reader."""

    foreign_secret: str
    home: Connection

    def __call__(self, text: object) -> str:
        named = errors.with_secret(str(text), "foreign", self.foreign_secret)
        return clean(commands.completed(named, self.home, _NO_FOREIGN), most=MAX_MESSAGE)


_NO_FOREIGN = Connection("foreign", None, None)
"""`farlet status` reads the home cluster only."""


def _causes(
    node: Node | None,
    declared: JSON | None,
    own: Sequence[Process],
    leading: State | None,
    words: _Words,
    *,
    manager_runs: bool,
) -> Causes:
    """What farlet, its Node and its VirtualNode report, whose conditions can join causes."""
    causes = Causes()
    for process in own:
        pod = clean(process.pod["metadata"]["name"], most=253)
        if why := deployments.problem(process.pod, words.home.kubectl):
            causes.add(pod, words(why))
        if isinstance(process.state, State):
            for check, text in list(readiness.problems(process.state).items())[:REASONS]:
                causes.add(f"{pod} ({clean(check, most=80)})", words(text))
    if leading is not None and leading.foreign.problem is not None:
        causes.add("foreign cluster", words(leading.foreign.problem))
    for kind in (NodeCondition.FOREIGN_REACHABLE, NodeCondition.HOME_API_REACHABLE):
        condition = None if node is None else node_health.condition(node, kind)
        if readiness.is_over(kind, leading):
            continue
        if condition is not None and condition["status"] == "False":
            reason = clean(condition.get("reason", ""), most=80)
            causes.add(f"Node {kind}=False ({reason})", words(condition.get("message", "")))
    old = "" if manager_runs else ", reported before the manager stopped"
    for found in readiness.wrong(declared, leading):
        message = findings.problems(str(found.get("message", "")))
        causes.add(f"VirtualNode {_shown(found)}{old}", words(message))
    for namespace in () if leading is None else leading.namespaces:
        if namespace.problem is not None:
            causes.add(f"namespace {clean(namespace.home, most=80)}", words(namespace.problem))
    return causes


def _shown(condition: JSON) -> str:
    kind, status, reason = (
        clean(condition.get(field, ""), most=80) for field in ("type", "status", "reason")
    )
    return f"{kind}={status} ({reason})"


def _closed(
    node: Node | None,
    declared: JSON | None,
    leading: State | None,
    causes: Causes,
    words: _Words,
    *,
    unserved: str,
) -> list[str]:
    """Why the node takes no new pods; causes that are shown are not repeated."""
    found = []
    for one in readiness.obstacles(node, kubectl=words.home.kubectl, unserved=unserved):
        cause = words(one.cause)
        if one.what == new_pods.NOT_READY and not causes.contain(cause):
            found.append(cause)
        else:
            found.append(f"{one.what}. {one.fix}" if one.fix else one.what)
    if leading is None and not unserved and node is not None:
        found += [
            f"the VirtualNode has {_shown(one)}"
            for one in readiness.wrong(declared, leading)
            if one.get("type") == ConditionType.READY and one.get("status") == "False"
        ]
    return found


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
    *,
    unserved: bool,
) -> tuple[Waiting, ...]:
    """The pods that have waited longest."""
    if isinstance(pods, Unread):
        not_read.append(f"pods that wait: {pods.why}")
    if pods is None or isinstance(pods, Absent | Unread):
        return ()
    ordered = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    namespaces = {} if leading is None else {one.home: one for one in leading.namespaces}
    return tuple(
        _waits(pod, namespaces, causes, words, now, unserved=unserved) for pod in ordered[:WAITING]
    )


def _waits(
    pod: Pod,
    namespaces: Mapping[str, NamespaceState],
    causes: Causes,
    words: _Words,
    now: float,
    *,
    unserved: bool,
) -> Waiting:
    """A pod without a reason waits for the reason of its namespace, which farlet reports there
    where it is not allowed to write the status of pods."""
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    reason, message = _reason(pod)
    namespace = namespaces.get(metadata["namespace"])
    if namespace is not None and reason in (None, namespace.reason):
        reason, message = namespace.reason, namespace.problem
    if not reason and not message:
        message = (
            "no farlet serves its node"
            if unserved
            else f"see farlet explain {name}{words.home.flags}"
        )
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


def _blocked(state: State | None) -> tuple[str, ...]:
    found = () if state is None else state.namespaces
    return tuple(clean(one.home, most=80) for one in found if one.problem)[:NAMESPACES]


def _expiry(found: Sequence[Expiry], now: float) -> dict[str, float]:
    """For each kind of credentials, when the first of all processes expires."""
    first: dict[str, float] = {}
    for one in found:
        for kind, moment in one.model_dump().items():
            if moment is not None:
                remaining = round(moment - now, 1)
                first[kind] = min(first.get(kind, remaining), remaining)
    return {kind.replace("_", " "): remaining for kind, remaining in first.items()}
