"""Settings of the process: workers, listeners, logs, shutdown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.planning.mirror_events import Shown
from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, Duration, Number
from farlet.settings.loading import Flag, Group


class LogLevel(StrEnum):
    """Log records below this level are dropped."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`auto`: text on a terminal, else JSON."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class ObservedSettings(BaseFarletSettings):
    """Probes and logs, which every farlet process has."""

    health_probe_bind_address: Annotated[
        values.Address | None,
        Flag(Group.PROCESS, "HOST:PORT|0", default=":8081"),
        BeforeValidator(values.bind_address),
    ] = Field(
        values.Address("", 8081),
        description="Address that serves /livez, /readyz and /state; 0 disables them. Can be the "
        "same address as that of /metrics.",
    )
    log_level: Annotated[LogLevel, Flag(Group.PROCESS, "|".join(LogLevel))] = Field(
        LogLevel.INFO,
        description="Minimum level of log records. Client libraries stay at info, since at debug "
        "they print tokens.",
    )
    log_format: Annotated[LogFormat, Flag(Group.PROCESS, "|".join(LogFormat))] = Field(
        LogFormat.AUTO, description="auto: text on a terminal, JSON elsewhere."
    )


class ProcessSettings(ObservedSettings):
    """Settings of a `farlet run` process that do not concern pods."""

    mirror_events: Annotated[Shown, Flag(Group.PODS, "|".join(Shown))] = Field(
        Shown.ALL,
        description="Events of mirror pods that farlet shows on home pods. 'warnings': Warnings, "
        "and the Event that names the foreign namespace and node.",
    )
    workers: Annotated[int, Flag(Group.PROCESS, "N"), Number] = Field(
        64,
        ge=1,
        le=1000,
        description="Number of pods reconciled in parallel. Only one worker reconciles a pod at a "
        "time.",
    )
    metrics_bind_address: Annotated[
        values.Address | None,
        Flag(Group.PROCESS, "HOST:PORT|0", default=":8080"),
        BeforeValidator(values.bind_address),
    ] = Field(
        values.Address("", 8080),
        description="Address that serves /metrics; 0 disables it.",
    )
    drain_on_exit: Annotated[bool, Flag(Group.PROCESS, "true|false")] = Field(
        False,
        description="Drain the node before farlet exits, as kubectl drain does: on SIGTERM or "
        "Ctrl-C farlet cordons the node, evicts its pods, and sets it NotReady when they are gone. "
        "A second signal exits immediately. Not available under kopf run.",
    )
    drain_timeout: Annotated[float, Flag(Group.PROCESS, "DURATION", default="2m"), Duration] = (
        Field(
            120.0,
            ge=1,
            le=86400,
            description="Longest duration of a drain. Pods that remain afterwards keep running, "
            "and the next farlet process finds them. In a cluster, terminationGracePeriodSeconds "
            "must be longer.",
        )
    )
    shutdown_grace_period: Annotated[
        float, Flag(Group.PROCESS, "DURATION", default="20s"), Duration
    ] = Field(
        20.0,
        ge=0,
        le=3600,
        description="Time for running requests and streams to finish after SIGTERM.",
    )
