"""`kopf run -n farlet operator/manager.py`: the manager under Kopf's own command.

Settings come from the environment (`FARLET_*`); FARLET_NAMESPACE must name the namespace of `-n`.
"""

from __future__ import annotations

import sys

import kopf

from farlet import errors
from farlet.manager import handlers, process
from farlet.settings import ManagerSettings, loading


def _configured() -> process.Manager:
    """Read the settings. Exits with one line on stderr if they are wrong."""
    try:
        return process.Manager(loading.load(ManagerSettings, {}))
    except errors.UsageError as err:
        sys.stderr.write(f"farlet: {' '.join(str(err).split())}\n")
        sys.exit(2)


handlers.register(kopf.get_default_registry(), _configured())
