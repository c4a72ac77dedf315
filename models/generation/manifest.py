"""What a set of generated studies holds, locked by hash.

Promises: every file of a set stands in its manifest with its SHA-256; whatever is missing, changed or there
besides is told by name. Needs neither torch nor DICOM, so that any part can check the set it works on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.data.facts import Facts, read_facts
from models.data.record import DataError
from models.data.whole import write_whole

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1


class _Entry(Facts):
    path: str
    sha256: str


class _Format(Facts):
    format: int


class _Manifest(_Format):
    files: list[_Entry]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> str:
    """Write FOLDER/manifest.json over all files there; returns its SHA-256.

    `files`: what is known of some of them, each with its `path` relative to `folder`.
    """
    known = {entry["path"]: dict(entry) for entry in files}
    entries = [
        {**known.get(name, {"path": name}), "sha256": sha256_of(folder / name), "bytes": size}
        for name, size in _found(folder).items()
    ]
    content = {"format": FORMAT, **facts, "files": entries}
    write_whole(folder / MANIFEST, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return sha256_of(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a set.

    Raises
    ------
    DataError
        There is none, or it is damaged or of another format.
    """
    path, remedy = folder / MANIFEST, "give the folder of a set of studies, whole"
    if read_facts(path, _Format, remedy)["format"] != FORMAT:
        raise DataError(f"{path} is of another format: use the busmap that wrote it")
    return read_facts(path, _Manifest, remedy)


def differences(folder: Path) -> list[str]:
    """What is not as the manifest says, a sentence each; empty where all is."""
    expected = {entry["path"]: entry["sha256"] for entry in read_manifest(folder)["files"]}
    found = _found(folder)
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    more = [f"{name} is not in the manifest" for name in sorted(found.keys() - expected.keys())]
    both = sorted(expected.keys() & found.keys())
    changed = [f"{name} is changed" for name in both if sha256_of(folder / name) != expected[name]]
    return missing + more + changed


def _found(folder: Path) -> dict[str, int]:
    """Size of every file of a set but its manifest, by its path within."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return {name: size for name, size in names.items() if name != MANIFEST}
