"""Writes `docs/reference/`: flags, metrics and reasons, from the code that defines them.

`python -m farlet.reference [FOLDER]` writes the pages, with `--check` it only compares and
prints what is stale. Pages say of themselves that they are made, so nobody edits them.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from farlet import cli_options, reasons, settings
from farlet.settings import loading
from farlet.settings.loading import Group
from farlet.telemetry import metrics
from farlet.vocabulary import Reason

FOLDER = Path("docs/reference")

_MADE = "<!-- Made by `python -m farlet.reference`; change the code, not this page. -->\n\n"


def pages() -> dict[str, str]:
    """File name to content. Raises `KeyError` for a reason that has no text."""
    return {"flags.md": flags(), "metrics.md": catalogue(), "reasons.md": reason_guides()}


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
            default = cli_options.default_text(info)
            told = "needed" if info.is_required() else default if flag.default else f"`{default}`"
            rows.append(
                (
                    f"{names}{star}<br>`{loading.env_name(field)}`",
                    f"`{flag.metavar}`",
                    told if default or info.is_required() else "",
                    info.description or "",
                )
            )
        lines.append(f"## {group.value}\n")
        lines.append(_table(("Setting", "Value", "Default", "Meaning"), rows))
    return _MADE + "\n".join(lines)


def catalogue() -> str:
    """Every metric."""
    rows = [
        (f"`{row.name}`", row.kind.value, ", ".join(f"`{name}`" for name in row.labels), row.text)
        for row in sorted(metrics.CATALOGUE, key=lambda row: row.name)
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
        (f"`{reason.value}`", guide.meaning, guide.who.value, guide.cure)
        for reason, guide in ((reason, reasons.GUIDES[reason]) for reason in Reason)
    ]
    return (
        f"{_MADE}# Reasons\n\n"
        "A pod that waits, or that farlet ended, has one of these as `status.reason`, with a "
        "message that tells the case; notes about running pods are Events with these reasons. "
        "`kubectl describe pod` shows both.\n\n"
        + _table(("Reason", "What it means", "Who can cure it", "How"), rows)
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=FOLDER)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page is stale.")
def main(folder: Path, *, check: bool) -> None:
    """Write the reference pages to FOLDER, docs/reference unless given."""
    stale = False
    for name, wanted in pages().items():
        path = folder / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if not check:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
        elif found != wanted:
            stale = True
            difference = difflib.unified_diff(
                found.splitlines(keepends=True),
                wanted.splitlines(keepends=True),
                str(path),
                f"{path} as it should be",
            )
            click.echo("".join(difference), nl=False)
    if stale:
        click.echo("stale reference: run python -m farlet.reference", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
