"""The answer of `farlet status` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click

from farlet.cli.reading import age
from farlet.cli.status.facts import NodeReport, Report

SOON_SECONDS = 48 * 3600.0
"""Credentials that expire earlier, and are not renewed every hour, are coloured."""

_EVERY_HOUR = "pod token"


def to_text(found: Report) -> str:
    """A paragraph for each virtual node; what needs attention is coloured."""
    return "".join(f"{line}\n" for line in _lines(found))


def _lines(found: Report) -> Iterator[str]:
    for problem in found.manager_problems:
        yield f"{click.style('Manager', fg='red')}: {problem}"
    if not found.nodes and not found.not_read:
        yield (
            "No virtual nodes of farlet in this cluster. To create one, or to continue where "
            "farlet connect stopped: run it again with the same flags"
            if found.installed
            else "No virtual nodes: farlet is not installed in this cluster, which has no "
            "definition of VirtualNode. To install it: farlet connect --help"
        )
    for index, node in enumerate(found.nodes):
        if index:
            yield ""
        yield from _node(node)
    for line in found.not_read:
        yield f"Not read: {line}"


def _node(node: NodeReport) -> Iterator[str]:
    yield f"Virtual node {node.name}: {_headline(node)}"
    rows = [("foreign cluster", node.foreign), ("home API", node.home_api), *_processes(node)]
    if node.pods is not None:
        rows += [("pods", _pods(node))]
    rows += [("namespace", one) for one in node.namespaces]
    rows += [("expires", one) for one in _expiry(node)]
    rows += [("waits", f"{reason}: {number}") for reason, number in node.waiting.items()]
    for label, value in rows:
        yield f"  {label:<15}  {value}"
    for pod in node.waiting_pods:
        told = f": {pod.message}" if pod.message else ""
        yield f"    {pod.pod}  {pod.age}  {click.style(pod.reason, fg='yellow')}{told}"
    for problem in node.problems:
        yield f"  {click.style('problem', fg='red')}          {problem.cause}"
        if problem.affects:
            yield f"    affects        {', '.join(problem.affects)}"
    for line in node.not_read:
        yield f"  not read         {line}"


def _headline(node: NodeReport) -> str:
    blocked = f"pods of {', '.join(node.blocked)} cannot run" if node.blocked else ""
    if not node.ready:
        return f"{click.style('not ready', fg='red')}: {node.message}"
    ready = click.style("ready", fg="green")
    return f"{ready}, but {click.style(blocked, fg='red')}" if blocked else ready


def _processes(node: NodeReport) -> Iterator[tuple[str, str]]:
    parts = [node.leader or "none"]
    if node.renewed_seconds is not None:
        lease = "renewed" if node.leader else "Lease renewed"
        parts.append(f"{lease} {age(node.renewed_seconds)} ago")
    yield "leader", ", ".join(parts)
    for pod, state in node.processes.items():
        yield "process", f"{pod}: {state}"


def _pods(node: NodeReport) -> str:
    modes = (
        f"{mode}: {', '.join(f'{number} {phase}' for phase, number in phases.items())}"
        for mode, phases in (node.pods or {}).items()
    )
    return "; ".join(modes) or "none"


def _expiry(node: NodeReport) -> Iterator[str]:
    for kind, seconds in node.expires_seconds.items():
        if kind in node.rejected:
            yield click.style(f"{kind}: the API server does not accept them", fg="red")
            continue
        text = f"{kind} in {age(seconds)}" if seconds > 0 else f"{kind} has expired"
        if seconds > 0 and kind in node.renewed:
            text += ", renewed automatically"
        soon = seconds < (0 if kind == _EVERY_HOUR else SOON_SECONDS)
        yield click.style(text, fg="yellow") if soon else text
