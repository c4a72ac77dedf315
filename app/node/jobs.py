"""Who executes jobs: a small interface, DBOS behind it in the worker, a thread in simulations.

Promises: a job that was submitted runs until it returns, once at a time, also across restarts where the
implementation is durable. Our rows stay the truth: whoever loses its memory is told again at the next start.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

RunJob = Callable[[int], None]


class Execution(StrEnum):
    """What has become of a submitted job."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    FINISHED = "finished"


class Jobs(Protocol):
    """Executes jobs by their id."""

    def start(self, run: RunJob) -> None:
        """Begin executing; what a restart interrupted goes on."""
        ...

    def submit(self, job_id: int) -> None:
        """Have a job run; does nothing where it waits or runs already."""
        ...

    def status(self, job_id: int) -> Execution:
        """What has become of a job."""
        ...

    def cancel(self, job_id: int) -> None:
        """Do not begin a job that waits."""
        ...

    def resume(self, job_id: int) -> None:
        """Run a cancelled job after all."""
        ...

    def stop(self) -> None:
        """Begin no further job."""
        ...


class InProcessJobs:
    """One thread, nothing durable: for simulations, which kill and restart the store's other users."""

    def __init__(self) -> None:
        self._queue: queue.Queue[int | None] = queue.Queue()
        self._executions: dict[int, Execution] = {}
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, run: RunJob) -> None:
        """Begin executing."""
        self._thread = threading.Thread(target=self._work, args=(run,), name="jobs", daemon=True)
        self._thread.start()

    def submit(self, job_id: int) -> None:
        """Have a job run; does nothing where it waits or runs already."""
        with self._lock:
            if self._executions.get(job_id) is not Execution.ACTIVE:
                self._executions[job_id] = Execution.ACTIVE
                self._queue.put(job_id)

    def status(self, job_id: int) -> Execution:
        """What has become of a job."""
        with self._lock:
            return self._executions.get(job_id, Execution.UNKNOWN)

    def cancel(self, job_id: int) -> None:
        """Do not begin a job that waits."""
        with self._lock:
            self._cancelled.add(job_id)

    def resume(self, job_id: int) -> None:
        """Run a cancelled job after all."""
        with self._lock:
            self._cancelled.discard(job_id)
        self.submit(job_id)

    def stop(self) -> None:
        """Begin no further job and wait for the one that runs."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self, run: RunJob) -> None:
        while (job_id := self._queue.get()) is not None:
            with self._lock:
                cancelled = job_id in self._cancelled
            try:
                if not cancelled:
                    run(job_id)
            finally:
                with self._lock:
                    self._executions[job_id] = Execution.FINISHED


class DbosJobs:
    """DBOS on a SQLite file of its own.

    The executor id is fixed: DBOS resumes only what the same id left behind. So is the application version,
    which would otherwise be a hash of the code and orphan what an update interrupts.
    """

    _QUEUE = "studies"
    _ACTIVE = frozenset({"ENQUEUED", "PENDING", "DELAYED"})

    def __init__(self, database: Path, poll_seconds: float) -> None:
        self._database, self._poll_seconds = database, poll_seconds
        self._workflow: Callable[[int], None] | None = None
        self._dbos: Any = None

    def start(self, run: RunJob) -> None:
        """Open DBOS's tables and begin executing; what a restart interrupted goes on."""
        from dbos import DBOS  # heavy: only the worker pays for it

        self._dbos = DBOS
        DBOS(
            config={
                "name": "busmap",
                "system_database_url": f"sqlite:///{self._database}",
                "executor_id": "worker-0",
                "application_version": "1",
                "run_admin_server": False,
                "log_level": "WARNING",
                "console_log_level": "ERROR",
            }
        )

        @DBOS.step(name="analyse-study")
        def step(job_id: int) -> None:
            run(job_id)

        @DBOS.workflow(name="study")
        def workflow(job_id: int) -> None:
            step(job_id)

        self._workflow = workflow
        DBOS.launch()
        DBOS.register_queue(self._QUEUE, worker_concurrency=1, polling_interval_sec=self._poll_seconds)

    def submit(self, job_id: int) -> None:
        """Have a job run; does nothing where it waits or runs already."""
        from dbos import SetWorkflowID

        name, execution = self._newest(job_id)
        if execution is Execution.ACTIVE:
            return
        with SetWorkflowID(name):
            self._dbos.enqueue_workflow(self._QUEUE, self._workflow, job_id)

    def status(self, job_id: int) -> Execution:
        """What has become of a job."""
        name, execution = self._newest(job_id)
        if execution is Execution.UNKNOWN and name != self._name(job_id, 0):
            return Execution.FINISHED
        return execution

    def cancel(self, job_id: int) -> None:
        """Do not begin a job that waits."""
        name, execution = self._newest(job_id)
        if execution is Execution.ACTIVE:
            self._dbos.cancel_workflow(name)

    def resume(self, job_id: int) -> None:
        """Run a cancelled job after all."""
        self.submit(job_id)

    def stop(self) -> None:
        """Begin no further job. One that runs is resumed at the next start."""
        self._dbos.destroy(workflow_completion_timeout_sec=0)

    def _newest(self, job_id: int) -> tuple[str, Execution]:
        """The workflow that is active, or the first name not used yet.

        A workflow that is finished never runs again under its id, though our row may say that the job is
        not: after a stop in its middle, or once one of both databases was restored from a backup.
        """
        number = 0
        while True:
            name = self._name(job_id, number)
            found = self._dbos.get_workflow_status(name)
            if found is None:
                return name, Execution.UNKNOWN
            if found.status in self._ACTIVE:
                return name, Execution.ACTIVE
            number += 1

    @staticmethod
    def _name(job_id: int, number: int) -> str:
        return f"job-{job_id}" + (f"-{number}" if number else "")
