"""The settings file from release to release.

Promises: a file of every earlier release is read; a key that was renamed is taken under its new name and told
of, one that was removed is refused by name with what to do instead. A file of a newer release is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import YamlConfigSettingsSource

from app.errors import SettingsError

# Grows with each release that adds, renames or removes a key. Files of release 0.1.0 do not say: 1.
VERSION = 2
KEY = "settings_version"


@dataclass(frozen=True)
class KeyChange:
    """A dotted key that a version renamed to `new`, or removed where that is None; `remedy` is for people."""

    version: int
    old: str
    new: str | None
    remedy: str = ""


# Every key renamed or removed since 0.1.0; none so far. A line here is never taken out.
CHANGES: tuple[KeyChange, ...] = ()


class SettingsFile(YamlConfigSettingsSource):
    """The YAML file, its keys brought to the names of today."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        content = super()._read_file(file_path)
        if not isinstance(content, dict):
            return content  # the caller says what is wrong with it
        changed, notices = brought_up_to_date(content, Path(str(file_path)))
        for notice in notices:
            print(f"busmap: settings: {notice}", file=sys.stderr)
        return changed


def brought_up_to_date(
    content: dict[str, Any], path: Path, changes: Sequence[KeyChange] = CHANGES, version: int = VERSION
) -> tuple[dict[str, Any], list[str]]:
    """The content with today's keys, and what to tell of it.

    Raises
    ------
    SettingsError
        The file is of a newer version, holds a removed key, or a renamed one under both names.
    """
    _refuse_newer(content.get(KEY, 1), path, version)
    content = {
        name: dict(section) if isinstance(section, dict) else section for name, section in content.items()
    }
    notices = []
    for change in sorted(changes, key=lambda one: one.version):
        section, name = _place(content, change.old)
        if name not in section:
            continue
        if change.new is None:
            raise SettingsError(f"{path}: {change.old} is no setting any more: {change.remedy}")
        target, new_name = _place(content, change.new, make=True)
        if new_name in target:
            raise SettingsError(
                f"{path}: {change.old} is called {change.new} now, and both are there: take one"
            )
        target[new_name] = section.pop(name)
        notices.append(f"{path}: {change.old} is called {change.new} now: rename it. {change.remedy}".strip())
    return content, notices


def renamed_variable(variable: str, prefix: str, changes: Sequence[KeyChange] = CHANGES) -> str | None:
    """What an environment variable of an earlier release is called now, or why it is gone; None otherwise."""
    for change in changes:
        if variable == prefix + change.old.upper().replace(".", "__"):
            if change.new is None:
                return f"is no setting any more: {change.remedy}"
            return f"is called {prefix}{change.new.upper().replace('.', '__')} now"
    return None


def _refuse_newer(found: Any, path: Path, version: int) -> None:
    if isinstance(found, int) and found > version:
        raise SettingsError(
            f"{path} is of settings version {found}, and this busmap knows up to {version}: start the newer "
            "release it was written for, or give the settings file of before the upgrade (docs/upgrade.md)"
        )


def _place(content: dict[str, Any], key: str, *, make: bool = False) -> tuple[dict[str, Any], str]:
    """The mapping that holds a dotted key, and its name in it; an empty one without such a section."""
    *sections, name = key.split(".")
    for section in sections:
        below = content.setdefault(section, {}) if make else content.get(section, {})
        if not isinstance(below, dict):
            return {}, name
        content = below
    return content, name
