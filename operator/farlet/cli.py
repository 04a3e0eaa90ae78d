"""The command `farlet`: reads the command line, calls, prints, and picks the exit code.

0 is success, an orderly stop by SIGTERM or Ctrl-C too; 1 is failure, a pod that is refused too;
2 is wrong usage. An error that farlet foresaw is one line on stderr, never a traceback. What a
command does stands elsewhere, imported only when it runs, so that `render` loads no client.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import click

from farlet import access, cli_options, errors, loading, settings
from farlet.cli_options import SettingsCommand, settings_options

SHOWN_VERSIONS = ("kopf", "kubernetes-asyncio", "aiohttp", "pydantic")


class Farlet(click.Group):
    """The group; turns foreseen errors into a line and an exit code for all its commands."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except errors.UsageError as err:
            click.echo(f"farlet: {err}", err=True)
            ctx.exit(2)
        except (errors.StartError, errors.Refused) as err:
            click.echo(f"farlet: {err}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(0)


@click.group(
    cls=Farlet,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """A foreign Kubernetes cluster as a node of the home cluster.

    Settings come from flags, else from environment variables (FARLET_ and the name of the flag
    in capitals), else from the file of --config.
    """


@settings_options(settings.Settings)
@cli.command(cls=SettingsCommand)
def run(**flags: object) -> None:
    """Serve one virtual node until told to stop.

    Needs the credentials of both clusters. SIGTERM and Ctrl-C end it in order, with exit code 0;
    mirrors stay and are taken up again by the next run.
    """
    wanted = loading.load(settings.Settings, cli_options.given(flags))
    for name in loading.strangers(settings.Settings, os.environ):
        click.echo(f"farlet: warning: no setting is called {name}; it is ignored", err=True)
    from farlet import app

    sys.exit(app.run(wanted))


@cli.command()
def strategies() -> None:
    """List the ways in which a pod may reach an API, and the package each comes from."""
    found = access.load_strategies()
    origins = {
        entry.name: entry.dist.name if entry.dist else entry.module
        for entry in metadata.entry_points(group=access.ENTRY_POINTS)
    }
    rows = [("NAME", "PACKAGE", "SUMMARY")]
    rows += [(name, origins[name], found[name].summary) for name in sorted(found)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, origin, summary in rows:
        click.echo(f"{name:<{widths[0]}}  {origin:<{widths[1]}}  {summary}")


@cli.command()
def version() -> None:
    """Print the versions of farlet, Python and the libraries that talk to clusters."""
    click.echo(f"farlet {metadata.version('farlet')}")
    click.echo(f"Python {platform.python_version()}")
    for name in SHOWN_VERSIONS:
        click.echo(f"{name} {metadata.version(name)}")


def main() -> None:
    """The console script."""
    cli(prog_name="farlet")
