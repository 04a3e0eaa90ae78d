"""The settings of the Node object: how the foreign cluster appears at home."""

from __future__ import annotations

from farlet.settings.base import BaseFarletSettings


class NodeSettings(BaseFarletSettings):
    """What the scheduler and people see of the virtual node."""
