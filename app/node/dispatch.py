"""Which jobs a worker has executed: all where it is alone, those it claims where workers share a database.

Promises: our rows are the truth; whatever they call unfinished is executed, whoever forgot it.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.node.clock import Clock
from app.node.crash import crash_point
from app.node.jobs import Execution, Jobs
from app.node.store.database import Store
from app.node.store.images import ClosedStudy
from app.node.store.work import unfinished_jobs
from app.node.store.workers import claim_job, held_jobs

_SWEEP_SECONDS = 5.0


class Dispatch:
    """Hands a worker's jobs to whoever executes them."""

    def __init__(self, store: Store, jobs: Jobs, clock: Clock) -> None:
        self._store, self._jobs, self._clock = store, jobs, clock
        self._next_sweep = clock.monotonic()

    def look(self, closed: Sequence[ClosedStudy]) -> None:
        """Have executed what is due; `closed` are the studies that this worker has just closed."""
        if self._store.is_shared:
            self._look_for_one()
            return
        for one in closed:
            self._jobs.submit(one.job_id)
            crash_point("job-submitted")
        if self._clock.monotonic() >= self._next_sweep:
            self._submit(unfinished_jobs(self._store))
            self._next_sweep = self._clock.monotonic() + _SWEEP_SECONDS

    def _look_for_one(self) -> None:
        """One job at a time: what waits behind it may be another worker's meanwhile."""
        held = held_jobs(self._store)
        if not held:
            claimed = claim_job(self._store)
            held = [] if claimed is None else [claimed]
        self._submit(held)

    def _submit(self, job_ids: Sequence[int]) -> None:
        for job_id in job_ids:
            if self._jobs.status(job_id) is not Execution.ACTIVE:
                self._jobs.submit(job_id)
                crash_point("job-submitted")
