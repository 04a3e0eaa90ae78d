"""Flags generated from the fields of the settings, so that each setting is defined once.

click only splits the command line. The settings receive each value as a string and validate it,
whether it came from a flag, a variable or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import click
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from farlet.settings import loading
from farlet.settings.loading import Group


class SettingOption(click.Option):
    """An option that help shows under the heading of its group; `--help` only if it is common."""

    def __init__(self, field: str, info: FieldInfo) -> None:
        flag = loading.flag_of(info)
        switch: dict[str, Any] = {}
        if info.annotation is bool:  # --flag, or --flag=false
            switch = {"is_flag": False, "flag_value": "true"}
        super().__init__(
            [loading.flag_name(field), *flag.aliases, field],
            metavar=flag.metavar,
            multiple=flag.many,
            **switch,
            help=f"{info.description} {remarks(field, info)}",
        )
        self.group = flag.group
        self.common = flag.common or info.is_required()


class SettingsCommand(click.Command):
    """A command whose help groups its options: `--help` the common ones, `--help-all` all."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With `--help-all` before `--help`."""
        *own, help_option = super().get_params(ctx)
        return [*own, _HELP_ALL, help_option]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options of the command, then those of settings in the order of `Group`."""
        sections: dict[str, list[tuple[str, str]]] = {_OWN: [], **{str(one): [] for one in Group}}
        every = ctx.meta.get(_EVERY, False)
        for param in self.get_params(ctx):
            if isinstance(param, click.Argument):
                continue
            if isinstance(param, SettingOption) and not (every or param.common):
                continue
            record = param.get_help_record(ctx)
            heading = param.group.value if isinstance(param, SettingOption) else _OWN
            if record is not None:
                sections[heading].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _help_all(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_EVERY] = True
        click.echo(ctx.get_help())
        ctx.exit()


_OWN = "Options"
_EVERY = f"{__name__}.every"
_HELP_ALL = click.Option(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_help_all,
    help="Show all flags and exit; --help shows the common ones.",
)


def settings_options(
    kind: type[BaseSettings],
) -> Callable[[click.Command], click.Command]:
    """Add one option per field of `kind` to a command."""

    def decorate(command: click.Command) -> click.Command:
        own = [SettingOption(field, info) for field, info in kind.model_fields.items()]
        command.params = [*own, *command.params]
        return command

    return decorate


def given(values: Mapping[str, object]) -> dict[str, object]:
    """The flags that the command line contains, of all that click passes."""
    return {field: value for field, value in values.items() if value not in (None, ())}


def default_text(info: FieldInfo) -> str:
    """The default as a user writes it, or the text for it; empty without a default."""
    flag = loading.flag_of(info)
    value: object = info.default
    if flag.default or info.is_required() or value is None:
        return flag.default
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def remarks(field: str, info: FieldInfo) -> str:
    """`[env: ...; default: ...]` as `--help` shows it."""
    default = default_text(info)
    required = "; required" if info.is_required() else ""
    return f"[env: {loading.env_name(field)}{required}{f'; default: {default}' if default else ''}]"
