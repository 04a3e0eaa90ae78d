"""The settings of the process itself: workers, where it listens, what it logs, how it stops."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, whole
from farlet.settings.loading import Flag, Group


class LogLevel(StrEnum):
    """The least severe records that are written."""

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
    """How any process of farlet is looked at from outside."""

    health_probe_bind_address: Annotated[
        values.Address | None,
        Flag(Group.PROCESS, "HOST:PORT|0", default=":8081"),
        BeforeValidator(values.bind_address),
    ] = Field(
        values.Address("", 8081),
        description="Where /livez and /readyz are served; 0 turns them off. May be where "
        "/metrics is.",
    )
    log_level: Annotated[LogLevel, Flag(Group.PROCESS, "|".join(LogLevel))] = Field(
        LogLevel.INFO,
        description="The least severe records to write. Client libraries stay at info even with "
        "debug, since they would print tokens.",
    )
    log_format: Annotated[LogFormat, Flag(Group.PROCESS, "|".join(LogFormat))] = Field(
        LogFormat.AUTO, description="auto is text on a terminal and JSON elsewhere."
    )


class ProcessSettings(ObservedSettings):
    """What has nothing to do with pods."""

    workers: Annotated[int, Flag(Group.PROCESS, "N"), whole(1, 1000)] = Field(
        64, description="How many pods are worked on at the same time; never two for one pod."
    )
    metrics_bind_address: Annotated[
        values.Address | None,
        Flag(Group.PROCESS, "HOST:PORT|0", default=":8080"),
        BeforeValidator(values.bind_address),
    ] = Field(
        values.Address("", 8080),
        description="Where /metrics is served; 0 turns it off.",
    )
    drain_on_exit: Annotated[
        bool, Flag(Group.PROCESS, "true|false"), BeforeValidator(values.switch)
    ] = Field(
        False,
        description="Empty the node before farlet ends, as kubectl drain does: after SIGTERM or "
        "Ctrl-C it is cordoned, its pods are evicted, and when they are gone it is NotReady. A "
        "second signal ends at once. Not under kopf run.",
    )
    drain_timeout: Annotated[int, Flag(Group.PROCESS, "SECONDS"), whole(1, 86400)] = Field(
        120,
        description="How long that may take. What is left then is left as it is, and found by the "
        "next farlet. In a cluster, terminationGracePeriodSeconds must be longer.",
    )
    shutdown_grace_period: Annotated[int, Flag(Group.PROCESS, "SECONDS"), whole(0, 3600)] = Field(
        20, description="How long work that has begun may take to end after SIGTERM."
    )
