"""The settings of leadership: whether several processes may stand by for one node."""

from __future__ import annotations

from farlet.settings.base import BaseFarletSettings


class LeaderSettings(BaseFarletSettings):
    """Who of several may write."""
