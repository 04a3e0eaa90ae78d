"""Checks that an object from an API server has the shape that its type promises.

Everything behind the clients reads objects as `TypedDict`s and relies on them. An object of another
shape (a null for a spec, a version that is not a number) comes from a broken or hostile server. It
must not reach the modules behind, and it says nothing about any other object: it is left out, and
what is known of it is in doubt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Required, cast

import orjson
import pydantic
from typing_extensions import TypedDict

from farlet.constants import ObjectKey

VERSION_DIGITS = 20
"""resourceVersions are unsigned integers of 64 bits."""

IDENTITY_CHARS = 1024
"""Of a name or uid. API servers allow 253 for most names; keys, logs and messages contain them."""

_MESSAGE_CHARS = 200


PageMeta = TypedDict("PageMeta", {"resourceVersion": Required[str], "continue": str}, total=False)
"""`ListMeta` of one page; `continue` is the token of the next one."""


class Page(TypedDict, total=False):
    """One page of a list. Its items are checked one by one."""

    metadata: Required[PageMeta]
    items: list[Any]


def is_version(text: object) -> bool:
    """Whether it is a resourceVersion as a number (KEP-5504)."""
    return (
        isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS
    )


def problem(shape: type | None, obj: object) -> str | None:
    """What is wrong with an object, without its values; `None` if it has that shape."""
    return read(shape, obj).problem


class Read(NamedTuple):
    """An object as the modules behind get it, and what is wrong with it."""

    obj: Any
    problem: str | None


def read(shape: type | None, obj: object) -> Read:
    """Check an object. As in Go, a null counts as a missing field.

    An object that has its shape only without its nulls is returned without them: a `TypedDict`
    promises that a field that is present has a value.
    """
    if not isinstance(obj, dict):
        return Read(obj, "it is not an object")
    if shape is None:
        return Read(obj, None)
    if _is_too_deep(obj):
        return Read(obj, "it is nested too deeply")
    validate = _validator(shape)
    try:
        validate(obj)
    except pydantic.ValidationError:
        try:
            cleaned = cast("dict[str, Any]", _without_nulls(obj))
            validate(cleaned)
        except pydantic.ValidationError as err:
            first = err.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            return Read(obj, f"{where[:_MESSAGE_CHARS]}: {first['msg'][:_MESSAGE_CHARS]}")
        obj = cleaned
    metadata = obj.get("metadata")  # which a review need not have
    return Read(obj, _metadata_problem(metadata) if isinstance(metadata, dict) else None)


def _metadata_problem(metadata: dict[str, Any]) -> str | None:
    version = metadata.get("resourceVersion")
    if version is not None and not is_version(version):
        return "metadata.resourceVersion: it is not a number"
    for field in ("namespace", "name", "uid"):
        value = metadata.get(field)
        if isinstance(value, str) and len(value) > IDENTITY_CHARS:
            return f"metadata.{field}: it is longer than {IDENTITY_CHARS} characters"
    return None


def key(obj: object) -> ObjectKey | None:
    """Namespace and name of an object of any shape, if it has them."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(metadata, dict):
        return None
    namespace, name = metadata.get("namespace", ""), metadata.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return None
    return ObjectKey(namespace, name)


def _is_too_deep(obj: object) -> bool:
    """Whether it cannot be written as JSON again: `orjson` reads 1,024 levels and writes 254."""
    try:
        orjson.dumps(obj)
    except orjson.JSONEncodeError:
        return True
    return False


@functools.cache
def _validator(shape: type) -> Callable[[object], object]:
    return functools.partial(pydantic.TypeAdapter(shape).validator.validate_python, strict=True)


def _without_nulls(value: object) -> object:
    """A copy without null fields. Kubernetes writes zero times as null."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value
