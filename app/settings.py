"""Every setting of busmap in one typed model.

Promises: one YAML file, environment variables over it (`BUSMAP_GATEWAY__PORT=11112`), units in names,
unknown keys refused with the nearest known one. Refuses to start on a value out of range.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.errors import SettingsError
from app.settings_versions import VERSION, SettingsFile, renamed_variable

ENV_PREFIX = "BUSMAP_"
CONFIG_VARIABLE = "BUSMAP_CONFIG"
# Where the MAP specification has the settings file; it counts where it is there and none is named.
MAP_CONFIG_VARIABLE = "HOLOSCAN_CONFIG_PATH"
DATABASE_VARIABLE = "BUSMAP_DATABASE_URL"
# Read elsewhere than in this model: the settings file's own path, and what tests and hosts set.
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "BUSMAP_SHARED", "BUSMAP_CRASH_AT"})

SECRET_KEYS = frozenset({"site_key", "database_url"})  # never shown


def _ae_title(value: str) -> str:
    if not (1 <= len(value.strip()) <= 16) or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError("an AE title has 1 to 16 ASCII characters without backslash (PS3.5 6.2)")
    return value.strip()


def _models_of_the_host() -> Path | None:
    """Where the MAP specification has the models."""
    folder = os.environ.get("HOLOSCAN_MODEL_PATH")
    return Path(folder) if folder else None


def _postgresql(value: str) -> str:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("a PostgreSQL address begins with postgresql://")
    return value.replace("postgres://", "postgresql://", 1)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySettings(_Section):
    """The DICOM receiver."""

    ae_title: str = Field("BUSMAP", description="AE title the gateway answers to")
    host: str = Field("0.0.0.0", description="address the gateway listens on")  # noqa: S104 - a receiver
    port: int = Field(
        11112, ge=0, le=65535, description="TCP port the gateway listens on; 0 takes a free one"
    )
    allowed_calling_ae_titles: tuple[str, ...] = Field(
        (), description="AE titles allowed to send; empty allows all"
    )
    maximum_associations: int = Field(32, ge=1, le=1000, description="associations served at once")
    maximum_associations_per_address: int = Field(
        16, ge=1, le=1000, description="associations at once from one address"
    )
    first_byte_timeout_seconds: float = Field(
        5, gt=0, description="silence after which a new connection is closed"
    )
    network_timeout_seconds: float = Field(
        60, gt=0, description="silence after which an association is aborted"
    )
    maximum_instance_mib: int = Field(1024, ge=1, description="largest instance accepted")
    minimum_free_disk_mib: int = Field(
        1024, ge=0, description="free space under which storing answers 0xA700"
    )

    _check_title = field_validator("ae_title")(_ae_title)


class WebSettings(_Section):
    """Health and metrics over HTTP, in the gateway's process."""

    enabled: bool = Field(True, description="answer /livez, /readyz, /metrics and /version")
    host: str = Field("127.0.0.1", description="address the web server listens on")
    port: int = Field(
        8080, ge=0, le=65535, description="TCP port the web server listens on; 0 takes a free one"
    )


class AssemblySettings(_Section):
    """When a study counts as complete."""

    quiet_period_seconds: float = Field(
        60, ge=0, description="time without a new image after which a study closes"
    )
    poll_seconds: float = Field(
        0.2, gt=0, le=10, description="how often open studies and queued jobs are looked at"
    )


class WorkersSettings(_Section):
    """Workers that share a database."""

    silence_seconds: float = Field(
        10,
        ge=1,
        description="silence after which the others take over what a worker had; with `database_url` alone",
    )


