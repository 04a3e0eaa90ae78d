"""Commands that show the state of both clusters: `farlet explain` and `farlet status`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from farlet import errors, names
from farlet.cli import json_output, settings_flags
from farlet.cli.settings_flags import SettingsCommand, settings_options
from farlet.client import lean_import
from farlet.constants import ObjectKey
from farlet.settings import ReadingSettings, StatusSettings, loading

if TYPE_CHECKING:
    from farlet.cli.status.facts import Report

_OUTPUT = click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)


_KINDS = ("pod", "pods", "po")


def _key(pod: str, namespace: str | None) -> ObjectKey:
    """As kubectl names a pod, or with its namespace before it. Raises `UsageError`."""
    first, slash, name = pod.partition("/")
    if not slash:
        first, name = "", pod
    elif first in _KINDS:
        first = ""
    if first and namespace not in (None, first):
        raise errors.UsageError(
            f"{pod!r} names the namespace {first}, and --namespace (-n) {namespace}: leave one out"
        )
    found = ObjectKey(first or namespace or "default", name)
    if not all(map(names.is_subdomain, found)):
        raise errors.UsageError(
            f"{pod!r} is not a pod; expected POD or NAMESPACE/POD, such as web -n shop, or shop/web"
        )
    return found


@settings_options(ReadingSettings)
@click.command(
    cls=SettingsCommand, short_help="Show why a pod waits, or what happened to it, and what to do."
)
@click.argument("pod", metavar="[NAMESPACE/]POD")
@click.option(
    "--namespace",
    "-n",
    help="Home namespace of the pod, if the argument has none. [default: default]",
)
@_OUTPUT
def explain(*, pod: str, namespace: str | None, output: str, **flags: object) -> None:
    """Show why a pod waits, or what happened to it, and what to do.

    Shows the pod, the objects that it needs, its mirror in the foreign cluster, its containers, and
    the Events of both clusters by time. Works with the credentials of an administrator and with
    those of farlet; the output names what they are not allowed to read. Without --foreign-context
    or --foreign-kubeconfig only the home cluster is read; another cluster than the one that the
    Node records is not read. Changes nothing. The exit code is 1 if the home cluster has no such
    pod.
    """
    key = _key(pod, namespace)
    wanted = loading.load(ReadingSettings, settings_flags.given(flags))
    lean_import.install()
    from farlet.cli.explain import reads, text

    found = reads.explain(wanted, key)
    click.echo(json_output.to_json(found) if output == "json" else text.to_text(found), nl=False)
    sys.exit(0 if found.found else 1)


@settings_options(StatusSettings)
@click.command(
    cls=SettingsCommand, short_help="Show virtual nodes, their pods, and what needs attention."
)
@_OUTPUT
@click.option("--watch", is_flag=True, help="Refresh every two seconds until Ctrl-C.")
def status(*, output: str, watch: bool, **flags: object) -> None:
    """Show virtual nodes, their leaders and pods, which pods wait and why, and what expires when.

    Reads Nodes, Leases, VirtualNodes, the manager, farlet's pods and their port 8081 in the home
    cluster, with the credentials of an administrator; the output names what they are not allowed to
    read. The exit code is 1 if a virtual node takes no pods, or not those of each namespace in use,
    or if there is none.
    """
    wanted = loading.load(StatusSettings, settings_flags.given(flags))
    if watch and (output == "json" or not sys.stdout.isatty()):
        raise errors.UsageError(
            "--watch writes only text, and only to a terminal: remove --watch, or use -o text and "
            "do not redirect the output"
        )
    lean_import.install()
    if watch:
        from rich.console import Console

        from farlet.cli.status import live

        asyncio.run(live.watch(wanted, Console(highlight=False)))
    from farlet.cli.status import reads, text

    async def once() -> Report:
        async with reads.connected(wanted) as home:
            return await reads.status(home, wanted)

    found = asyncio.run(once())
    click.echo(json_output.to_json(found) if output == "json" else text.to_text(found), nl=False)
    sys.exit(0 if found.ok else 1)


COMMANDS: tuple[click.Command, ...] = (explain, status)
