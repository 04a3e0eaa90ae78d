"""How settings are found: flag, environment, file, in this order, and how wrong ones are told.

Knows fields only by what pydantic tells about them; which settings there are stands in
the other files of this package.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from farlet.errors import UsageError
from farlet.settings import values

ENV_PREFIX = "FARLET_"

_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""Variables that a kubelet makes of a Service named `farlet` (`GetServiceEnvVarMap`)."""


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
    """How a field looks on the command line; stands among its annotations."""

    group: Group
    metavar: str
    aliases: tuple[str, ...] = ()
    many: bool = False
    default: str = ""
    """What is said of the default where the value alone would not tell it."""


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load(kind: type[AnySettings], flags: Mapping[str, object]) -> AnySettings:
    """Settings from flags (field name to raw value, only those given), environment and file.

    Raises `UsageError`, one line that names each wrong setting by flag and variable.
    """
    try:
        return kind(**cast("dict[str, Any]", flags))
    except ValidationError as err:
        complaints = (
            _complaint(kind, e["loc"], type_=e["type"], message=e["msg"], given=e["input"])
            for e in err.errors(include_url=False)
            # A default that follows from a wrong setting: that one is told already.
            if e["type"] != "default_factory_not_called"
        )
        # A list that is wrong twice, or a union tried in turn, complains once per attempt.
        raise UsageError("; ".join(dict.fromkeys(complaints))) from err


def flag_name(field: str) -> str:
    """`--home-name` of `home_name`."""
    return "--" + field.replace("_", "-")


def env_name(field: str) -> str:
    """`FARLET_HOME_NAME` of `home_name`."""
    return ENV_PREFIX + field.upper()


def flag_of(info: FieldInfo) -> Flag:
    """The command-line look of a field."""
    return next(m for m in info.metadata if isinstance(m, Flag))


def strangers(kind: type[BaseSettings], environ: Iterable[str]) -> tuple[str, ...]:
    """`FARLET_*` variables that no setting reads: most likely misspelt, so worth a warning.

    Not an error: what a kubelet adds for Services and what other tools define is not ours.
    """
    known = {env_name(field) for field in kind.model_fields}
    return tuple(
        sorted(
            name
            for name in environ
            if name.startswith(ENV_PREFIX)
            and name not in known
            and not _SERVICE_LINK.fullmatch(name)
        )
    )


class FileSource(PydanticBaseSettingsSource):
    """The YAML file that flags or environment name as `config`.

    `every` is the class that knows all keys; those which `kind` does not have are for another
    command and pass over, any other key is a `UsageError`.
    """

    def __init__(self, kind: type[BaseSettings], every: type[BaseSettings]) -> None:
        super().__init__(kind)
        self._every = every

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Not used: the file is read as a whole, since unknown keys must be found too."""
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
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        raise UsageError(f"{path}: {key!r} is no setting; {hint}")


def _mapping(path: Path) -> dict[object, object]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise UsageError(f"{path} is no YAML: {' '.join(str(err).split())}") from err
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold one YAML mapping of settings, as 'nodename: far'")
    return content


def _complaint(
    kind: type[BaseSettings],
    loc: tuple[int | str, ...],
    *,
    type_: str,
    message: str,
    given: object,
) -> str:
    message = message.removeprefix("Value error, ")
    if not loc:
        return message
    field = str(loc[0])
    info = kind.model_fields[field]
    where = f"{flag_name(field)} ({env_name(field)})"
    if type_ == "missing":
        return f"{where} is needed: {(info.description or '').split('. ')[0].rstrip('.')}"
    if type_ == "enum":
        allowed = flag_of(info).metavar.replace("|", ", ")
        return f"{where}: {given!r} is not allowed; give one of {allowed}"
    return f"{where}: {message}"
