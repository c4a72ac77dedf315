"""What `busmap state` shows and does: the schema of a state folder, copies of its database, the way back.

Promises: shows and copies beside a node that runs; what changes the database asks for a stopped one.
Restoring and stepping back lose no image that was acknowledged.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from app.errors import StoreError
from app.files import sync
from app.logs import study_refs
from app.node.clock import SystemClock, moment
from app.node.crash import crash_point
from app.node.intake import Intake
from app.node.store import backup, migration
from app.node.store.database import FILE_NAME, Store, open_as_it_is, open_store
from app.node.store.deliveries import result_folder
from app.node.store.overview import job_places
from app.node.store.schema import HEAD
from app.node.sweep import Swept, sweep
from app.settings import Settings


@dataclass(frozen=True)
class State:
    """What is known of a state folder's database. `schema` is None where there is none."""

    database: Path
    schema: str | None
    changes: tuple[migration.Change, ...]
    backups: tuple[Path, ...]


@dataclass(frozen=True)
class Restored:
    """A database brought back: the copy used, where the one before lies, what the folder had beyond it."""

    used: Path
    set_aside: Path
    swept: Swept
    results_set_aside: int


def read_state(settings: Settings) -> State:
    """Look at a state folder without changing it.

    Raises
    ------
    StoreError
        There is no database, or it cannot be read.
    """
    store = _open_as_it_is(settings)
    try:
        return State(
            store.path,
            migration.schema_of(store),
            tuple(migration.changes(store)),
            tuple(sorted((store.folder / backup.FOLDER).glob("*.sqlite"))),
        )
    except DatabaseError:
        raise StoreError(
            f"the database {store.path} cannot be read: `busmap state restore` brings back a copy"
        ) from None
    finally:
        store.close()


def render_state(state: State) -> str:
    """The state as text for a terminal."""
    lines = [
        f"database: {state.database}",
        f"schema: {state.schema} (busmap {version('busmap')} knows {HEAD})",
    ]
    for one in state.changes:
        source = f"from {one.came_from} " if one.came_from else ""
        at = moment(one.changed_at).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"  {at} UTC {source}to {one.schema} by busmap {one.release}")
    lines += [f"backup: {path}" for path in state.backups] or ["backup: none"]
    return "\n".join(lines)


