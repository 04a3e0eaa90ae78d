"""The command `farlet`: parse the command line, call, print, choose the exit code.

Exit codes: 0 for success, also after SIGTERM or Ctrl-C; 1 for failure, also for a pod that farlet
refuses; 2 for wrong usage. Expected errors are one line on stderr, never a traceback. Each command
imports its module when it runs, so that `render` loads no client.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import click

from farlet import access, errors, redaction, settings
from farlet.cli import connect, disconnect, inspecting, manifest, render, settings_flags
from farlet.cli.reading import printable
from farlet.cli.settings_flags import SettingsCommand, settings_options
from farlet.client import lean_import
from farlet.context import Context, Verified
from farlet.settings import loading, values

SHOWN_VERSIONS = ("kopf", "kubernetes-asyncio", "aiohttp", "pydantic")


class Farlet(click.Group):
    """The command group: prints expected errors and sets the exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except errors.UsageError as err:
            _print_error(err)
            ctx.exit(2)
        except (errors.StartError, errors.NotLeading) as err:
            _print_error(err)
            ctx.exit(1)
        except errors.Refused as err:
            _print_error(f"{err.reason}: {err.message}")
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(0)


def _namespace(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return values.dns_label(value)
    except ValueError as err:
        raise errors.UsageError(f"--namespace (-n): {err}") from err


def _namespaces(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_namespace(ctx, param, one) for one in value))


