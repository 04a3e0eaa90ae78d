"""YAML files of settings, and values that are a mapping in one: `--mirror-patch`,
`--namespace-defaults`.

In the file of `--config` the mapping can stand in place of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from farlet.constants import RESERVED
from farlet.settings import node_values, values

FAILURES = (
    yaml.YAMLError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)
"""What PyYAML raises for content that it does not understand."""


class StrictModel(BaseModel):
    """A mapping without other keys than its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=StrictModel)


def labels(value: object) -> dict[str, str]:
    """Labels by key. Raises `ValueError`."""
    for name, content in _strings(value).items():
        node_values.label(f"{name}={content}")
    return _strings(value)


def _annotations(value: object) -> dict[str, str]:
    """Annotations by key. Raises `ValueError`."""
    for name, content in _strings(value).items():
        node_values.annotation(f"{name}={content}")
    return _strings(value)


def _strings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a mapping")
    for name, content in value.items():
        if not isinstance(content, str):
            raise ValueError(f"{name}: {content!r} is not a string; quote it")
        if str(name).startswith(RESERVED):
            raise ValueError(f"{name}: {RESERVED} is reserved for farlet")
    return value


Labels = Annotated[dict[str, str], BeforeValidator(labels)]
Annotations = Annotated[dict[str, str], BeforeValidator(_annotations)]


def load(path: Path) -> object:
    """The document in a file. Raises `ValueError`."""
    try:
        return yaml.safe_load(path.read_bytes())
    except FAILURES as err:
        raise ValueError(f"{path} is not valid YAML: {fault(err)}") from None


def fault(err: Exception) -> str:
    """What is wrong with YAML, and in which line if PyYAML knows it."""
    problem, mark = getattr(err, "problem", None), getattr(err, "problem_mark", None)
    if problem and mark:
        return f"{problem} (line {mark.line + 1})"
    return " ".join(str(err).split())


def read(value: object, model: type[M], *, what: str) -> M:
    """The mapping in the file of this path, or this mapping. Raises `ValueError`.

    `what` names the whole, as in "x is not a field of a mirror patch".
    """
    where, given = "", value
    if isinstance(value, str | Path):
        path = values.file(value)
        where, given = f"{path}: ", load(path)
    if not isinstance(given, dict):
        raise ValueError(f"{where}expected a mapping with {', '.join(model.model_fields)}")
    try:
        return model.model_validate(given)
    except ValidationError as err:
        faults = "; ".join(_fault(fault, what) for fault in err.errors())
        raise ValueError(where + faults) from None


def _fault(fault: ErrorDetails, what: str) -> str:
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{path} is not a field of {what}"
    return f"{path}: {fault['msg'].removeprefix('Value error, ')}"
