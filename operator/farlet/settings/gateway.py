"""Settings of both ends of the gateway, `farlet run` and `farlet gateway`, with separate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings
from farlet.settings.loading import Flag, Group
from farlet.settings.process import ObservedSettings


class TunnelSettings(BaseFarletSettings):
    """Settings of `farlet run` for gateways in the foreign cluster."""

    gateway_keys: Annotated[
        Path | None,
        Flag(Group.GATEWAY, "DIR", default="no gateway"),
        BeforeValidator(values.existing_directory),
    ] = Field(
        None,
        description="Keys with which farlet and the gateway authenticate each other: the Secret "
        "for the home cluster that `farlet gateway-keys` created.",
    )


class GatewaySettings(ObservedSettings):
    """All settings of `farlet gateway`."""

    gateway_keys: Annotated[
        Path, Flag(Group.GATEWAY, "DIR"), BeforeValidator(values.existing_directory)
    ] = Field(
        description="Keys with which the gateway and farlet authenticate each other: the Secret "
        "for the foreign cluster that `farlet gateway-keys` created."
    )
    gateway_bind_address: Annotated[
        values.Address,
        Flag(Group.GATEWAY, "HOST:PORT", default=":6443"),
        BeforeValidator(values.listening_address),
    ] = Field(
        values.Address("", 6443),
        description="Address at which pods connect to reach the home API server.",
    )
