"""What every settings class has in common: where values come from, and the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from farlet.settings import loading, values
from farlet.settings.loading import Flag, Group

Text = BeforeValidator(values.text)
DNSLabel = BeforeValidator(values.dns_label)
Several = BeforeValidator(values.several)


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number from `low` to `high`."""

    def check(value: object) -> int:
        return values.integer(value, low=low, high=high)

    return BeforeValidator(check)


class BaseFarletSettings(BaseSettings):
    """Flag, else `FARLET_*`, else the file of `--config`, else the default."""

    model_config = SettingsConfigDict(
        env_prefix=loading.ENV_PREFIX,
        frozen=True,
        extra="forbid",
        enable_decoding=False,
        validate_default=False,
    )

    config: Annotated[Path | None, Flag(Group.PROCESS, "FILE"), BeforeValidator(values.file)] = (
        Field(
            None,
            description="YAML file of settings, its keys spelled like the flags without the dashes "
            "in front. Flags and environment win over it.",
        )
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then file; neither `.env` files nor secret folders."""
        from farlet.settings import (
            Settings,  # which is made of the classes that derive from this one
        )

        return init_settings, env_settings, loading.FileSource(settings_cls, Settings)
