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
from pathlib import Path

import click

from farlet import access, errors, settings
from farlet.cli import manifest, options, render
from farlet.cli.options import SettingsCommand, settings_options
from farlet.client import lean_import
from farlet.context import Context, Verified
from farlet.settings import loading, values

SHOWN_VERSIONS = ("kopf", "kubernetes-asyncio", "aiohttp", "pydantic")


class Farlet(click.Group):
    """The group; turns foreseen errors into a line and an exit code for all its commands."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except errors.UsageError as err:
            _complain(err)
            ctx.exit(2)
        except (errors.StartError, errors.NotLeading) as err:
            _complain(err)
            ctx.exit(1)
        except errors.Refused as err:
            _complain(f"{err.reason}: {err.message}")
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(0)


def _namespace(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return values.dns_label(value)
    except ValueError as err:
        raise errors.UsageError(f"--namespace (-n): {err}") from err


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
    wanted = loading.load(settings.Settings, options.given(flags))
    for name in loading.strangers(settings.Settings, os.environ):
        click.echo(f"farlet: warning: no setting is called {name}; it is ignored", err=True)
    lean_import.install()
    from farlet import app

    sys.exit(app.run(wanted))


@settings_options(settings.Settings)
@cli.command(cls=SettingsCommand)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
def check(*, output: str, **flags: object) -> None:
    """Look at what farlet depends on, and say what to do where something is wrong.

    Both API servers, the address at which pods abroad reach home and the certificate there, the
    gateways. Changes no object. Give it the settings of the farlet in question. Exit code 1 if
    anything has failed; warnings do not count.
    """
    wanted = loading.load(settings.Settings, options.given(flags))
    lean_import.install()
    from farlet.cli import check

    try:
        findings = check.check(wanted)
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it; nothing was found out
    shown = check.to_json(findings) if output == "json" else check.table(findings)
    click.echo(shown, nl=False)
    sys.exit(0 if check.good(findings) else 1)


@settings_options(settings.GatewaySettings)
@cli.command(cls=SettingsCommand)
def gateway(**flags: object) -> None:
    """Carry connections of pods in this cluster to the home API server.

    Runs in the foreign cluster and has no right there. farlet connects to it from home, by the
    port-forward of the foreign API server; what pods send is neither read nor changed.
    """
    wanted = loading.load(settings.GatewaySettings, options.given(flags))
    from farlet.gateway import process

    sys.exit(process.run(wanted))


@cli.command("gateway-keys")
@click.argument("folder", type=click.Path(path_type=Path))
def gateway_keys(folder: Path) -> None:
    """Make keys by which farlet and a gateway know each other, in FOLDER/home and FOLDER/foreign.

    Each side gets a private key of its own and the public key of the other.
    """
    from farlet.gateway import keys

    for side, place in zip(("home", "foreign"), keys.write(folder), strict=True):
        click.echo(
            f"kubectl --context={side.upper()} create secret generic {keys.SECRET} "
            f"--namespace=farlet --from-file={place}"
        )


@settings_options(settings.MirrorSettings)
@cli.command("render", cls=SettingsCommand)
@click.option(
    "--filename",
    "-f",
    "source",
    metavar="FILE|-",
    required=True,
    help="The home Pod, YAML or JSON, as a bare manifest or as the API server returns it.",
)
@click.option(
    "--namespace",
    "-n",
    default="default",
    show_default=True,
    callback=_namespace,
    help="Home namespace of a Pod that names none.",
)
@click.option("--output", "-o", type=click.Choice(["yaml", "json"]), help="[default: yaml]")
@click.option("--diff", is_flag=True, help="Print what differs from the home Pod instead.")
@click.option("--explain", is_flag=True, help="Print a line per change, with its reason, instead.")
def render_(
    *,
    source: str,
    namespace: str,
    output: str | None,
    diff: bool,
    explain: bool,
    **flags: object,
) -> None:
    """Print the foreign objects that a home Pod would give, without asking any cluster.

    What only a running farlet can know prints as <resolved at run time>, tokens as <redacted>.
    Give this command the settings of the farlet in question: it reads the same variables and
    the same file. A Pod that farlet would refuse gives exit code 1 and the message that its
    status would hold.
    """
    if output is not None and (diff or explain):
        raise errors.UsageError(
            "--output is for the objects; leave it out with --diff or --explain"
        )
    wanted = loading.load(settings.MirrorSettings, options.given(flags))
    pod = manifest.read(_text_of(source), source="standard input" if source == "-" else source)
    rendered = render.render(
        pod,
        namespace=namespace,
        strategies=access.load_strategies(),
        ctx=_offline_context(wanted),
    )
    if explain:
        click.echo(render.explain(rendered), nl=False)
    if diff:
        click.echo(render.diff(rendered), nl=False)
    if not (explain or diff):
        click.echo(
            render.to_json(rendered) if output == "json" else render.to_yaml(rendered), nl=False
        )


@cli.command("access-modes")
def access_modes() -> None:
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


def _text_of(source: str) -> str:
    try:
        with click.open_file(source, encoding="utf-8") as file:
            text: str = file.read()
    except OSError as err:
        raise errors.UsageError(
            f"--filename (-f): {source} cannot be read: {err.strerror}"
        ) from err
    except UnicodeDecodeError as err:
        raise errors.UsageError(f"--filename (-f): {source} is no UTF-8 text: {err}") from err
    return text


def _offline_context(wanted: settings.MirrorSettings) -> Context:
    ca_file = wanted.home_api_server_ca_file
    return wanted.context(
        node=wanted.nodename or manifest.RESOLVED,
        home_id=wanted.home_id or manifest.RESOLVED,
        home_api=Verified(
            render.endpoint(wanted.home_api_server_host, wanted.home_api_server_port)
        ),
        home_ca=ca_file.read_text(encoding="utf-8") if ca_file else manifest.RESOLVED,
    )


def _complain(err: Exception | str) -> None:
    """One line on stderr, whatever the parser or library behind it wrote."""
    click.echo(f"farlet: {' '.join(str(err).split())}", err=True)


def main() -> None:
    """The console script."""
    cli(prog_name="farlet")
