"""Writes `docs/reference/`, and the roles and the dashboard in `manifests/`, from code.

`python -m reference.pages [ROOT]` writes the files, with `--check` it only compares and
prints what is stale. They say of themselves that they are made, so nobody edits them.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from farlet import rbac, reasons, roles, settings
from farlet.cli import options
from farlet.constants import Reason
from farlet.settings import loading
from farlet.settings.loading import Group
from farlet.telemetry import catalogue
from reference import dashboard

FOLDER = Path("docs/reference")

_MADE = "<!-- Made by `python -m reference.pages`; change the code, not this page. -->\n\n"


def files() -> dict[str, str]:
    """Path below the repository's root to content. Raises `KeyError` for a reason without text."""
    pages = {
        "flags.md": flags(),
        "metrics.md": metrics(),
        "reasons.md": reason_guides(),
        "rbac.md": rights_on_each_side(),
    }
    made = {str(FOLDER / name): text for name, text in pages.items()}
    return made | dict(roles.files()) | {dashboard.PATH: dashboard.text()}


def flags() -> str:
    """Every setting, group by group."""
    intro = (
        "Each is a flag of `farlet run`, an environment variable, and a key of the file that "
        "`--config` names (the flag without the dashes in front). The flag wins over the "
        "variable, the variable over the file. Under `kopf run operator/main.py` there are no "
        "flags. Those marked * shape mirrors and are flags of `farlet render` too.\n"
    )
    lines = ["# Settings\n", intro]
    fields = settings.Settings.model_fields
    for group in Group:
        rows = []
        for field, info in fields.items():
            flag = loading.flag_of(info)
            if flag.group is not group:
                continue
            star = "*" if field in settings.MirrorSettings.model_fields else ""
            names = ", ".join(f"`{n}`" for n in (loading.flag_name(field), *flag.aliases))
            default = options.default_text(info)
            told = "needed" if info.is_required() else default if flag.default else f"`{default}`"
            rows.append(
                (
                    f"{names}{star}<br>`{loading.env_name(field)}`",
                    f"`{flag.metavar}`",
                    told if default or info.is_required() else "",
                    info.description or "",
                )
            )
        if not rows:  # the settings of another command
            continue
        lines.append(f"## {group.value}\n")
        lines.append(_table(("Setting", "Value", "Default", "Meaning"), rows))
    return _MADE + "\n".join(lines)


def metrics() -> str:
    """Every metric."""
    rows = [
        (f"`{row.name}`", row.kind.value, ", ".join(f"`{name}`" for name in row.labels), row.text)
        for row in sorted(catalogue.CATALOGUE, key=lambda row: row.name)
    ]
    return (
        f"{_MADE}# Metrics\n\n"
        "Served at `/metrics` on `--metrics-bind-address`. `cluster` is `home` or `foreign`; no "
        "label holds the name of a pod. Beside these stand the `process_*` metrics that every "
        "Prometheus client has.\n\n" + _table(("Metric", "Type", "Labels", "Meaning"), rows)
    )


def reason_guides() -> str:
    """Every reason."""
    rows = [
        (f"`{reason.value}`", guide.meaning, guide.who.value, guide.fix)
        for reason, guide in ((reason, reasons.GUIDES[reason]) for reason in Reason)
    ]
    return (
        f"{_MADE}# Reasons\n\n"
        "A pod that waits, or that farlet ended, has one of these as `status.reason`, with a "
        "message that tells the case; notes about running pods are Events with these reasons. "
        "`kubectl describe pod` shows both.\n\n"
        + _table(("Reason", "What it means", "Who can fix it", "How"), rows)
    )


def rights_on_each_side() -> str:
    """Every right, and what comes with those of a ServiceAccount."""
    lines = ["# Rights\n", _RIGHTS_INTRO]
    for side, heading in ((rbac.Side.HOME, "At home"), (rbac.Side.FOREIGN, "Abroad")):
        rows = []
        for right in rbac.TABLE:
            if right.side is not side:
                continue
            group = f" ({right.group})" if right.group else ""
            name = f" `{right.name}`" if right.name else ""
            who = "" if right.who is rbac.Identity.ANYBODY else f"as a {right.who.value}"
            rows.append(
                (
                    right.place.value,
                    f"`{right.resource}`{name}{group}",
                    ", ".join(right.verbs),
                    right.why,
                    " ".join(part for part in (right.needs, who) if part) or "always",
                )
            )
        lines.append(f"## {heading}\n")
        lines.append(_table(("Where", "What", "Verbs", "Why", "When"), rows))
    return _MADE + "\n".join([*lines, _RIGHTS_OF_AN_ACCOUNT])


_RIGHTS_INTRO = """\
All that farlet asks of the two API servers; a test compares this page with their audit logs.
`NODE` is the name of the virtual node. Paths without an object are open to every authenticated
user.

Abroad, farlet is whoever its kubeconfig says, and `manifests/foreign/` grants all of this to the
ServiceAccount `farlet` there. At home it is a node or a ServiceAccount. To the user
`system:node:NODE` in the group `system:nodes` the API server gives all of this by itself, and of
pods, tokens, Nodes and Leases only those of this node. Prefer it. The one exception is the
ConfigMap in `kube-system`, which `manifests/home/node-identity/` grants.
"""

_RIGHTS_OF_AN_ACCOUNT = """\
## A ServiceAccount may more than a node

`manifests/home/service-account/` grants the above, and no more can be taken away: RBAC knows a
resource, a verb and a name, not the node that a pod is bound to. So whoever holds this
ServiceAccount's token, unlike a node,

* reads every pod of the home cluster, environment variables in its spec included;
* in the namespaces where `farlet-pods` is bound: gets tokens of **every** ServiceAccount, bound
  to no pod if it likes, and so has all that those accounts may; deletes and evicts every pod;
  sets the status of every pod, and with it who receives the traffic of Services;
* registers Nodes of any name, and heartbeats for them (it may change only its own);
* asks for certificates of any kind; granting them is another right.

Tokens are what weighs most. Bind `farlet-pods` with a RoleBinding in each namespace whose pods
run abroad. A ClusterRoleBinding would reach the accounts in `kube-system`, some of which are
administrators in most clusters.
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)


@click.command()
@click.argument("root", type=click.Path(path_type=Path), default=Path())
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file is stale.")
def main(root: Path, *, check: bool) -> None:
    """Write the files that are made from code below ROOT, the current folder unless given."""
    stale: list[str] = []
    for name, wanted in files().items():
        path = root / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
        elif found != wanted:
            stale.append(str(path))
            difference = difflib.unified_diff(
                found.splitlines(keepends=True),
                wanted.splitlines(keepends=True),
                str(path),
                f"{path} as it should be",
            )
            click.echo("".join(difference), nl=False)
    if stale:
        click.echo(f"stale, run `make generate`: {', '.join(stale)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
