"""The settings of the kubelet API: where it listens, and whom it believes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, whole
from farlet.settings.loading import Flag, Group


class KubeletSettings(BaseFarletSettings):
    """What home's API server meets at the node's port."""

    kubelet_port: Annotated[int, Flag(Group.KUBELET, "PORT"), whole(1, 65535)] = Field(
        10250,
        description="Port of the kubelet API as the Node tells it to home's API server, which "
        "dials the Node's address with it for kubectl logs, exec, attach and port-forward.",
    )
    kubelet_bind_address: Annotated[
        values.Address | None,
        Flag(Group.KUBELET, "HOST:PORT|0", default=":<kubelet-port>"),
        BeforeValidator(values.bind_address),
    ] = Field(
        default_factory=lambda given: values.Address("", given["kubelet_port"]),
        description="Where the kubelet API listens, should that differ from the port that the Node "
        "tells; 0 turns it off, and the Node names no port.",
    )
