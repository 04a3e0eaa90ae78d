"""The base class of all settings: flags, environment, file, defaults, in this order."""

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
Duration = BeforeValidator(values.duration)
Number = BeforeValidator(values.number)
Port = Annotated[int, Number, Field(ge=1, le=65535)]


class BaseFarletSettings(BaseSettings):
    """Values come from flags, else from `FARLET_*`, else from the file of `--config`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
    )

    config: Annotated[
        Path | None, Flag(Group.PROCESS, "FILE", common=True), BeforeValidator(values.file)
    ] = Field(
        None,
        description="YAML file of settings. Its keys are the names of the flags without the "
        "leading dashes. Flags and environment variables take precedence.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then file; no `.env` files and no directories of secrets."""
        from farlet.settings import Settings  # a subclass of this class

        return (
            init_settings,
            loading.EnvironmentSource(settings_cls),
            loading.FileSource(settings_cls, Settings),
        )
