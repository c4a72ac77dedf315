"""The node's database: opening and transactions. An SQLite file, or PostgreSQL where a URL is given.

Promises: a committed transaction survives the loss of power (write-ahead log, synchronous FULL: one fsync a
commit); transactions that write come one after another, those of other processes too, and wait for 30 s at
most, then fail. Refuses a database made by a newer busmap, and one that cannot be read. Where only an SQLite
older than 3.51.3 is at hand, whose log two writers can damage
(https://sqlite.org/wal.html#walresetbug), the rollback journal is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from app.errors import StoreError
from app.files import sync
from app.node.store.migration import migrate, schema_of
from app.node.store.postgresql import postgresql_engine
from app.node.store.schema import HEAD

try:
    from pysqlite3 import dbapi2 as sqlite  # brings an SQLite of its own; Python's is the system's
except ImportError:  # no wheel for this machine
    import sqlite3 as sqlite

FILE_NAME = "busmap.sqlite"
_BUSY_SECONDS = 30.0
_SOUND_WAL = (3, 51, 3)


class Store:
    """The open database and the folders beside it.

    `worker_id`: in whose name jobs and deliveries are taken; None where one worker alone is at work.
    """

    worker_id: int | None = None

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self._engine = engine
        # SQLite polls when two connections write at once; threads of one process queue here instead.
        self._writing = threading.Lock()

    @property
    def is_shared(self) -> bool:
        """Whether gateways and workers of other machines may be at work on it."""
        return self._engine.dialect.name != "sqlite"

    @property
    def path(self) -> Path:
        """The database's file, where it is one."""
        return self.folder / FILE_NAME

    @property
    def incoming_folder(self) -> Path:
        """Where transfers land before they are kept."""
        return self.folder / "incoming"

    @property
    def results_folder(self) -> Path:
        """Where composed results are kept."""
        return self.folder / "results"

    def image_path(self, file_sha256: str) -> Path:
        """Where the image with this digest is kept; never made from a received value."""
        return self.folder / "images" / file_sha256[:2] / f"{file_sha256}.dcm"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction; commits at the end, rolls back on an error."""
        with (
            self._writing,
            self._engine.connect().execution_options(busmap_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: everything read in it is of the same moment."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def check(self) -> None:
        """Whether the database answers, at the cost of a look; raises SQLAlchemyError where it does not."""
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM study LIMIT 1")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def open_store(folder: Path, url: str = "", *, busy_seconds: float = _BUSY_SECONDS) -> Store:
    """Open the database of a state folder; make or migrate it first where needed.

    Parameters
    ----------
    url : of a PostgreSQL database; the folder then holds images and results alone.
    busy_seconds : how long a transaction waits for that of another process.

    Raises
    ------
    StoreError
        The folder cannot be written, or the database is damaged or of a newer busmap.
    """
    path = folder / FILE_NAME
    try:
        for name in ("", "incoming", "images", "results"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_image_folders(folder / "images")
        if url:
            store = Store(folder, postgresql_engine(url, busy_seconds))
        else:
            store = open_as_it_is(folder, busy_seconds=busy_seconds)
        if schema_of(store) != HEAD:
            migrate(store)
    except OSError as error:
        raise StoreError(
            f"the state folder {folder} cannot be used ({error.strerror}): make it writable for this user"
        ) from None
    except DatabaseError as error:
        if url:
            raise StoreError(
                f"the database at database_url cannot be used ({type(error.orig).__name__}): see that the "
                "server runs, and that its address, the name and the password are right"
            ) from None
        raise StoreError(
            f"the database {path} cannot be read ({type(error.orig).__name__}): `busmap state restore` "
            "brings back a backup"
        ) from None
    return store


def open_as_it_is(
    folder: Path, *, database: Path | None = None, busy_seconds: float = _BUSY_SECONDS
) -> Store:
    """The database of a state folder, or another file of its rows, with the schema that it has."""
    return Store(folder, _engine(database or folder / FILE_NAME, busy_seconds))


def open_read_only(folder: Path) -> Store:
    """The database of a state folder, of whatever release, read beside whoever writes it."""
    address = f"file:{quote(str((folder / FILE_NAME).resolve()))}?mode=ro"
    return Store(
        folder,
        create_engine(
            "sqlite://",
            creator=lambda: sqlite.connect(address, uri=True, timeout=_BUSY_SECONDS),
            module=sqlite,
        ),
    )


def _make_image_folders(images: Path) -> None:
    """All 256, durable before the first image: no receiver has to wonder whether another has synced one.

    Synced at each start: that the folders are there does not say that a start before lived to sync them.
    """
    for number in range(256):
        (images / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
    sync(images)


def journal(version: tuple[int, int, int] = sqlite.sqlite_version_info) -> tuple[str, str]:
    """The pragmas `journal_mode` and `synchronous` that make a commit durable with this SQLite.

    With a rollback journal FULL leaves the removal of the journal to the next sync of its folder, and the
    loss of power could undo a commit; EXTRA does not.
    """
    return ("WAL", "FULL") if version >= _SOUND_WAL else ("DELETE", "EXTRA")


def _engine(path: Path, busy_seconds: float) -> Engine:
    engine = create_engine(f"sqlite:///{path}", module=sqlite, connect_args={"timeout": busy_seconds})
    mode, synchronous = journal()

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            f"journal_mode={mode}",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            f"busy_timeout={round(busy_seconds * 1000)}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes its lock at once: waiting half-way could deadlock.
        immediate = connection.get_execution_options().get("busmap_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
