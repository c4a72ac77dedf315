"""The database: its schema, its refusals, and the states of a study under any order of events."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import create_engine

from app.errors import StoreError
from app.node import intake
from app.node.assembly import Assembly
from app.node.intake import SUCCESS
from app.node.migrations import configuration
from app.node.store import schema
from app.node.store.database import FILE_NAME, journal, open_store
from app.node.store.deliveries import requeue_interrupted, take_due
from app.node.store.images import is_known_file, request_close
from app.node.store.overview import study_lines
from app.node.store.work import count_attempt, fail_job, finish_job, start_job, unfinished_jobs
from app.node.sweep import Swept, sweep
from tests.node.inprocess import Bench
from tests.node.rig import report, ultrasound
from tests.operators.made_files import uid


def test_migrations_make_what_the_tables_say(tmp_path: Path, database_url: str) -> None:
    store = open_store(tmp_path, database_url)
    with store.read() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == schema.HEAD
        assert compare_metadata(context, schema.metadata) == []
    store.close()


def test_commits_are_durable_by_configuration(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.read() as connection:
        asked = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    mode, synchronous = journal()
    assert asked == {
        "journal_mode": mode.lower(),
        "synchronous": {"FULL": 2, "EXTRA": 3}[synchronous],
        "foreign_keys": 1,
    }
    store.close()


def test_the_log_is_used_only_where_sqlite_keeps_it_sound() -> None:
    assert journal((3, 51, 3)) == ("WAL", "FULL")
    assert journal((3, 51, 2)) == journal((3, 40, 1)) == ("DELETE", "EXTRA")


def test_newer_database_is_refused(tmp_path: Path, database_url: str) -> None:
    store = open_store(tmp_path, database_url)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(StoreError, match="newer busmap"):
        open_store(tmp_path, database_url)


def _database_of_the_first_release(folder: Path) -> None:
    """A state folder as 0001 left it: one result delivered and replaced by one that waits."""
    engine = create_engine(f"sqlite:///{folder / FILE_NAME}")
    with engine.begin() as connection:
        command.upgrade(configuration(connection), "0001")
        for sql in (
            "INSERT INTO study VALUES (1, '1.2.3', 'ref', 'closed', 0, 1.0, 2.0)",
            "INSERT INTO instance VALUES (1, 1, '1.2.3.4', '1.2', '1.2.3.5', '1.2', 'a', 'b', 9, 'image', 1)",
            "INSERT INTO job VALUES (1, 1, 1, 'done', 1, 0, '2026-01-01', 1, NULL, 'ok', NULL, NULL, 1, 2)",
            "INSERT INTO job VALUES (2, 1, 2, 'done', 1, 0, '2026-01-02', 2, 1, 'ok', NULL, NULL, 3.0, 4.0)",
            "INSERT INTO result_object VALUES (1, 1, 0, 'f', 'structured-report', '1', '1.9.1', '1.8', 'c')",
            "INSERT INTO result_object VALUES (2, 1, 1, 'g', 'summary-capture', '1', '1.9.2', '1.8', 'd')",
            "INSERT INTO result_object VALUES (3, 2, 0, 'f', 'structured-report', '1', '1.9.3', '1.8', 'e')",
            "INSERT INTO delivery VALUES (1, 1, 'pacs', 'accepted', 1, 1.0, 1.0, 0, NULL, 2.0)",
            "INSERT INTO delivery VALUES (2, 2, 'pacs', 'sending', 1, 1.0, 1.0, NULL, NULL, NULL)",
            "INSERT INTO delivery VALUES (3, 3, 'pacs', 'sending', 0, 3.0, 3.0, NULL, NULL, NULL)",
        ):
            connection.exec_driver_sql(sql)
    engine.dispose()


def test_database_of_the_release_before_opens_and_its_work_goes_on(tmp_path: Path) -> None:
    _database_of_the_first_release(tmp_path)
    store = open_store(tmp_path)
    [study] = study_lines(store)
    assert (study.images, study.revision) == (1, 2)
    assert [one.state for one in study.deliveries] == ["accepted", "superseded", "sending"]
    assert [one.identity for one in study.deliveries] == [None, None, None]
    requeue_interrupted(store, 0.0)
    assert [one.delivery_id for one in take_due(store, "pacs", 10.0)] == [3]
    store.close()


def test_damaged_database_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="backup"):
        open_store(tmp_path)


def test_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="writable"):
        open_store(tmp_path / "file")


def test_docstring_names_every_state() -> None:
    for states in (schema.StudyState, schema.JobState, schema.DeliveryState, schema.InstanceKind):
        for state in states:
            assert re.search(rf"\b{state}\b", str(schema.__doc__)), state


def test_sweep_removes_what_was_never_acknowledged(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")
    assert bench.receive(ultrasound("1")).status == SUCCESS
    (bench.store.incoming_folder / "cut.dcm").touch()
    orphan = bench.store.image_path("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.touch()
    assert sweep(bench.store, bench.intake) == Swept(removed=2, adopted=0)
    assert len(list((tmp_path / "state" / "images").glob("*/*"))) == 1


def test_sweep_keeps_images_that_no_row_names(tmp_path: Path) -> None:
    """The database was restored from a copy of before two of three images came."""
    bench = Bench(tmp_path / "state")
    assert bench.receive(ultrasound("1")).status == SUCCESS
    bench.store.close()
    path = bench.store.path
    copy = path.read_bytes()
    bench = Bench(tmp_path / "state")
    assert bench.receive(ultrasound("2")).status == SUCCESS
    assert bench.receive(ultrasound("3", "another")).status == SUCCESS
    [before] = [line for line in study_lines(bench.store) if line.study_instance_uid == uid("study")]
    bench.store.close()
    path.write_bytes(copy)
    bench = Bench(tmp_path / "state")
    assert sweep(bench.store, bench.intake) == Swept(removed=0, adopted=2)
    [after] = [line for line in study_lines(bench.store) if line.study_instance_uid == uid("study")]
    assert (after.images, after.study_ref) == (before.images, before.study_ref) == (2, before.study_ref)
    assert bench.receive(ultrasound("3", "another")).status == SUCCESS  # known, byte for byte
    assert sum(line.images + line.quarantined for line in study_lines(bench.store)) == 3
    assert sweep(bench.store, bench.intake).adopted == 0


def _forgotten(folder: Path) -> tuple[Bench, Path]:
    """A bench whose database lost its one image, and where that lies."""
    bench = Bench(folder)
    assert bench.receive(ultrasound("1")).status == SUCCESS
    with bench.store.write() as connection:
        connection.exec_driver_sql("DELETE FROM instance")
    [path] = (folder / "images").glob("*/*.dcm")
    return bench, path


def test_sweep_leaves_an_image_that_cannot_be_read_now(tmp_path: Path, monkeypatch) -> None:
    """It may have been acknowledged: trouble with the disk is no reason to remove it."""
    bench, path = _forgotten(tmp_path / "state")

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(intake, "read_kept", fail)
        assert sweep(bench.store, bench.intake) == Swept(removed=0, adopted=0)
    assert path.exists()
    assert not (bench.store.folder / "swept").exists(), "a later start looks at it again, however late"
    assert sweep(bench.store, bench.intake) == Swept(removed=0, adopted=1)


def test_sweep_makes_an_image_durable_before_its_row(tmp_path: Path, monkeypatch) -> None:
    """A kill between the file's rename and the sync of its folder left it to the page cache."""
    bench, path = _forgotten(tmp_path / "state")
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        intake, "sync", lambda one: synced.append((one, is_known_file(bench.store, path.stem)))
    )
    assert sweep(bench.store, bench.intake).adopted == 1
    assert synced == [(path, False), (path.parent, False)]


