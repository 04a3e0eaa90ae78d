"""Settings of `farlet manager`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farlet.settings.base import DNSLabel, Text
from farlet.settings.connections import HomeConnectionSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.process import ObservedSettings


class ManagerSettings(ObservedSettings, HomeConnectionSettings):
    """All settings of `farlet manager`."""

    namespace: Annotated[str, Flag(Group.CLUSTERS, "NAME", common=True), DNSLabel] = Field(
        "farlet",
        description="Namespace of the home cluster whose VirtualNodes the manager serves. It reads "
        "and writes objects of this namespace only.",
    )
    image: Annotated[
        str | None, Flag(Group.PROCESS, "IMAGE", default="the image of the manager"), Text
    ] = Field(None, description="Image of farlet for VirtualNodes without spec.image.")
    pod_name: Annotated[str | None, Flag(Group.PROCESS, "NAME", default="not in a pod"), Text] = (
        Field(
            None,
            description="Name of the pod that the manager runs in. The manager reads its image.",
        )
    )
