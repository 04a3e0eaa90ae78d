"""Load settings from flags, environment and file, and report invalid ones by flag and variable.

This module sees fields only through pydantic; the other files of this package define them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from farlet.errors import UsageError
from farlet.settings import values, yaml_files

ENV_PREFIX = "FARLET_"

_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Variables that a kubelet adds for a Service named `farlet` (`GetServiceEnvVarMap`)."""


class Group(StrEnum):
    """Headings of `--help`."""

    CLUSTERS = "Clusters"
    NAMESPACES = "Namespaces"
    ACCESS = "API access of pods"
    GATEWAY = "Gateway"
    PODS = "Pods"
    NODE = "Virtual node"
    KUBELET = "Kubelet API"
    LEADER = "Leader election"
    PROCESS = "Process"


@dataclass(frozen=True, slots=True)
class Flag:
    """The command-line form of a field, kept among its annotations."""

    group: Group
    metavar: str
    aliases: tuple[str, ...] = ()
    many: bool = False
    default: str = ""
    """The text shown for the default where the value alone does not explain it."""
    common: bool = False
    """`--help` shows the settings that most users need; `--help-all` shows all."""


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load(kind: type[AnySettings], flags: Mapping[str, object]) -> AnySettings:
    """Settings from flags (field name to raw value, without unset ones), environment and file.

    Raises `UsageError` with one line that names each invalid setting by flag and variable.
    """
    try:
        return kind(**cast("dict[str, Any]", flags))
    except ValidationError as err:
        complaints = (
            _complaint(kind, e["loc"], type_=e["type"], message=_message(e), given=e["input"])
            for e in err.errors(include_url=False)
            # A default that depends on an invalid setting: the error for that one is enough.
            if e["type"] != "default_factory_not_called"
        )
        # A list with two errors and a union report the same error more than once.
        raise UsageError("; ".join(dict.fromkeys(complaints))) from err


def flag_name(field: str) -> str:
    """`--home-name` of `home_name`."""
    return "--" + field.replace("_", "-")


def env_name(field: str) -> str:
    """`FARLET_HOME_NAME` of `home_name`."""
    return ENV_PREFIX + field.upper()


def flag_of(info: FieldInfo) -> Flag:
    """The command-line form of a field."""
    return next(m for m in info.metadata if isinstance(m, Flag))


def unknown_variables(kind: type[BaseSettings], environ: Iterable[str]) -> Mapping[str, str | None]:
    """`FARLET_*` variables that no setting reads, each with the setting that is probably meant.

    They are not an error, since kubelets and other tools define such variables as well.
    """
    fields = list(kind.model_fields)
    unknown = {}
    for name in sorted(set(environ) - {env_name(field) for field in fields}):
        if name.upper().startswith(ENV_PREFIX) and not _SERVICE_LINK.fullmatch(name):
            near = difflib.get_close_matches(name[len(ENV_PREFIX) :].lower(), fields, n=1)
            unknown[name] = env_name(near[0]) if near else None
    return unknown


class EnvironmentSource(PydanticBaseSettingsSource):
    """Environment variables, spelled exactly: pydantic's own source ignores case."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Not used: `__call__` reads all variables."""
        raise RuntimeError(f"{field_name}: {field!r}")

    def __call__(self) -> dict[str, Any]:
        """Field name to raw value."""
        return {
            field: os.environ[env_name(field)]
            for field in self.settings_cls.model_fields
            if env_name(field) in os.environ
        }


class FileSource(PydanticBaseSettingsSource):
    """The YAML file that flags or environment name as `config`.

    `every` is the class with all keys: a key that `kind` does not have belongs to another command
    and is ignored. Any other key raises `UsageError`.
    """

    def __init__(self, kind: type[BaseSettings], every: type[BaseSettings]) -> None:
        super().__init__(kind)
        self._every = every

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Not used: `__call__` reads the whole file, since it checks for unknown keys too."""
        raise RuntimeError(f"{field_name}: {field!r}")

    def __call__(self) -> dict[str, Any]:
        """Field name to raw value; empty without a file. Null means "not set"."""
        name = self.current_state.get("config")
        if name is None:
            return {}
        try:
            path = values.file(name)
        except ValueError as err:
            raise UsageError(f"{flag_name('config')} ({env_name('config')}): {err}") from None
        found: dict[str, object] = {}
        for key, value in _mapping(path).items():
            field = self._field(str(key), path)
            if value is not None and field in self.settings_cls.model_fields:
                found[field] = value
        return found

    def _field(self, key: str, path: Path) -> str:
        fields = {**self._every.model_fields, **self.settings_cls.model_fields}
        known = {flag_name(f)[2:]: f for f in fields if f != "config"}
        if key in known:
            return known[key]
        near = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
        raise UsageError(f"{path}: unknown setting {key!r}; {hint}")


def _mapping(path: Path) -> dict[object, object]:
    try:
        content = yaml_files.load(path)
    except ValueError as err:
        raise UsageError(str(err)) from err
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must contain a YAML mapping of settings, such as 'nodename: far'")
    return content


_EXPECTED = {
    "bool_parsing": "is not valid; expected true or false",
    "bool_type": "is not valid; expected true or false",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "greater_than_equal": "is too small; expected at least {ge}",
    "less_than_equal": "is too large; expected at most {le}",
}
"""Messages by type of error, in place of pydantic's."""


def _message(error: ErrorDetails) -> str:
    type_, text, given = error["type"], error["msg"], error["input"]
    if type_ == "value_error":  # of our own checks, which name the value
        return text.removeprefix("Value error, ")
    if type_ in _EXPECTED:
        return f"{given!r} {_EXPECTED[type_].format(**error.get('ctx', {}))}"
    return f"{given!r}: {text[:1].lower()}{text[1:]}"


def _complaint(
    kind: type[BaseSettings],
    loc: tuple[int | str, ...],
    *,
    type_: str,
    message: str,
    given: object,
) -> str:
    if not loc:
        return message
    field = str(loc[0])
    info = kind.model_fields[field]
    where = f"{flag_name(field)} ({env_name(field)})"
    if type_ == "missing":
        return f"{where} is required: {(info.description or '').split('. ')[0].rstrip('.')}"
    if type_ == "enum":
        allowed = flag_of(info).metavar.replace("|", ", ")
        return f"{where}: {given!r} is not valid; expected one of {allowed}"
    return f"{where}: {message}"
