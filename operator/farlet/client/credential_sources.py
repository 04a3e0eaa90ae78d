"""Where the credentials of both clusters come from: settings, the pod farlet runs in, a kubeconfig.

Pure: the environment is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from farlet.errors import UsageError
from farlet.settings import Settings, values
from farlet.settings.connections import HomeConnectionSettings
from farlet.settings.inspecting import ReadingSettings


@dataclass(frozen=True, slots=True)
class ClusterSource:
    """Where the credentials of a cluster come from.

    `kubeconfig` None: those of the pod farlet runs in. A string may be a list of paths, as in
    `$KUBECONFIG`. `context` None: the kubeconfig's current one. `rotated`: the file of the
    certificate and key that farlet was granted in place of the kubeconfig's, if it renews them.
    """

    kubeconfig: str | None
    context: str | None
    rotated: Path | None = None


def home_source(settings: HomeConnectionSettings, environ: Mapping[str, str]) -> ClusterSource:
    """Home credentials: as set, else those of the pod farlet runs in, else as kubectl finds them.

    Raises `UsageError` for a context without a kubeconfig.
    """
    if settings.home_kubeconfig is not None:
        return _source("home", settings.home_kubeconfig, settings.home_context)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return _source("home", values.IN_CLUSTER, settings.home_context)
    return ClusterSource(kubeconfig=default_kubeconfig(environ), context=settings.home_context)


def storage_source(settings: Settings) -> ClusterSource | None:
    """Credentials for volumes of the home cluster; `None`: those for everything else there."""
    if settings.home_storage_kubeconfig is None:
        return None
    return _source("home-storage", settings.home_storage_kubeconfig, None)


def foreign_source(settings: Settings, environ: Mapping[str, str]) -> ClusterSource:
    """Foreign credentials. Raises `UsageError` if they are those of the home cluster."""
    source = _source("foreign", settings.foreign_kubeconfig, settings.foreign_context)
    if source == home_source(settings, environ):
        raise UsageError(
            "--foreign-kubeconfig and --foreign-context select the same credentials as for the "
            "home cluster. Set --foreign-kubeconfig to the kubeconfig of the foreign cluster, or "
            "set another --foreign-context"
        )
    return source


def foreign_reading_source(
    settings: ReadingSettings, environ: Mapping[str, str]
) -> ClusterSource | None:
    """Foreign credentials of a command that only reads; `None`: it reads the home cluster only."""
    if settings.foreign_kubeconfig is not None:
        return _source("foreign", settings.foreign_kubeconfig, settings.foreign_context)
    if settings.foreign_context is None:
        return None
    kubeconfig = settings.home_kubeconfig
    if kubeconfig is None or kubeconfig == values.IN_CLUSTER:
        return ClusterSource(
            kubeconfig=default_kubeconfig(environ), context=settings.foreign_context
        )
    return _source("foreign", kubeconfig, settings.foreign_context)


def default_kubeconfig(environ: Mapping[str, str]) -> str:
    """As kubectl finds it."""
    return environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _source(side: str, kubeconfig: Path | str, context: str | None) -> ClusterSource:
    if kubeconfig != values.IN_CLUSTER:
        return ClusterSource(kubeconfig=str(kubeconfig), context=context)
    if context is not None:
        raise UsageError(
            f"--{side}-context {context!r} requires a kubeconfig, but the {side} credentials are "
            f"{values.IN_CLUSTER}. Set --{side}-kubeconfig to a file, or remove --{side}-context"
        )
    return ClusterSource(kubeconfig=None, context=None)
