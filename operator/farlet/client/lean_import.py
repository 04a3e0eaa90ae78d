"""Import kubernetes-asyncio without its model classes, which cost 33 MiB and half the start time.

farlet uses its loading of configurations only; objects stay raw JSON. But importing any part of the
package imports all of it, and Kopf imports it when it is installed. So the package objects are
created here without running their `__init__`, with only what `config` needs. Modules below them are
imported as usual. `docs/decisions/0003-memory.md` has the figures.

Under `kopf run` Kopf is imported first, and the whole package with it: then this does nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

PACKAGE = "kubernetes_asyncio"


def install() -> None:
    """Call it before Kopf or `farlet.client.cluster` is imported."""
    if PACKAGE in sys.modules:
        return
    parent = _unexecuted(PACKAGE, None)
    package = _unexecuted(f"{PACKAGE}.client", parent.__path__)
    parent.__dict__["client"] = package
    from kubernetes_asyncio.client import configuration, rest

    package.__dict__.update(
        ApiClient=_NoApiClient, Configuration=configuration.Configuration, rest=rest
    )


class _NoApiClient:
    """Replaces the client that the shortcuts of `config` would create."""

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("farlet runs without the model classes of kubernetes-asyncio")


def _unexecuted(name: str, path: Sequence[str] | None) -> ModuleType:
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module
