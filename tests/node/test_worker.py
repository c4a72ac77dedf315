"""The worker's parts in one process: engines that do not load, jobs that DBOS forgot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.errors import StoreError
from app.logs import ALLOWED_FIELDS
from app.node.analyst import AnalysisRefused, Analyst
from app.node.jobs import DbosJobs, Execution, InProcessJobs, Jobs
from app.node.process import hold_lock
from app.node.status import read_status
from app.node.worker import Worker
from tests.node.inprocess import Bench, DirectAnalyst
from tests.node.rig import ultrasound, wait_for


class Running:
    """A worker in a thread."""

    def __init__(self, bench: Bench, jobs: Jobs) -> None:
        self.analyst = DirectAnalyst(bench.settings)
        self.worker = Worker(bench.settings, bench.store, jobs, cast(Analyst, self.analyst), bench.clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.worker.run, args=(self._stop,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state", assembly={"quiet_period_seconds": 0, "poll_seconds": 0.01})


@pytest.fixture
def running(bench: Bench) -> Iterator[Running]:
    one = Running(bench, InProcessJobs())
    yield one
    one.stop()


def test_the_log_says_what_was_set_aside(bench: Bench, running: Running) -> None:
    bench.receive(ultrasound("1", ImageComments="EMPTY"))
    bench.receive(ultrasound("2"))
    with capture_logs() as lines:
        running.start()
        [line] = wait_for(lambda: [one for one in lines if one["event"] == "study-analysed"])
    assert line["set_aside"] == ["no-analysable-tissue 1"]
    assert "set_aside" in ALLOWED_FIELDS


def test_studies_wait_for_engines_that_do_not_load(bench: Bench, running: Running) -> None:
    missing, tried = threading.Event(), threading.Event()

    def prepare() -> None:
        tried.set()
        if not missing.is_set():
            raise AnalysisRefused("model-unusable", "model is missing: install it", permanent=False)

    running.analyst.before = prepare
    bench.receive(ultrasound("1"))
    running.start()
    assert tried.wait(10)
    wait_for(lambda: read_status(bench.settings).processes[1].facts.get("code") == "model-unusable")
    wait_for(lambda: read_status(bench.settings).studies[0].job_state == "queued")
    missing.set()
    found = wait_for(lambda: [one for one in read_status(bench.settings).studies if one.job_state == "done"])
    assert found[0].attempts == 0


def test_result_left_by_a_kill_is_used_as_it_is(bench: Bench, running: Running) -> None:
    asked: list[Any] = []
    analyse = running.analyst.ask
    running.analyst.ask = lambda request: (asked.append(request), analyse(request))  # type: ignore[method-assign]
    bench.receive(ultrasound("1"))
    running.start()
    wait_for(lambda: read_status(bench.settings).studies[0].job_state == "done")
    with bench.store.write() as connection:  # as if the kill had come before the commit
        for sql in ("DELETE FROM result_object", "UPDATE job SET state = 'running'"):
            connection.exec_driver_sql(sql)
    running.worker.run_job(1)
    assert read_status(bench.settings).studies[0].job_state == "done"
    assert len(asked) == 1


def test_second_worker_is_refused(tmp_path: Path) -> None:
    stop = threading.Event()
    first = hold_lock(tmp_path, "worker", stop)
    assert first >= 0
    stop.set()
    with pytest.raises(StoreError, match="another worker"):
        hold_lock(tmp_path, "worker", stop)


def test_dbos_runs_each_job_once_and_again_only_when_told(tmp_path: Path) -> None:
    ran: list[int] = []
    jobs = DbosJobs(tmp_path / "dbos.sqlite", 0.02)
    jobs.start(ran.append)
    try:
        for _ in range(3):
            jobs.submit(7)
        wait_for(lambda: jobs.status(7) is Execution.FINISHED)
        assert ran == [7]
        assert jobs.status(8) is Execution.UNKNOWN
        # Our row still says unfinished, whatever DBOS remembers: told again, it runs again.
        jobs.submit(7)
        wait_for(lambda: ran == [7, 7])
    finally:
        jobs.stop()


def test_in_process_jobs_keep_the_same_contract() -> None:
    ran: list[int] = []
    jobs = InProcessJobs()
    jobs.cancel(8)
    jobs.start(ran.append)
    for job_id in (7, 8):
        jobs.submit(job_id)
    wait_for(lambda: jobs.status(8) is Execution.FINISHED)
    jobs.resume(8)
    wait_for(lambda: ran == [7, 8])
    jobs.stop()