class AnalysisSettings(_Section):
    """What is analysed, and with what limits."""

    maximum_frames_per_instance: int = Field(
        100,
        ge=1,
        description="frames of a cine searched, evenly spread; near key frames all are",
    )
    maximum_frames_per_study: int = Field(600, ge=1, description="frames of a study searched")
    maximum_lesions_per_frame: int = Field(3, ge=1, le=20, description="lesions reported on one frame")
    accept_secondary_capture: bool = Field(
        False, description="analyse ultrasound secondary captures of old scanners"
    )
    read_screen_text: bool = Field(
        True, description="read side and clock position off the screen where tesseract is installed"
    )
    engine_threads: int = Field(2, ge=1, le=64, description="threads of the inference engine")
    model_folder: Path | None = Field(
        default_factory=_models_of_the_host,
        description="folder of model bundles; none takes HOLOSCAN_MODEL_PATH, or those that ship",
    )
    model_keys: tuple[Path, ...] = Field(
        (),
        description="public keys (PEM) of which one must have signed each model bundle; without them the "
        "hashes of the bundles' files are checked alone",
    )
    timeout_seconds: float = Field(
        300, gt=0, description="time after which the analysis of a study is stopped"
    )
    memory_limit_mib: int = Field(
        4096, ge=512, description="address space of the analysis process above its start"
    )
    attempts: int = Field(3, ge=1, le=10, description="times a study is tried before it is a named failure")


class ReportSettings(_Section):
    """What the results look like."""

    sr_sop_class: Literal["comprehensive-3d", "comprehensive"] = Field(
        "comprehensive-3d", description="SOP class of the structured report"
    )
    capture_modality: Literal["OT", "US"] = Field("OT", description="Modality of the captures")
    summary_capture: Literal["always", "with-findings"] = Field(
        "always", description="when a summary capture is made"
    )
    maximum_lesion_captures: int = Field(6, ge=0, le=20, description="captures of single lesions at most")
    malignant_prevalence_percent: float = Field(
        33.0,
        ge=1,
        lt=100,
        description="share of malignant lesions the site expects, at least 1; 33 is about that of the "
        "training data, which are biopsied lesions",
    )


class DestinationSettings(_Section):
    """One PACS that results are sent to."""

    name: str = Field(description="name of the destination in status and metrics")
    ae_title: str = Field(description="AE title of the destination")
    host: str = Field(description="host name or address of the destination")
    port: int = Field(ge=1, le=65535, description="TCP port of the destination")
    identity_check: Literal["c-find", "qido", "off"] = Field(
        "c-find", description="how a result's patient is compared with the destination's study before sending"
    )
    qido_url: str | None = Field(
        None, description="address of the destination's DICOMweb service, for identity_check qido"
    )
    rejection_note: bool = Field(
        False, description="send an IHE IOCM rejection note for the objects that a newer result replaces"
    )

    _check_title = field_validator("ae_title")(_ae_title)

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if self.identity_check == "qido" and not (self.qido_url or "").startswith(("https://", "http://")):
            raise ValueError("identity_check qido needs qido_url: the address that /studies is added to")
        return self


def _different_names(values: tuple[DestinationSettings, ...]) -> tuple[DestinationSettings, ...]:
    names = [one.name for one in values]
    if len(set(names)) < len(names):
        raise ValueError("each destination needs a name of its own: status and deliveries go by it")
    return values


class DeliverySettings(_Section):
    """How results are sent."""

    shadow: bool = Field(
        False,
        description="analyse and keep, send nothing: for a node that runs beside another to be compared",
    )
    destinations: tuple[DestinationSettings, ...] = Field((), description="where results are sent")
    retry_minimum_seconds: float = Field(5, gt=0, description="upper bound of the first wait between tries")
    retry_maximum_seconds: float = Field(1800, gt=0, description="upper bound of any wait between tries")
    retry_for_hours: float = Field(
        168, gt=0, description="time after which an undeliverable result is parked"
    )
    network_timeout_seconds: float = Field(
        60, gt=0, description="silence after which sending is given up for now"
    )
    identity_timeout_seconds: float = Field(
        10, gt=0, description="silence after which a result is sent without comparing its patient"
    )

    _check_names = field_validator("destinations")(_different_names)

    @property
    def receivers(self) -> tuple[DestinationSettings, ...]:
        """The destinations that results are sent to: none from a shadow."""
        return () if self.shadow else self.destinations


