"""Where the credentials of the two clusters come from, which the settings alone do not decide.

Pure: the environment of the process is an argument, and no file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from farlet import values
from farlet.clusters import Access
from farlet.errors import UsageError
from farlet.settings import Settings


def home_access(settings: Settings, environ: Mapping[str, str]) -> Access:
    """Home credentials: as set, else the pod's own inside one, else as kubectl finds them.

    Raises `UsageError` for a context without a kubeconfig.
    """
    if settings.home_kubeconfig is not None:
        return _source("home", settings.home_kubeconfig, settings.home_context)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return _source("home", values.IN_CLUSTER, settings.home_context)
    default = Path(environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser())
    return Access(kubeconfig=default, context=settings.home_context)


def foreign_access(settings: Settings, environ: Mapping[str, str]) -> Access:
    """Foreign credentials. Raises `UsageError` when they are those of home."""
    source = _source("foreign", settings.foreign_kubeconfig, settings.foreign_context)
    if source == home_access(settings, environ):
        raise UsageError(
            "--foreign-kubeconfig and --foreign-context name the same credentials as home: "
            "give the foreign cluster's kubeconfig, or another --foreign-context of this one"
        )
    return source


def _source(side: str, kubeconfig: Path | str, context: str | None) -> Access:
    if kubeconfig != values.IN_CLUSTER:
        return Access(kubeconfig=Path(kubeconfig), context=context)
    if context is not None:
        raise UsageError(
            f"--{side}-context {context!r} needs a kubeconfig, but the {side} credentials are "
            f"{values.IN_CLUSTER}: give --{side}-kubeconfig, or leave the context out"
        )
    return Access()
