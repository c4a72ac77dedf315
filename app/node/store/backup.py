"""Copies of the SQLite file: whole, durable, and never in the way of the one that is in use.

Promises: a copy appears whole or not at all, is checked before it gets its name, and is one file without a
log beside it. Refuses to begin where the disk would not hold it. A database on a server is its server's to
back up (docs/upgrade.md).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import StoreError
from app.files import sync
from app.node.crash import crash_point

try:
    from pysqlite3 import dbapi2 as sqlite  # the SQLite that the store itself uses
except ImportError:  # no wheel for this machine
    import sqlite3 as sqlite

FOLDER = "backups"
DAMAGED = sqlite.DatabaseError  # what SQLite says of a file that is no sound database
_DAMAGED = "{} is damaged, or no database: `busmap state restore` brings back a sound copy"
_MIB = 1024 * 1024
_MARGIN_BYTES = 16 * _MIB


def kept_backup(folder: Path, schema: str) -> Path:
    """Where the copy from before a change of schema is kept; the last one of each schema stays."""
    return folder / FOLDER / f"busmap-{schema}.sqlite"


def back_up(database: Path, target: Path) -> None:
    """Copy a database, in use or not, to `target`; durable when this returns.

    Raises
    ------
    StoreError
        The disk has no room for the copy, or the database is damaged. Nothing is changed.
    OSError
        The folder of `target` cannot be written.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_room(database, target.parent)
    partial = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent)) / target.name
    try:
        _copy(database, partial)
        crash_point("backup-copied")
        sync(partial)
        partial.replace(target)
    except DAMAGED:
        raise StoreError(_DAMAGED.format(database)) from None
    finally:
        shutil.rmtree(partial.parent, ignore_errors=True)
    sync(target.parent)
    crash_point("backup-kept")


def require_room(database: Path, folder: Path) -> None:
    """Refuse where `folder` has no room for a copy of the database and for what a migration writes."""
    beside = database.with_name(database.name + "-wal")
    size = sum(path.stat().st_size for path in (database, beside) if path.exists())
    needed, free = 2 * size + _MARGIN_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"copying the database needs {-(-needed // _MIB)} MiB in {folder} and {free // _MIB} MiB are "
            "free: free disk space and try again; nothing was changed"
        )


def _copy(database: Path, target: Path) -> None:
    with _connect(database) as source, _connect(target) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        check(copy, database)


def check(connection: Any, database: Path) -> None:
    """Refuse a damaged database (SQLite's quick_check)."""
    if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
        raise StoreError(_DAMAGED.format(database))


def settle(database: Path) -> None:
    """Bring all of a database that nobody has open into its one file, as an older SQLite reads it."""
    with _connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    sync(database)
    sync(database.parent)


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[Any]:
    connection = sqlite.connect(path, timeout=30, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