class Settings(BaseSettings):
    """All settings. Sources, strongest first: environment, YAML file, defaults."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    settings_version: int = Field(
        VERSION, ge=1, description="form of the settings file; one newer than the program knows is refused"
    )
    state_folder: Path = Field(Path("/var/lib/busmap"), description="folder of database, images and results")
    database_url: str = Field(
        "",
        description="PostgreSQL database that gateways and workers share (`postgresql://...`); none keeps an "
        "SQLite file in the state folder",
    )
    run_folder: Path | None = Field(
        None,
        description="folder of a process's own files, on its own disk; none takes the state folder; with "
        "`database_url` alone",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe line logged"
    )
    site_key: str = Field(
        "", description="key of the hash behind study_ref; none makes one and keeps it in the state folder"
    )
    gateway: GatewaySettings = GatewaySettings()
    web: WebSettings = WebSettings()
    assembly: AssemblySettings = AssemblySettings()
    workers: WorkersSettings = WorkersSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    report: ReportSettings = ReportSettings()
    delivery: DeliverySettings = DeliverySettings()

    _check_database = field_validator("database_url")(_postgresql)

    @property
    def own_folder(self) -> Path:
        """Where a process keeps what is its own: its lock, its runtime file, its executor's memory.

        Beside an SQLite file always, so that no second node and no migration gets at one that is in use.
        """
        return self.run_folder if self.run_folder and self.database_url else self.state_folder

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults; arguments (tests) over all."""
        path = os.environ.get(CONFIG_VARIABLE)
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path:
            sources.append(SettingsFile(settings_cls, yaml_file=Path(path)))
        return tuple(sources)


def known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, type[BaseModel]]:
    """Dotted names of all settings, each with the section that holds it."""
    keys: dict[str, type[BaseModel]] = {}
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys |= known_keys(annotation, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = model
    return keys


def load_settings(config: Path | None = None, of_the_host: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from environment and file.

    Parameters
    ----------
    config : the settings file; without one that which the environment names.
    of_the_host : sections that count above all other sources.

    Raises
    ------
    SettingsError
        A key is unknown (the nearest known one is named), a value is out of range, or the file cannot
        be read.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    mounted = os.environ.get(MAP_CONFIG_VARIABLE)
    if not os.environ.get(CONFIG_VARIABLE) and mounted and Path(mounted).is_file():
        os.environ[CONFIG_VARIABLE] = mounted
    path = os.environ.get(CONFIG_VARIABLE)
    if path and not Path(path).is_file():
        raise SettingsError(
            f"settings file {path} does not exist: give --config FILE or unset {CONFIG_VARIABLE}"
        )
    _refuse_unknown_variables()
    try:
        return Settings(**(of_the_host or {}))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(item) for item in error.errors())) from None
    except (
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # what the library says of a file that holds no mapping
        raise SettingsError(
            f"settings file {path} holds no sections ({type(error).__name__}): it starts with a line such as "
            "`gateway:`"
        ) from None
    except yaml.YAMLError as error:
        where = str(getattr(error, "problem_mark", "")).strip()
        raise SettingsError(
            f"settings file {path} is not valid YAML {where}: check indentation and colons"
        ) from None


def _refuse_unknown_variables() -> None:
    keys = known_keys()
    names = {ENV_PREFIX + key.upper().replace(".", "__") for key in keys}
    names |= {ENV_PREFIX + key.split(".")[0].upper() for key in keys}
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable not in names | OTHER_VARIABLES:
            renamed = renamed_variable(variable, ENV_PREFIX)
            if renamed:
                raise SettingsError(f"environment variable {variable} {renamed}")
            nearest = difflib.get_close_matches(variable, names, n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            raise SettingsError(f"environment variable {variable} is no setting{hint}")


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.4)
        return f"unknown setting {key}" + (f": did you mean {nearest[0]}?" if nearest else "")
    given = "" if key in SECRET_KEYS else f" (given: {item['input']!r})"
    return f"setting {key}: {item['msg']}{given}"
