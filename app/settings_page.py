"""The settings as a table on screen and as a page of the documentation, from the model itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from app.settings import CONFIG_VARIABLE, ENV_PREFIX, SECRET_KEYS, Settings, known_keys

_UNITS = {"seconds": "s", "hours": "h", "mib": "MiB", "percent": "%"}


def settings_table(settings: Settings) -> None:
    """Print every setting with value, type, unit, default and source."""
    table = Table("setting", "value", "type", "unit", "default", "source", "meaning")
    in_file = _file_keys()
    for key, section in known_keys().items():
        info = section.model_fields[key.split(".")[-1]]
        value = _value(settings, key)
        default = _shown(info.get_default(call_default_factory=True))
        shown, source = _shown(_hidden(key, value)), _source(key, in_file)
        table.add_row(key, shown, _type(info), _unit(key), default, source, info.description or "")
    Console(width=None if os.isatty(1) else 200).print(table)


def settings_page() -> str:
    """The page docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from the program itself. One YAML file (`--config FILE` or `BUSMAP_CONFIG`), "
        "environment variables over it. A setting `gateway.port` is `gateway: {port: 11112}` in the file and "
        "`BUSMAP_GATEWAY__PORT=11112` in the environment; lists are JSON there. An unknown key stops the "
        "program and names the nearest known one.",
        "",
        "| setting | type | unit | default | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, section in known_keys().items():
        info = section.model_fields[key.split(".")[-1]]
        default = _shown(info.get_default(call_default_factory=True))
        lines.append(
            f"| `{key}` | {_type(info)} | {_unit(key)} | {default} | {info.description} |".replace("  ", " ")
        )
    return "\n".join(lines) + "\n"


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _hidden(key: str, value: Any) -> Any:
    return "(set)" if key in SECRET_KEYS and value else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_shown(one) for one in value) or "none"
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {one}" for name, one in value)
    return "none" if value in (None, "") else str(value)


_TYPES = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}


def _type(info: FieldInfo) -> str:
    """The type in a user's words, from the annotation."""
    return _named(info.annotation)


def _named(annotation: Any) -> str:
    if annotation in _TYPES:
        return _TYPES[annotation]
    if get_origin(annotation) is tuple:
        return f"list of {_named(get_args(annotation)[0])}"
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (
            "{"
            + ", ".join(f"{name}: {_named(one.annotation)}" for name, one in annotation.model_fields.items())
            + "}"
        )
    parts = [_named(part) for part in get_args(annotation) if part is not type(None)]
    return " or ".join(parts) + " or none"


def _unit(key: str) -> str:
    return _UNITS.get(key.rsplit("_", 1)[-1], "")


def _file_keys() -> set[str]:
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return set()
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    return {
        f"{name}.{inner}" if isinstance(section, dict) else name
        for name, section in content.items()
        for inner in (section if isinstance(section, dict) else [None])
    }


def _source(key: str, in_file: set[str]) -> str:
    if ENV_PREFIX + key.upper().replace(".", "__") in os.environ:
        return "environment"
    if "." in key and ENV_PREFIX + key.split(".")[0].upper() in os.environ:
        return "environment"
    return "file" if key in in_file else "default"
