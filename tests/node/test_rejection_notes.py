"""Rejection notes of several destinations in one process, as the worker makes them: none is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from app.files import write_whole
from app.node.assembly import Assembly
from app.node.reject import RejectionNotes
from app.node.store.deliveries import record_accepted, result_folder, take_due
from app.node.store.work import finish_job, start_job, unfinished_jobs
from app.node.worker import _read_result
from tests.node.inprocess import Bench, DirectAnalyst
from tests.node.rig import ultrasound
from tests.operators.made_files import uid

DESTINATIONS = ("first", "second")
STUDIES = tuple(str(number) for number in range(2))


class Replaced:
    """Studies with two results each, all of which both destinations have."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder, assembly={"quiet_period_seconds": 0, "poll_seconds": 0.01})
        for number in (1, 2):
            for study in STUDIES:
                self.bench.receive(ultrasound(str(number), study))
            Assembly(self.bench.store, self.bench.clock, 0).close_due()
            for job_id in unfinished_jobs(self.bench.store):
                self._finish(job_id)
            for name in DESTINATIONS:
                for one in take_due(self.bench.store, name, self.bench.clock.now()):
                    record_accepted(self.bench.store, one.delivery_id, 0, "", 1.0, "off")

    def _finish(self, job_id: int) -> None:
        store = self.bench.store
        job = start_job(store, job_id, self.bench.clock.now())
        assert job is not None
        folder = result_folder(store, job.study_instance_uid, job.revision)
        folder.parent.mkdir(parents=True, exist_ok=True)
        predecessor = vars(job.predecessor) if job.predecessor else None
        DirectAnalyst(self.bench.settings).ask(
            {
                "paths": [str(path) for path in job.paths],
                "output_folder": str(folder),
                "composed_at": job.composed_at,
                "result_number": job.result_number,
                "predecessor": predecessor,
                "warnings": [],
            }
        )
        status, objects = _read_result(folder)
        finish_job(store, job_id, status, objects, DESTINATIONS, self.bench.clock.now())

    def notes(self, destination: str) -> RejectionNotes:
        return RejectionNotes(self.bench.store, destination, self.bench.clock)

    def queued(self, destination: str) -> set[str]:
        """The studies whose note waits for a destination."""
        due = take_due(self.bench.store, destination, self.bench.clock.now())
        assert {one.result.kind for one in due} <= {"rejection-note"}
        return {one.study_instance_uid for one in due}


@pytest.fixture
def replaced(tmp_path: Path) -> Replaced:
    return Replaced(tmp_path / "state")


def test_two_destinations_at_once_get_all_their_notes(replaced: Replaced) -> None:
    together = threading.Barrier(len(DESTINATIONS))

    def make(destination: str) -> None:
        together.wait()
        replaced.notes(destination).make()

    threads = [threading.Thread(target=make, args=(name,)) for name in DESTINATIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in DESTINATIONS:
        assert replaced.queued(name) == {uid(study) for study in STUDIES}
    results = replaced.bench.store.results_folder
    assert len(list(results.rglob("rejection-*"))) == len(STUDIES)
    assert not list(results.rglob("*.tmp"))


def test_a_note_that_could_not_be_made_is_made_later(replaced: Replaced) -> None:
    folder = result_folder(replaced.bench.store, uid(STUDIES[0]), 2)
    away = folder.rename(folder.with_name("away"))
    notes = replaced.notes("first")
    assert notes.make()
    assert replaced.queued("first") == {uid(study) for study in STUDIES[1:]}
    replaced.bench.clock.advance(60)
    assert not notes.make()  # tried, in vain still
    away.rename(folder)
    assert not notes.make()  # not at each look: the log would be full of it
    replaced.bench.clock.advance(60)
    assert notes.make()
    assert replaced.queued("first") == {uid(STUDIES[0])}
    replaced.bench.clock.advance(60)
    assert not notes.make()


def test_many_writers_of_one_file_all_succeed(tmp_path: Path) -> None:
    together, failed = threading.Barrier(8), list[BaseException]()

    def write() -> None:
        together.wait()
        try:
            for _ in range(4):
                write_whole(tmp_path / "note.dcm", b"whole" * 1000)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole" * 1000]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "note.dcm" / "taken").mkdir(parents=True)
    with pytest.raises(OSError):
        write_whole(tmp_path / "note.dcm", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.dcm"]
