"""`farlet connect`: the command line; `farlet.install.connect` has the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from farlet import errors
from farlet.cli import commands
from farlet.forge import capacity
from farlet.settings import node_values, values

if TYPE_CHECKING:
    from farlet.constants import JSON
    from farlet.install import stored

Validate = Callable[[object], object]


def checked(validate: Validate) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that validates an option, or each of its values. Raises `UsageError`."""

    def callback(_ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(dict.fromkeys(validate(one) for one in value))
            return None if value is None else validate(value)
        except ValueError as err:
            raise errors.UsageError(f"{param.opts[0]}: {err}") from err

    return callback


def node_name(value: object) -> str:
    """The name of a VirtualNode."""
    from farlet.manager.virtual_node import LONGEST_NAME, MANAGER, object_name

    name = values.dns_label(value)
    if object_name(name) == MANAGER:
        raise ValueError(f"{name!r} is the name of the manager's own objects; choose another one")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{name!r} has more than {LONGEST_NAME} characters")
    return name


node_option = click.option(
    "--node",
    metavar="NAME",
    required=True,
    callback=checked(node_name),
    help="Name of the virtual node.",
)


def amounts(value: object) -> tuple[tuple[str, str], ...]:
    """Resources and quantities, such as cpu=8,memory=32Gi,pods=110; empty for the sum."""
    if value == "sum":
        return ()
    found = tuple(node_values.quantity(one) for one in values.several(value))
    missing = [name for name in capacity.REQUIRED if name not in dict(found)]
    if missing:
        raise ValueError(
            f"it does not contain {', '.join(missing)}; set cpu, memory and pods, such as "
            "cpu=8,memory=32Gi,pods=110"
        )
    return found


def cluster_options(command: click.Command) -> click.Command:
    """The administrator's access to both clusters."""
    options = [
        click.Option(
            [f"--{side}-{what}"],
            metavar=metavar,
            help=f"{text} of the {side} cluster, with an administrator's credentials. "
            f"[default: {default}]",
        )
        for side in ("home", "foreign")
        for what, metavar, text, default in (
            ("context", "NAME", "Context", "the current one"),
            ("kubeconfig", "FILE", "Kubeconfig", "$KUBECONFIG, or ~/.kube/config"),
        )
    ]
    command.params = [*options, *command.params]
    return command


@cluster_options
@click.command(short_help="Install a virtual node in two clusters.")
@node_option
@click.option(
    "--image",
    metavar="IMAGE",
    default="",
    help="Image of farlet that both clusters can pull. [default: the installed one]",
)
@click.option(
    "--namespace",
    "-n",
    "namespaces",
    metavar="NAME",
    multiple=True,
    callback=checked(values.dns_label),
    help="Home namespace whose pods should run in the foreign cluster. Repeatable.",
)
@click.option(
    "--foreign-server",
    metavar="URL",
    help="Address at which pods of the home cluster reach the foreign API server. [default: that "
    "of the last run, or of the kubeconfig]",
)
@click.option(
    "--capacity",
    metavar="NAME=QUANTITY,...",
    callback=checked(amounts),
    help="Capacity of the node, or sum: the sum over the foreign nodes. [default: that of the last "
    "run, or sum]",
)
@click.option(
    "--identity",
    type=click.Choice(["node", "service-account"]),
    help="Identity of farlet in the home cluster. [default: that of the last run, or node]",
)
@click.option(
    "--home-api-server-host",
    metavar="HOST",
    callback=checked(values.host),
    help="Address at which foreign pods reach the home API server. [default: that of the last "
    "run, or a gateway]",
)
@click.option(
    "--home-api-server-port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Port at which foreign pods reach the home API server.",
)
@click.option(
    "--gateway",
    is_flag=True,
    help="Let foreign pods reach the home API server through a gateway, also if the last run set "
    "an address.",
)
@click.option(
    "--home-name",
    metavar="NAME",
    callback=checked(values.dns_label),
    help="Name of the home cluster in the names of foreign namespaces. Each home cluster that uses "
    "the same foreign cluster needs its own. [default: that of the last run, or home]",
)
@click.option(
    "--foreign-system-namespace",
    metavar="NAME",
    help="farlet's namespace in the foreign cluster. [default: that of the last run, or "
    "farlet-NODE]",
)
@click.option(
    "--dry-run",
    type=click.Choice(["both", "home", "foreign"]),
    is_flag=False,
    flag_value="both",
    help="Print the objects of both clusters, or of one, as YAML; contact no cluster.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    default="5m",
    show_default=True,
    callback=checked(values.duration),
    help="How long the manager, and then the node, may take to become ready.",
)
def connect(**flags: Any) -> None:
    """Install a virtual node: farlet in the home cluster, its permissions and a gateway in the
    foreign one.

    Needs an administrator's access to both. Every step can be repeated: after an error or an
    interruption, the same command continues. A later run keeps what it is not told to change.
    docs/connect.md lists what each step creates.
    """
    from farlet.install import stored

    address = flags["home_api_server_host"] or flags["home_api_server_port"]
    if flags["gateway"] and address is not None:
        raise errors.UsageError("--gateway and --home-api-server-* exclude each other; set one")
    given = stored.Given(
        home_name=flags["home_name"],
        foreign_system=flags["foreign_system_namespace"],
        capacity=flags["capacity"],
        identity=stored.IDENTITIES.get(flags["identity"]),
        home_api_host=flags["home_api_server_host"],
        home_api_port=flags["home_api_server_port"],
        gateway=flags["gateway"],
    )
    if flags["dry_run"] is not None:
        from farlet.install import checks, dry_run

        connection = _wanted(flags, given, None).connection
        if not connection.image:
            raise errors.UsageError("--image is required with --dry-run")
        server = flags["foreign_server"] and checks.foreign_server(flags["foreign_server"])
        side = dry_run.Side(flags["dry_run"])
        click.echo(dry_run.text(connection, side, server=server), nl=False)
        return
    from farlet.cli import access

    work = _connect(given, flags)
    access.run(work, "Interrupted. Run the same command again: it continues where it stopped")


def _wanted(flags: dict[str, Any], given: stored.Given, found: JSON | None) -> stored.Kept:
    from farlet.install import stored

    return stored.connection(flags["node"], flags["image"], flags["namespaces"], given, found)


async def _connect(given: stored.Given, flags: dict[str, Any]) -> None:
    from farlet.cli import access
    from farlet.install import stored
    from farlet.install.connect import Connect

    sides = access.given(flags)
    with commands.placing(*sides):
        async with access.clusters(flags) as (home, foreign):
            assert home is not None
            assert foreign is not None
            found, url = await stored.read(home, flags["node"])
            kept = _wanted(flags, given, found)
            server = await access.foreign_server(foreign, flags["foreign_server"] or url)
            unnamed = list(kept.flags)
            if url is not None and flags["foreign_server"] is None:
                unnamed.insert(0, f"--foreign-server {server.url}")
            if unnamed:
                click.echo(f"keeps, from the last run: {', '.join(unnamed)}")
            work = Connect(
                kept.connection,
                home,
                foreign,
                server=server,
                unreached=access.unreached,
                report=lambda line: click.echo(commands.placed(line, *sides)),
                seconds=flags["timeout"],
            )
            await work.run()
    print_next(flags["node"], work.offloaded, *sides)


def print_next(
    node: str,
    namespaces: tuple[str, ...],
    home: commands.Connection,
    foreign: commands.Connection,
) -> None:
    """The commands for a first pod, and those that show what becomes of it."""
    if not namespaces:
        click.echo(
            "\nNo namespace is offloaded yet. To offload one:\n\n  farlet connect"
            f"{home.flags}{foreign.flags} --node {node} --namespace NAME"
        )
        return
    kubectl, namespace = home.kubectl, namespaces[0]
    spec = (
        f'{{"spec":{{"nodeSelector":{{"kubernetes.io/hostname":"{node}"}},'
        '"tolerations":[{"key":"farlet.io/virtual-node","operator":"Exists"}]}}'
    )
    click.echo(
        f"\nRun a first pod in the foreign cluster:\n\n  {kubectl} run hello -n {namespace} "
        f"--image=nginx --overrides='{spec}'\n  {kubectl} get pod hello -n {namespace} -o wide"
        f"\n\nIf something is not as expected:\n\n  farlet status{home.flags}"
        f"\n  farlet explain {namespace}/hello{home.flags}{foreign.flags}"
    )
