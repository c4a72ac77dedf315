"""From the schema of one release to that of another, forward and back.

Promises: a change of schema is one transaction, and before it the database is copied (`backups/`, named by
the schema it has); a kill leaves the old schema or the new one, and the next start goes on. Refuses to begin
while a node runs on the folder, and refuses a database that a newer release made: it says which, and how to
go back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, inspect, select, text

from app.errors import StoreError
from app.node.clock import SystemClock
from app.node.crash import crash_point
from app.node.process import hold_lock
from app.node.store.backup import back_up, kept_backup, settle
from app.node.store.schema import HEAD, schema_change

if TYPE_CHECKING:
    from app.node.store.database import Store

_RELEASES = {"0001": "0.1.0"}  # by the newest schema each knew, of those that did not write it down


@dataclass(frozen=True)
class Change:
    """A database came from one schema to another. Times are seconds since 1970."""

    came_from: str | None
    schema: str
    release: str
    changed_at: float


def schema_of(store: Store) -> str | None:
    """The schema of a database; None where it is empty."""
    with store.read() as connection:
        return _schema(connection)


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def changes(store: Store) -> list[Change]:
    """What is written down of earlier changes, oldest first; nothing before schema 0004."""
    with store.read() as connection:
        if not inspect(connection).has_table(schema_change.name):
            return []
        rows = connection.execute(select(schema_change).order_by(schema_change.c.id))
        return [Change(row.came_from, row.schema, row.release, row.changed_at) for row in rows]


def release_of(store: Store, schema: str) -> str:
    """The release that a schema is of, as far as is known."""
    written = [one.release for one in changes(store) if one.schema == schema]
    known = written[-1] if written else _RELEASES.get(schema)
    return f"busmap {known}" if known else "the release that knew it"


def migrate(store: Store) -> None:
    """Bring a database to this release's schema.

    Raises
    ------
    StoreError
        A newer release made it, a node runs on it, it is damaged, or the disk has no room for the copy.
    """
    if store.is_shared:  # a server's database is its server's to copy, and no lock tells of other machines
        _migrate(store, schema_of(store))
        return
    with _alone(store):
        found = schema_of(store)
        if found == HEAD:
            return
        with ExitStack() as stopped:
            if found is not None:
                refuse_newer(store, found)
                stopped.enter_context(no_node(store.folder))
                _keep_copy(store, found)
            _migrate(store, found)


def _migrate(store: Store, found: str | None) -> None:
    refuse_newer(store, found)
    # Imported here: a process that starts on a current database does without alembic.
    from app.node.migrations import upgrade

    with store.write() as connection:
        if _schema(connection) != found:
            return  # another machine's process was first
        upgrade(connection)
        _note(connection, found, HEAD)
        crash_point("migration-within-transaction")
    crash_point("migration-committed")


def downgrade(store: Store, target: str) -> Path:
    """Bring a database back to the schema of an earlier release; answers where its copy is kept.

    No row of a study, image, result or delivery is lost; what the older schema has no place for is stated
    in each step of `app/node/migrations/versions`.

    Raises
    ------
    StoreError
        As for `migrate`, or `target` is no earlier schema.
    """
    from app.node.migrations import downgrade as step_back

    with _alone(store), no_node(store.folder):
        found = schema_of(store)
        if found is None:
            raise StoreError(f"there is no database in {store.folder} to bring back")
        refuse_newer(store, found)
        if target > found:
            raise StoreError(f"the database has schema {found}, which is older than {target}: nothing to do")
        kept = kept_backup(store.folder, found)
        if target != found:
            kept = _keep_copy(store, found)
            with store.write() as connection:
                step_back(connection, target)
                if inspect(connection).has_table(schema_change.name):
                    _note(connection, found, target)
                crash_point("downgrade-within-transaction")
            crash_point("downgrade-committed")
        store.close()
        if store.path.exists():
            settle(store.path)
            # The queue's own tables may be newer too. They hold nothing that our rows do not say.
            for left in store.folder.glob("dbos.sqlite*"):
                left.unlink()
        return kept


def _note(connection: Connection, came_from: str | None, schema: str) -> None:
    connection.execute(
        insert(schema_change).values(
            came_from=came_from, schema=schema, release=version("busmap"), changed_at=SystemClock().now()
        )
    )


def _keep_copy(store: Store, schema: str) -> Path:
    target = kept_backup(store.folder, schema)
    for left in target.parent.glob(".copy-*"):  # of a start that was killed
        shutil.rmtree(left, ignore_errors=True)
    if store.path.exists():
        back_up(store.path, target)
    return target


def refuse_newer(store: Store, found: str | None) -> None:
    """Raise StoreError where `found`, the schema of the store, is one that this release does not know."""
    if found is None or found <= HEAD:
        return
    written = [one for one in changes(store) if one.schema == found]
    who = f"busmap {written[-1].release}" if written else "a newer busmap"
    raise StoreError(
        f"the database in {store.folder} was brought to schema {found} by {who}; this is busmap "
        f"{version('busmap')}, which knows schemas up to {HEAD}: start {who}, or have it step back with "
        f"`busmap state downgrade --to {HEAD}` (docs/upgrade.md)"
    )


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """One process at a time changes a schema."""
    lock = os.open(store.folder / "migrate.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def no_node(folder: Path) -> Iterator[None]:
    """Hold the places of gateway and worker, so that none runs meanwhile.

    Raises
    ------
    StoreError
        One runs, and goes on running.
    """
    held: list[int] = []
    try:
        for name in ("gateway", "worker"):
            held.append(hold_lock(folder, name, threading.Event()))
        yield
    except StoreError as error:
        if len(held) < 2:
            raise StoreError(
                f"a node still runs on the state folder {folder}: stop it before its database is changed"
            ) from error
        raise
    finally:
        for lock in held:
            os.close(lock)
