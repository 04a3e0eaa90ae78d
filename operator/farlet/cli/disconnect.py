"""`farlet disconnect`: the command line; `farlet.install.disconnect` has the steps."""

from __future__ import annotations

from typing import Any

import click

from farlet import errors
from farlet.cli import commands
from farlet.cli.connect import checked, cluster_options, node_option
from farlet.settings import values


@cluster_options
@click.command(short_help="Remove a virtual node from both clusters.")
@node_option
@click.option(
    "--home-only",
    is_flag=True,
    help="The foreign cluster is gone: remove what the home cluster has. Pods of the node are "
    "deleted without waiting for their containers.",
)
@click.option(
    "--foreign-only",
    is_flag=True,
    help="The home cluster is gone: remove what the foreign cluster has, mirror pods included.",
)
@click.option(
    "--keep-volumes",
    is_flag=True,
    help="Keep foreign claims with data of home pods, and their namespaces.",
)
@click.option("--delete-volumes", is_flag=True, help="Delete these claims with their data.")
@click.option(
    "--force",
    is_flag=True,
    help="Also delete pods without a controller, which nothing recreates.",
)
@click.option(
    "--foreign-system-namespace",
    metavar="NAME",
    help="farlet's namespace in the foreign cluster. [default: that of the VirtualNode, or "
    "farlet-NODE]",
)
@click.option(
    "--home-id",
    metavar="ID",
    help="Id of a home cluster that is gone, if the foreign cluster has not recorded it.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    default="5m",
    show_default=True,
    callback=checked(values.duration),
    help="How long the pods of the node may take to end.",
)
def disconnect(**flags: Any) -> None:
    """Remove a virtual node from both clusters: its pods are evicted, and everything that farlet
    connect and farlet created is deleted.

    With the last virtual node, the manager is removed, too. Every step can be repeated: after an
    error or an interruption, the same command continues. Prints what remains, and why.
    """
    from farlet.cli import access

    for one, other in (("home_only", "foreign_only"), ("keep_volumes", "delete_volumes")):
        if flags[one] and flags[other]:
            names = [f"--{flag.replace('_', '-')}" for flag in (one, other)]
            raise errors.UsageError(f"{names[0]} and {names[1]} exclude each other; set one")
    access.run(
        _disconnect(flags),
        "Interrupted. Run the same command again: it continues where it stopped",
    )


async def _disconnect(flags: dict[str, Any]) -> None:
    from farlet.cli import access
    from farlet.install.disconnect import Disconnect
    from farlet.install.home_data import Volumes

    volumes = Volumes.REFUSE
    if flags["keep_volumes"]:
        volumes = Volumes.KEEP
    if flags["delete_volumes"]:
        volumes = Volumes.DELETE
    sides = access.given(flags)
    with commands.placing(*sides):
        async with access.clusters(
            flags, home=not flags["foreign_only"], foreign=not flags["home_only"]
        ) as (home, foreign):
            work = Disconnect(
                flags["node"],
                home,
                foreign,
                system=flags["foreign_system_namespace"],
                home_id=flags["home_id"],
                volumes=volumes,
                force=flags["force"],
                report=lambda line: click.echo(commands.placed(line, *sides)),
                seconds=flags["timeout"],
            )
            await work.run()
    if work.left:
        click.echo("\nWhat remains:")
        for one in work.left:
            click.echo(f"  {commands.placed(one, *sides)}")
