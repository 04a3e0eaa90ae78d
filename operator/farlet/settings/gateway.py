"""The settings of the gateway: for farlet at home, and for the process in the foreign cluster.

Both have keys, each its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.process import ObservedSettings


class TunnelSettings(BaseFarletSettings):
    """What farlet needs to reach gateways abroad."""

    gateway_keys: Annotated[
        Path | None,
        Flag(Group.GATEWAY, "FOLDER", default="no gateway is connected to"),
        BeforeValidator(values.present_folder),
    ] = Field(
        None,
        description="The keys by which farlet and the gateway abroad know each other: the Secret "
        "for home of those that `farlet gateway-keys` made.",
    )


class GatewaySettings(ObservedSettings):
    """All settings of `farlet gateway`."""

    gateway_keys: Annotated[
        Path, Flag(Group.GATEWAY, "FOLDER"), BeforeValidator(values.present_folder)
    ] = Field(
        description="The keys by which the gateway and farlet know each other: the Secret for "
        "abroad of those that `farlet gateway-keys` made."
    )
    gateway_bind_address: Annotated[
        values.Address,
        Flag(Group.GATEWAY, "HOST:PORT", default=":6443"),
        BeforeValidator(values.listening_address),
    ] = Field(
        values.Address("", 6443),
        description="Where pods connect that are to reach the home API server.",
    )
