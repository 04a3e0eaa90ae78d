"""The settings of the kubelet API: where it listens, and whom it believes."""

from __future__ import annotations

from farlet.settings.base import BaseFarletSettings


class KubeletSettings(BaseFarletSettings):
    """What home's API server meets at the node's port."""