def test_no_place_where_a_file_ends_keeps_a_gateway_from_its_start(tmp_path: Path) -> None:
    bench, path = _forgotten(tmp_path / "state")
    whole = path.read_bytes()
    for length in range(0, 400):
        path.write_bytes(whole[:length])
        assert not bench.intake.adopt(path), length


OTHER = -1


class StudyLife(RuleBasedStateMachine):
    """One study under any order of images, reports, closings and job ends."""

    def __init__(self, database_url: str = "") -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bench = Bench(self.folder / "state", database_url=database_url)
        self.assembly = Assembly(self.bench.store, self.bench.clock, 60)
        self.images: set[int] = set()  # received
        self.closed: list[frozenset[int]] = []  # input of each revision; OTHER for the other bytes
        self.running: int | None = None

    def teardown(self) -> None:
        self.bench.store.close()
        shutil.rmtree(self.folder)

    @rule(number=st.integers(0, 6))
    def image(self, number: int) -> None:
        assert self.bench.receive(ultrasound(str(number))).status == SUCCESS
        self.images.add(number)

    @rule(number=st.integers(0, 2))
    def foreign_report(self, number: int) -> None:
        assert self.bench.receive(report(f"report{number}")).status == SUCCESS

    @rule()
    def other_bytes(self) -> None:
        changed = ultrasound("0")
        changed.PixelData = bytes(len(changed.PixelData))
        if 0 in self.images:
            assert self.bench.receive(changed).status == SUCCESS
            self.images.add(OTHER)

    @rule(seconds=st.sampled_from([1.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.assembly.close_due()
        self.bench.clock.advance(seconds)
        for _ in self.assembly.close_due():
            self.closed.append(frozenset(self.images))

    @rule()
    def close(self) -> None:
        self.assembly.close_due()
        for study in study_lines(self.bench.store):
            if study.state == "open":
                request_close(self.bench.store, 1)
                assert len(self.assembly.close_due()) == 1
                self.closed.append(frozenset(self.images))

    @precondition(lambda self: unfinished_jobs(self.bench.store))
    @rule()
    def job_starts(self) -> None:
        [newest] = unfinished_jobs(self.bench.store)[-1:]
        oldest = unfinished_jobs(self.bench.store)[0]
        job = start_job(self.bench.store, oldest, self.bench.clock.now())
        assert job is not None
        assert job == start_job(self.bench.store, oldest, self.bench.clock.now() + 5)
        self.running = oldest
        assert newest >= oldest

    @precondition(lambda self: self.running is not None)
    @rule(good=st.booleans())
    def job_ends(self, good: bool) -> None:
        store, now = self.bench.store, self.bench.clock.now()
        assert self.running is not None
        if good:
            assert finish_job(store, self.running, "no-findings", [], [], now)
        else:
            count_attempt(store, self.running)
            fail_job(store, self.running, "analysis-failed", "It failed.", now)
        assert start_job(store, self.running, now) is None
        assert not finish_job(store, self.running, "no-findings", [], [], now)
        self.running = None

    @invariant()
    def rows_say_what_happened(self) -> None:
        lines = study_lines(self.bench.store)
        if not lines:
            assert not self.images
            return
        [study] = lines
        assert study.images == len(self.images - {OTHER})
        assert study.quarantined == (OTHER in self.images)
        assert study.revision == len(self.closed)
        expected = "idle" if not self.images else "closed" if self.closed[-1:] == [self.images] else "open"
        assert study.state == expected
        assert (study.job_state is None) == (not self.closed)


StudyLife.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestStudyLife = StudyLife.TestCase
