"""What the gateway finds at its start: transfers that were cut, and images that no row names.

Promises: an image whose bytes are whole is kept, whoever forgot it: a kill between file and row, or a
database that was restored from a copy of before it came. Removes only what was never answered with success,
and where other gateways are at work on the folder too, only what has been silent for an hour.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from app.logs import log
from app.node.intake import Intake
from app.node.store.database import Store
from app.node.store.images import is_known_file

_MARKER = "swept"
_MARGIN_SECONDS = 3600.0  # for a wall clock that was set back
_SILENT_SECONDS = 3600.0  # no association waits for so long


@dataclass(frozen=True)
class Swept:
    """How many files were removed, and how many images kept after all."""

    removed: int
    adopted: int


def sweep(store: Store, intake: Intake, *, all_files: bool = False) -> Swept:
    """Remove cut transfers and keep images without a row. Called before the gateway listens.

    Parameters
    ----------
    all_files : compare every file with the rows; otherwise those that came after the last sweep, because
        what that one left has its row.
    """
    marker = store.folder / _MARKER
    since = marker.stat().st_mtime - _MARGIN_SECONDS if marker.exists() and not all_files else 0.0
    removed = adopted = unreadable = 0
    for path in store.incoming_folder.iterdir():
        removed += _remove(store, path)
    for path in _without_row(store, since):
        try:
            whole = intake.adopt(path)
        except OSError as error:  # it may be sound: left for a later start
            log().error("image-unreadable", file=path.name, error=error.strerror, remedy="check the disk")
            unreadable += 1
            continue
        adopted += whole
        removed += 0 if whole else _remove(store, path)
    if not unreadable:
        marker.touch()
    return Swept(removed, adopted)


def _remove(store: Store, path: Path) -> int:
    """Remove a file, unless it may be another gateway's; answers how many went."""
    try:
        if store.is_shared and time.time() - path.stat().st_mtime < _SILENT_SECONDS:
            return 0
        path.unlink()
        return 1
    except FileNotFoundError:  # the other gateway was quicker
        return 0


def _without_row(store: Store, since: float) -> list[Path]:
    """Images that came after `since` (seconds since 1970) and have no row, the oldest first."""
    found = [
        (path.stat().st_mtime, path)
        for path in (store.folder / "images").glob("??/*.dcm")
        if path.stat().st_mtime >= since and not is_known_file(store, path.stem)
    ]
    return [path for _, path in sorted(found)]