def back_up(settings: Settings, target: Path) -> None:
    """Copy the database, while the node runs or not, to a new file.

    Raises
    ------
    StoreError
        There is no database, it is damaged, or the target exists or cannot be written.
    """
    store = _open_as_it_is(settings)
    store.close()
    if target.exists():
        raise StoreError(f"{target} exists already: name a new file")
    try:
        backup.back_up(store.path, target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written ({error.strerror}): name another place") from None


@dataclass(frozen=True)
class SteppedBack:
    """A database of an earlier schema: which, the release that knows it, and the copy made before."""

    schema: str
    release: str
    kept: Path


def downgrade(settings: Settings, target: str | None) -> SteppedBack:
    """Bring the database back to an earlier schema, by default the one that it came from.

    Raises
    ------
    StoreError
        A node runs, the target is unknown, or the database cannot be copied or read.
    """
    from app.node.migrations import revisions

    store = _open_as_it_is(settings)
    try:
        wanted = target or _came_from(store)
        if wanted not in revisions():
            raise StoreError(f"there is no schema {wanted}: one of {', '.join(sorted(revisions()))}")
        release = migration.release_of(store, wanted)
        return SteppedBack(wanted, release, migration.downgrade(store, wanted))
    except DatabaseError:
        raise StoreError(
            f"the database {store.path} cannot be read: run `busmap state restore` first"
        ) from None
    finally:
        store.close()


def _came_from(store: Store) -> str:
    earlier = [one.came_from for one in migration.changes(store) if one.came_from and one.came_from < HEAD]
    if not earlier:
        raise StoreError("this database was never at an earlier schema: name the one wanted with --to")
    return earlier[-1]


def restore(settings: Settings, source: Path | None) -> Restored:
    """Put a copy in the database's place, by default the newest; keep the images that came after it.

    Killed half-way it is run again. Results that were made since are made anew, under the UIDs they had.

    Raises
    ------
    StoreError
        A node runs, there is no copy, or it is damaged or of a newer release.
    """
    _refuse_a_server(settings)
    folder = settings.state_folder
    used = source or _newest(folder)
    if not used.is_file():
        raise StoreError(f"there is no copy {used}: `busmap state show` lists those there are")
    try:
        with migration.no_node(folder):
            prepared = folder / f"{FILE_NAME}.restoring"
            backup.back_up(used, prepared)
            moved = _set_results_aside(folder, prepared)
            # Should this process not come to it, the next start of a gateway compares all images.
            (folder / "swept").unlink(missing_ok=True)
            kept = _replace(folder / FILE_NAME, prepared)
        store = open_store(folder)
        try:
            swept = sweep(store, _intake(settings, store), all_files=True)
        finally:
            store.close()
    except OSError as error:
        raise StoreError(f"the state folder {folder} cannot be written ({error.strerror})") from None
    except DatabaseError:
        raise StoreError(f"{used} is no sound database: name another copy") from None
    return Restored(used, kept, swept, moved)


def _newest(folder: Path) -> Path:
    copies = sorted((folder / backup.FOLDER).glob("busmap-*.sqlite"), key=lambda path: path.stat().st_mtime)
    if not copies:
        raise StoreError(f"there is no copy in {folder / backup.FOLDER}: name one that you keep elsewhere")
    return copies[-1]


def _set_results_aside(folder: Path, database: Path) -> int:
    """Move away the results that no job of the copy made: a later job of the same number has other input."""
    store = open_as_it_is(folder, database=database)
    try:
        migration.refuse_newer(store, migration.schema_of(store))
        known = {result_folder(store, *place) for place in job_places(store)}
    finally:
        store.close()
    unknown = [path for path in store.results_folder.glob("*/*") if path not in known]
    for path in unknown:
        aside = folder / "results-set-aside" / path.parent.name / path.name
        aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    return len(unknown)


def _replace(current: Path, prepared: Path) -> Path:
    """Put `prepared` in the place of `current` in one step; answers where that one lies now."""
    stamp = moment(SystemClock().now()).strftime("%Y%m%dT%H%M%S")
    aside = current.parent / backup.FOLDER / f"replaced-{stamp}.sqlite"
    log = current.with_name(f"{current.name}-wal")
    if current.exists():
        with contextlib.suppress(backup.DAMAGED):  # a damaged one is kept as it is
            backup.settle(current)
        aside.unlink(missing_ok=True)
        aside.hardlink_to(current)
        if log.exists():
            log.rename(aside.with_name(f"{aside.name}-wal"))
    current.with_name(f"{current.name}-shm").unlink(missing_ok=True)
    crash_point("restore-before-replace")
    prepared.replace(current)
    sync(current.parent)
    crash_point("restore-replaced")
    return aside


def _intake(settings: Settings, store: Store) -> Intake:
    return Intake(
        store,
        study_refs(settings),
        SystemClock(),
        minimum_free_disk_mib=settings.gateway.minimum_free_disk_mib,
        accept_secondary_capture=settings.analysis.accept_secondary_capture,
    )


def _refuse_a_server(settings: Settings) -> None:
    if settings.database_url:
        raise StoreError(
            "database_url names a PostgreSQL database: copy it and restore it with the tools of its server "
            "(docs/scale-out.md)"
        )


def _open_as_it_is(settings: Settings) -> Store:
    _refuse_a_server(settings)
    store = open_as_it_is(settings.state_folder)
    if not store.path.exists():
        raise StoreError(
            f"there is no node in {settings.state_folder}: start one with `busmap serve`, or set state_folder"
        )
    return store
