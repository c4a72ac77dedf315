"""The worker process: `python -m app.node.worker`. Closes studies, has them analysed, sends the results.

Promises: every closed study ends as a committed result or as a named failure, whatever is killed when; at
start all that is unfinished goes on. Refuses to run beside another worker on the same state folder, unless
both share a PostgreSQL database and have a run folder each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.errors import INTERNAL_ERROR, AnalysisError, BusmapError, StoreError
from app.files import sync
from app.logs import configure_logs, log
from app.model_check import check_and_log
from app.node.analyst import RESOURCES_SHORT, AnalysisRefused, Analyst
from app.node.assembly import Assembly
from app.node.clock import Clock, SystemClock, system_chance
from app.node.crash import crash_point
from app.node.deliver import Deliverer
from app.node.dispatch import Dispatch
from app.node.jobs import DbosJobs, Jobs
from app.node.membership import Membership
from app.node.patients import Sender
from app.node.process import (
    DEFAULT_ANALYSER,
    WORKER_FILE,
    forget_predecessor,
    hold_lock,
    is_supervised,
    remove_runtime_file,
    start_process,
    stop_on_signals,
    write_runtime_file,
)
from app.node.store.database import Store, open_store
from app.node.store.deliveries import park_unknown, requeue_interrupted, result_folder
from app.node.store.work import (
    Job,
    ResultObject,
    count_attempt,
    fail_job,
    finish_job,
    start_job,
)
from app.settings import Settings
from models.runtime.engine import ModelError

_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_LOOK_SECONDS = 1.0


class Worker:
    """One worker's parts, put together: assembly, jobs, the analysis process, a deliverer a destination."""

    def __init__(self, settings: Settings, store: Store, jobs: Jobs, analyst: Analyst, clock: Clock) -> None:
        self._settings, self._store, self._jobs, self._analyst = settings, store, jobs, analyst
        self._clock = clock
        self._assembly = Assembly(store, clock, settings.assembly.quiet_period_seconds)
        self._dispatch = Dispatch(store, jobs, clock)
        self._membership: Membership | None = None
        self.replaced = False  # others have taken over: this process must end
        self._stopping = threading.Event()
        sender = Sender(settings.gateway.ae_title, settings.delivery)
        self._deliverers = [
            (Deliverer(store, destination, sender, clock, system_chance()), threading.Event())
            for destination in settings.delivery.receivers
        ]
        self._threads: list[threading.Thread] = []
        self._engines: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        if self._store.is_shared:
            self._membership = Membership(self._store, self._clock, self._settings.workers.silence_seconds)
            self._spawn("membership", lambda membership=self._membership: self._keep_place(membership, stop))
        requeue_interrupted(self._store, self._clock.now())
        # A shadow keeps what waits: it may have been a node that delivers, and become one again.
        shadow, named = self._settings.delivery.shadow, self._settings.delivery.destinations
        parked = 0 if shadow else park_unknown(self._store, [one.name for one in named])
        if parked:
            log().warning("deliveries-without-destination", count=parked, remedy="name it and resend")
        poll = self._settings.assembly.poll_seconds
        look = min(_LONGEST_LOOK_SECONDS, 5 * poll)  # a new result wakes the deliverers, a retry can wait
        self._jobs.start(self.run_job)
        self._spawn("engines", self._have_engines)
        for deliverer, wake in self._deliverers:
            self._spawn("deliver", lambda deliverer=deliverer, wake=wake: deliverer.run(wake, look))
        try:
            self._watch(stop, poll)
        finally:
            self.stop()

    def _keep_place(self, membership: Membership, stop: threading.Event) -> None:
        def lost() -> None:
            self.replaced = True
            stop.set()

        def freed() -> None:
            for deliverer, wake in self._deliverers:
                deliverer.look_at_all()
                wake.set()

        membership.keep(self._stopping, lost, freed)

    def _watch(self, stop: threading.Event, poll_seconds: float) -> None:
        while not stop.is_set():
            try:
                self._dispatch.look(self._assembly.close_due())
            except SQLAlchemyError as error:
                log().error("store-unreadable", error=type(error).__name__, remedy="check disk and database")
                stop.wait(1)
            stop.wait(poll_seconds)

    def stop(self) -> None:
        """Stop all parts; what is under way goes on at the next start."""
        self._stopping.set()
        for deliverer, wake in self._deliverers:
            deliverer.stop()
            wake.set()
        self._analyst.stop()
        self._jobs.stop()
        for thread in self._threads:
            thread.join(timeout=2)
        if self._membership is not None:
            self._membership.leave()

    def _spawn(self, name: str, target: Any) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _have_engines(self) -> bool:
        """Have an analysis process with engines; False where the worker stops before there is one.

        Tried until it works: engines that do not load are no study's fault, so no study pays for it.
        """
        wait = 1.0
        while not self._stopping.is_set():
            try:
                engines = self._analyst.prepare()
            except (AnalysisRefused, AnalysisError) as error:
                if self._stopping.is_set():
                    return False
                log().error("engines-not-loaded", code=error.code, remedy=str(error))
                self._tell(ready=False, code=error.code, message=str(error))
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                continue
            if engines is not None:
                self._engines = engines
                self._tell(ready=True, engines=engines, child_pid=self._analyst.pid)
                log().info("worker-ready", engines=engines)
            return True
        return False

    def _tell(self, **facts: Any) -> None:
        """Write what status shows of this process."""
        write_runtime_file(self._settings.own_folder / WORKER_FILE, {"pid": os.getpid(), **facts})

    def run_job(self, job_id: int) -> None:
        """Bring one job to its end. Leaves it unfinished only where the worker stops or the store fails."""
        try:
            self._run_attempts(job_id)
        except (SQLAlchemyError, OSError) as error:
            log().error("job-interrupted", job=job_id, error=type(error).__name__)

    def _run_attempts(self, job_id: int) -> None:
        wait = 1.0
        while self._have_engines():
            job = start_job(self._store, job_id, self._clock.now())
            if job is None:
                return
            crash_point("job-started")
            started = self._clock.monotonic()
            try:
                status, objects = self._analyse(job)
            except AnalysisRefused as error:
                failure, permanent = (error.code, str(error)), error.permanent
            except AnalysisError as error:
                failure, permanent = (error.code, str(error)), False
            except OSError as error:
                failure, permanent = (RESOURCES_SHORT, f"The results folder: {error.strerror}."), False
            else:
                self._commit(job, status, objects, self._clock.monotonic() - started)
                return
            if self._stopping.is_set():
                return
            if failure[0] == RESOURCES_SHORT:
                self._wait_for_resources(job, failure, wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                continue
            attempts = count_attempt(self._store, job_id)
            log().warning("attempt-failed", study_ref=job.study_ref, code=failure[0], attempt=attempts)
            if permanent or attempts >= self._settings.analysis.attempts:
                fail_job(self._store, job_id, *failure, self._clock.now())
                log().error("study-failed", study_ref=job.study_ref, code=failure[0], attempts=attempts)
                return

    def _wait_for_resources(self, job: Job, failure: tuple[str, str], seconds: float) -> None:
        """A full disk is no study's fault: said in log and status, waited out, not counted."""
        log().error("resources-short", study_ref=job.study_ref, code=failure[0], remedy=failure[1])
        self._tell(ready=False, code=failure[0], message=failure[1])
        self._stopping.wait(seconds)
        self._tell(ready=True, engines=self._engines, child_pid=self._analyst.pid)

    def _analyse(self, job: Job) -> tuple[str, list[ResultObject]]:
        folder = result_folder(self._store, job.study_instance_uid, job.revision)
        # A folder appears whole or not at all: one that an earlier start left is the result.
        if not folder.exists():
            _make_room(folder)
            self._analyst.ask(
                {
                    "paths": [str(path) for path in job.paths],
                    "output_folder": str(folder),
                    "composed_at": job.composed_at,
                    "result_number": job.result_number,
                    "predecessor": asdict(job.predecessor) if job.predecessor else None,
                    "warnings": list(job.warnings),
                }
            )
        crash_point("analysis-written")
        return _read_result(folder)

    def _commit(self, job: Job, status: str, objects: list[ResultObject], seconds: float) -> None:
        crash_point("result-before-commit")
        names = dict.fromkeys(one.name for one in self._settings.delivery.receivers)
        reasons = _set_aside(result_folder(self._store, job.study_instance_uid, job.revision))
        now = self._clock.now()
        if not finish_job(self._store, job.job_id, status, objects, names, now, reasons):
            log().warning(
                "result-not-committed", study_ref=job.study_ref, reason="another worker has the study"
            )
            return
        crash_point("result-committed")
        for _, wake in self._deliverers:
            wake.set()
        log().info(
            "study-analysed",
            study_ref=job.study_ref,
            revision=job.revision,
            status=status,
            objects=len(objects),
            set_aside=[f"{reason} {count}" for reason, count in sorted(reasons.items())],
            seconds=round(seconds, 3),
        )
        crash_point("job-finished")


def _make_room(folder: Path) -> None:
    """Make the study's folder, without what a killed analysis may have left half written in it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync(folder.parent.parent)
    for left in folder.parent.iterdir():
        if not left.name.isdigit():
            shutil.rmtree(left, ignore_errors=True)


def _read_result(folder: Path) -> tuple[str, list[ResultObject]]:
    """Status and objects of a written result; a folder that is not what it says is removed and refused."""
    try:
        facts = json.loads((folder / "result.json").read_text())
        objects = [
            ResultObject(
                **{
                    name: str(one[name])
                    for name in (
                        *("file", "kind", "sop_class_uid", "sop_instance_uid", "series_instance_uid"),
                        "sha256",
                    )
                }
            )
            for one in facts["objects"]
        ]
        for one in objects:
            if hashlib.sha256((folder / one.file).read_bytes()).hexdigest() != one.sha256:
                raise ValueError
        return str(facts["status"]), objects
    except (OSError, ValueError, KeyError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise AnalysisError("The written result is not whole; it is made again.") from error


def _set_aside(folder: Path) -> Counter[str]:
    """The reasons for which something of a study was set aside, counted."""
    try:
        facts = json.loads((folder / "result.json").read_text())
        return Counter(str(one["reason"]) for one in facts["set_aside"])
    except (OSError, ValueError, KeyError, TypeError):
        return Counter()  # the result is whole without it: a line less complete is no reason to stop


def main(settings: Settings | None = None) -> int:
    """Run the worker until it is told to stop; answers the exit status.

    Parameters
    ----------
    settings : given by the command line; without them the process reads its own arguments and settings.
    """
    try:
        if settings is None:
            start = start_process("worker")
            return _serve(start.settings, start.analyser, stop_on_signals(supervised=is_supervised()))
        os.umask(0o077)
        configure_logs("worker", settings.log_level)
        return _serve(settings, DEFAULT_ANALYSER, stop_on_signals(supervised=False))
    except (BusmapError, ModelError) as error:
        log().error("worker-cannot-start", code=error.code, remedy=str(error))
        return error.exit_status
    except OSError as error:
        log().error(
            "worker-cannot-start",
            code=StoreError.code,
            error=type(error).__name__,
            remedy=f"{error.strerror}: see state_folder",
        )
        return StoreError.exit_status
    except Exception as error:
        # The last border: whoever started this process starts it again.
        log().error("worker-fault", code="internal-error", error=type(error).__name__)
        return INTERNAL_ERROR


def _serve(settings: Settings, analyser: str, stop: threading.Event) -> int:
    check_and_log(settings)
    store = open_store(settings.state_folder, settings.database_url)
    lock = hold_lock(settings.own_folder, "worker", stop)
    forget_predecessor(settings.own_folder / WORKER_FILE)
    jobs = DbosJobs(settings.own_folder / "dbos.sqlite", max(0.05, settings.assembly.poll_seconds / 2))
    worker = Worker(settings, store, jobs, Analyst(settings, analyser), SystemClock())
    web = _own_web_server(settings, store) if store.is_shared and not is_supervised() else None
    try:
        worker.run(stop)
    finally:
        if web is not None:
            web.stop()
        remove_runtime_file(settings.own_folder / WORKER_FILE)
        os.close(lock)
    log().info("worker-stopped")
    return 1 if worker.replaced else 0


def _own_web_server(settings: Settings, store: Store) -> Any:
    """Health and metrics of a worker that runs apart from any gateway."""
    from app.node.counters import GatewayCounts
    from app.web.server import WebServer

    return WebServer(settings, store, SystemClock(), GatewayCounts(), process="worker")


if __name__ == "__main__":
    sys.exit(main())
