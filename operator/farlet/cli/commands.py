"""Commands that a text advises, with the contexts and kubeconfigs that were given. Pure.

A pasted command must not reach another cluster, the one of the current context.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from farlet import errors
from farlet.planning import api_refusals
from farlet.settings.connections import ConnectionSettings, HomeConnectionSettings
from farlet.settings.inspecting import ReadingSettings


@dataclass(frozen=True, slots=True)
class Connection:
    """How one of the clusters was given; `None`: by default."""

    side: str
    """`home` or `foreign`."""
    context: str | None
    kubeconfig: str | None

    @property
    def kubectl(self) -> str:
        """The beginning of a command of kubectl in this cluster."""
        return f"kubectl{self._words('--context', '--kubeconfig')}"

    @property
    def flags(self) -> str:
        """The flags of another command of farlet, each after a space."""
        return self._words(f"--{self.side}-context", f"--{self.side}-kubeconfig")

    def _words(self, context: str, kubeconfig: str) -> str:
        given = ((context, self.context), (kubeconfig, self.kubeconfig))
        words = [word for flag, value in given if value is not None for word in (flag, value)]
        return "".join(f" {shlex.quote(word)}" for word in words)


def home_of(settings: HomeConnectionSettings) -> Connection:
    """The home cluster, as it was given to a command of farlet."""
    return Connection("home", settings.home_context, _text(settings.home_kubeconfig))


def foreign_of(settings: ConnectionSettings | ReadingSettings) -> Connection:
    """The foreign cluster, as it was given to a command of farlet."""
    return Connection("foreign", settings.foreign_context, _text(settings.foreign_kubeconfig))


def placed(text: str, home: Connection, foreign: Connection) -> str:
    """A text of `farlet.install`, for the clusters that were given, also by default."""
    for side, kubectl in ((home, api_refusals.AT_HOME), (foreign, api_refusals.THERE)):
        text = text.replace(kubectl, side.kubectl)
    text = text.replace(f" {api_refusals.CONTEXTS}", f"{home.flags}{foreign.flags}")
    return text.replace(" --home-context HOME", home.flags)


@contextlib.contextmanager
def placing(home: Connection, foreign: Connection) -> Iterator[None]:
    """Errors of `farlet.install` that are raised within, with `placed` texts."""
    try:
        yield
    except (errors.UsageError, errors.StartError) as err:
        raise type(err)(placed(str(err), home, foreign)) from err


def _text(kubeconfig: object) -> str | None:
    """The ServiceAccount of a pod is nothing that kubectl elsewhere could use."""
    return None if kubeconfig in {None, "in-cluster"} else str(kubeconfig)


_IN_CLUSTER = re.compile(
    r"(?P<where>[Ii]n the (?P<side>home|foreign) cluster[:,] )(?P<commands>kubectl [^;]*"
    r"(?:; kubectl [^;]*)*)"
)


def in_clusters(text: str, home: Connection, foreign: Connection) -> str:
    """A text with commands of kubectl that names their cluster: they reach it."""

    def reaching(found: re.Match[str]) -> str:
        kubectl = (home if found["side"] == home.side else foreign).kubectl
        return found["where"] + re.sub(
            "(^|; )kubectl ", lambda one: f"{one[1]}{kubectl} ", found["commands"]
        )

    return _IN_CLUSTER.sub(reaching, text)


def completed(text: str, home: Connection, foreign: Connection) -> str:
    """A text of farlet, which does not know the contexts of its reader, with those that are known.

    What was not given keeps its placeholder.
    """
    for given in (home, foreign):
        if given.flags:
            text = text.replace(_PLACEHOLDERS[given.side], given.flags.strip())
    return text.replace(errors.RUN, "Run: ") if home.flags and foreign.flags else text


_PLACEHOLDERS = {side: f"--{side}-context {side.upper()}" for side in ("home", "foreign")}
"""As in `api_refusals.CONTEXTS`."""