@click.group(
    cls=Farlet,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="farlet", prog_name="farlet", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A foreign Kubernetes cluster as a node of the home cluster.

    Settings come from flags, then from environment variables (FARLET_ and the name of the flag
    in capitals), then from the --config file.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


@settings_options(settings.Settings)
@cli.command(cls=SettingsCommand, short_help="Run one virtual node.")
def run(**flags: object) -> None:
    """Run one virtual node until SIGTERM or Ctrl-C.

    Requires credentials of both clusters. After SIGTERM or Ctrl-C farlet exits with code 0. Mirror
    pods keep running, and the next run continues with them.
    """
    wanted = loading.load(settings.Settings, settings_flags.given(flags))
    lean_import.install()
    from farlet import app

    sys.exit(app.run(wanted))


@settings_options(settings.Settings)
@cli.command(cls=SettingsCommand, short_help="Check prerequisites and print fixes.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--namespace",
    "-n",
    "offloaded",
    multiple=True,
    callback=_namespaces,
    help="Home namespace whose pods should run in the foreign cluster. Repeatable.",
)
def check(*, output: str, offloaded: tuple[str, ...], **flags: object) -> None:
    """Check prerequisites and print fixes.

    Checks both API servers and farlet's identity and permissions there, that the foreign cluster is
    the recorded one, the capacity, the Node, the serving certificate, the address and certificate
    at which pods reach the home API server, the gateways, and the namespaces that --namespace
    names. With the contexts of an administrator, the farlet that serves the node is checked: the
    permissions of its identity in both clusters, its foreign token, its pods, and the conditions of
    its VirtualNode. Changes no object. Settings that you omit come from the VirtualNode of that
    name, if there is one. Otherwise, give the settings of the farlet that you want to check. The
    exit code is 1 if a check failed and 0 otherwise, also with warnings.
    """
    lean_import.install()
    from farlet.cli import check
    from farlet.cli.checks import declared

    try:
        wanted = declared.settings(settings_flags.given(flags))
        findings = check.check(wanted, offloaded)
    except KeyboardInterrupt:
        sys.exit(130)  # as shells do after SIGINT
    shown = check.to_json(findings) if output == "json" else check.table(findings)
    click.echo(shown, nl=False)
    sys.exit(0 if check.good(findings) else 1)


@settings_options(settings.ManagerSettings)
@cli.command(cls=SettingsCommand, short_help="Run one farlet for each VirtualNode.")
def manager(**flags: object) -> None:
    """Run one farlet for each VirtualNode of a namespace, until SIGTERM or Ctrl-C.

    Creates a Deployment for each VirtualNode, renews its credentials and reports its state. When
    the manager ends, farlets keep serving their nodes.
    """
    wanted = loading.load(settings.ManagerSettings, settings_flags.given(flags))
    lean_import.install()
    from farlet.manager import process

    sys.exit(process.run(wanted))


@settings_options(settings.GatewaySettings)
@cli.command(cls=SettingsCommand, short_help="Run a gateway in the foreign cluster.")
def gateway(**flags: object) -> None:
    """Forward connections of pods in this cluster to the home API server.

    Runs in the foreign cluster without any permission there. farlet connects to it from the home
    cluster through a port-forward of the foreign API server. TLS of pods passes through unchanged.
    """
    wanted = loading.load(settings.GatewaySettings, settings_flags.given(flags))
    from farlet.gateway import process

    sys.exit(process.run(wanted))


@cli.command("gateway-keys", short_help="Create the keys of farlet and a gateway.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--nodename",
    "--node",
    metavar="NODE",
    default="NODE",
    help="Name of the virtual node. The printed command uses it in the name of the home Secret.",
)
@click.option(
    "--foreign-system-namespace",
    metavar="NAME",
    default="farlet",
    show_default=True,
    callback=_namespace,
    help="Namespace of the gateway in the foreign cluster. The printed command uses it.",
)
def gateway_keys(directory: Path, nodename: str, foreign_system_namespace: str) -> None:
    """Create the keys with which farlet and a gateway authenticate each other.

    DIR/home and DIR/foreign each get a private key and the public key of the other side. Prints
    the commands that create the Secrets.
    """
    from farlet.gateway import keys

    places = keys.write(directory)
    for side, place, secret, namespace in (
        ("HOME", places.home, f"farlet-{nodename}-gateway", "farlet"),
        ("FOREIGN", places.foreign, keys.SECRET, foreign_system_namespace),
    ):
        click.echo(
            f"kubectl --context {side} create secret generic {secret} "
            f"--namespace={namespace} --from-file={place}"
        )


@settings_options(settings.MirrorSettings)
@cli.command(
    "render",
    cls=SettingsCommand,
    short_help="Print the foreign objects for a home Pod, without a cluster.",
)
@click.option(
    "--filename",
    "-f",
    "source",
    metavar="FILE|-",
    required=True,
    help="Home Pod as YAML or JSON: a manifest, or the Pod as the API server returns it. For a "
    "Deployment, StatefulSet, DaemonSet, Job or CronJob, farlet uses the Pod from its template.",
)
@click.option(
    "--namespace",
    "-n",
    default="default",
    show_default=True,
    callback=_namespace,
    help="Home namespace of a Pod without metadata.namespace.",
)
@click.option("--output", "-o", type=click.Choice(["yaml", "json"]), help="[default: yaml]")
@click.option("--diff", is_flag=True, help="Print the differences from the home Pod instead.")
@click.option(
    "--explain", is_flag=True, help="Print one line for each change, with its reason, instead."
)
def render_(
    *,
    source: str,
    namespace: str,
    output: str | None,
    diff: bool,
    explain: bool,
    **flags: object,
) -> None:
    """Print the foreign objects that farlet would create for a home Pod, without a cluster.

    Values that only a running farlet knows print as <resolved at run time>, tokens as <redacted>.
    Use the settings of your farlet: this command reads the same variables and the same file. If
    farlet would refuse the Pod, the exit code is 1 and the error is the message that the status of
    the Pod would have.
    """
    if output is not None and (diff or explain):
        raise errors.UsageError(
            "--output formats the objects; remove it, or remove --diff and --explain"
        )
    wanted = loading.load(settings.MirrorSettings, settings_flags.given(flags))
    name = "standard input" if source == "-" else source
    pod = manifest.read(_text_of(source), source=name)
    strategies, ctx = access.load_strategies(), _offline_context(wanted)
    shown = []
    with manifest.trusted(pod, source=name):
        rendered = render.render(pod, namespace=namespace, strategies=strategies, ctx=ctx)
        if explain:
            shown.append(render.explain(rendered))
        if diff:
            shown.append(render.diff(rendered))
        if not (explain or diff):
            shown.append(render.to_json(rendered) if output == "json" else render.to_yaml(rendered))
    click.echo("".join(shown), nl=False)


for command in (connect.connect, disconnect.disconnect, *inspecting.COMMANDS):
    cli.add_command(command)


@cli.command("access-modes", short_help="List the access modes of pods.")
def access_modes() -> None:
    """List the access modes of pods, and the Python package that provides each."""
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


@cli.command(short_help="Print the versions of farlet and its libraries.")
def version() -> None:
    """Print the versions of farlet, Python and its client libraries."""
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
        raise errors.UsageError(f"--filename (-f): {source} is not valid UTF-8: {err}") from err
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


def _print_error(err: Exception | str) -> None:
    """Print one line on stderr, even if a library's message has several."""
    click.echo(f"farlet: {printable(redaction.redact(str(err)))}", err=True)


def main() -> None:
    """Also the plugin of kubectl, which starts `kubectl-farlet` for `kubectl farlet`."""
    plugin = Path(sys.argv[0]).name.startswith("kubectl-")
    cli(prog_name="kubectl farlet" if plugin else "farlet", complete_var="_FARLET_COMPLETE")
