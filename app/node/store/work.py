"""Jobs and their results.

Promises: a job's input, date and number are fixed before it first runs, so every attempt makes the same
objects; a result and its deliveries commit together, and so does the end of those it replaces. Of workers
that share a database the one that has a job may change it, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select, update

from app.node.clock import moment
from app.node.store.database import Store
from app.node.store.schema import (
    DeliveryState,
    InstanceKind,
    JobState,
    delivery,
    instance,
    job,
    result_object,
    set_aside,
    study,
    warning,
)
from app.node.store.versions import supersede_earlier

STRUCTURED_REPORT, REJECTION_NOTE = "structured-report", "rejection-note"


@dataclass(frozen=True)
class ResultObject:
    """One object of a result. `file` is its name within the result's folder, `sha256` that of its bytes."""

    file: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    sha256: str


@dataclass(frozen=True)
class EarlierResult:
    """The structured report of the result that a new one replaces. `composed_at` is ISO 8601."""

    result_number: int
    composed_at: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class Job:
    """One study, closed, to be analysed. `paths` in the order received; `composed_at` is ISO 8601, UTC."""

    job_id: int
    study_ref: str
    study_instance_uid: str
    revision: int
    attempts: int
    composed_at: str
    result_number: int
    predecessor: EarlierResult | None
    paths: tuple[Path, ...]
    warnings: tuple[str, ...]


def unfinished_jobs(store: Store) -> list[int]:
    """Ids of all jobs that are queued or running, oldest first."""
    query = select(job.c.id).where(job.c.state.in_((JobState.QUEUED, JobState.RUNNING))).order_by(job.c.id)
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def _held(store: Store) -> ColumnElement[bool]:
    """Whether a job is the store's worker's, as all are where there is one worker alone."""
    return job.c.worker_id.is_not_distinct_from(store.worker_id)


def start_job(store: Store, job_id: int, now: float) -> Job | None:
    """Take a job, or take it again after a restart; None where it is finished, another's or not yet its turn.

    An earlier job of its study comes first: results are numbered in the order of their revisions. The
    first start fixes date, number and predecessor, which every later one repeats.
    """
    with store.write() as connection:
        row = connection.execute(select(job).where(job.c.id == job_id)).one()
        if row.state not in (JobState.QUEUED, JobState.RUNNING) or row.worker_id != store.worker_id:
            return None
        unfinished_before = select(job.c.id).where(
            job.c.study_id == row.study_id, job.c.id < job_id, job.c.state == JobState.RUNNING
        )
        if connection.execute(unfinished_before.limit(1)).first() is not None:
            return None
        if row.composed_at is None:
            earlier = connection.execute(
                select(func.count(), func.max(job.c.id)).where(
                    job.c.study_id == row.study_id, job.c.state == JobState.DONE
                )
            ).one()
            connection.execute(
                update(job)
                .where(job.c.id == job_id)
                .values(
                    # Whole seconds: what a DICOM date and time can say of it is then all of it.
                    composed_at=moment(int(now)).isoformat(),
                    result_number=earlier[0] + 1,
                    predecessor_id=earlier[1],
                    state=JobState.RUNNING,
                )
            )
    return _read_job(store, job_id)


def _read_job(store: Store, job_id: int) -> Job:
    with store.read() as connection:
        row = connection.execute(
            select(job, study.c.study_ref, study.c.study_instance_uid)
            .join(study, study.c.id == job.c.study_id)
            .where(job.c.id == job_id)
        ).one()
        files = connection.execute(
            select(instance.c.file_sha256)
            .where(
                instance.c.study_id == row.study_id,
                instance.c.id <= row.input_until,
                instance.c.kind != InstanceKind.QUARANTINE,
            )
            .order_by(instance.c.id)
        ).scalars()
        warnings = connection.execute(
            select(warning.c.message)
            .where(warning.c.study_id == row.study_id, warning.c.created_at <= row.closed_at)
            .order_by(warning.c.id)
        ).scalars()
        earlier = None
        if row.predecessor_id is not None:
            earlier = connection.execute(
                select(job.c.result_number, job.c.composed_at, result_object)
                .join(result_object, result_object.c.job_id == job.c.id)
                .where(job.c.id == row.predecessor_id)
                .order_by(result_object.c.kind != STRUCTURED_REPORT, result_object.c.position)
                .limit(1)
            ).first()
        return Job(
            job_id=job_id,
            study_ref=row.study_ref,
            study_instance_uid=row.study_instance_uid,
            revision=row.revision,
            attempts=row.attempts,
            composed_at=row.composed_at,
            result_number=row.result_number,
            predecessor=_earlier(earlier) if earlier else None,
            paths=tuple(store.image_path(digest) for digest in files),
            warnings=tuple(warnings),
        )


def _earlier(row: Row[Any]) -> EarlierResult:
    return EarlierResult(
        result_number=row.result_number,
        composed_at=row.composed_at,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_instance_uid=row.series_instance_uid,
    )


def count_attempt(store: Store, job_id: int) -> int:
    """Record that the analysis died or failed once more; answers how often by now."""
    with store.write() as connection:
        connection.execute(
            update(job).where(job.c.id == job_id, _held(store)).values(attempts=job.c.attempts + 1)
        )
        return int(connection.execute(select(job.c.attempts).where(job.c.id == job_id)).scalar_one())


def fail_job(store: Store, job_id: int, code: str, message: str, now: float) -> None:
    """Give a job up for good, with a code and a message for a person."""
    with store.write() as connection:
        connection.execute(
            update(job)
            .where(job.c.id == job_id, job.c.state == JobState.RUNNING, _held(store))
            .values(state=JobState.FAILED, failure_code=code, failure_message=message, finished_at=now)
        )


def finish_job(
    store: Store,
    job_id: int,
    status: str,
    objects: Sequence[ResultObject],
    destinations: Iterable[str],
    now: float,
    reasons: Mapping[str, int] = MappingProxyType({}),
) -> bool:
    """Commit a result and its deliveries together; False where the job is finished, or another's.

    Parameters
    ----------
    reasons : how much the result sets aside, by reason.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(job)
            .where(job.c.id == job_id, job.c.state == JobState.RUNNING, _held(store))
            .values(state=JobState.DONE, result_status=status, finished_at=now)
        )
        if changed.rowcount == 0:
            return False
        if reasons:
            rows = [{"job_id": job_id, "reason": key, "count": count} for key, count in reasons.items()]
            connection.execute(insert(set_aside), rows)
        names = list(destinations)
        for position, made in enumerate(objects):
            created = connection.execute(
                insert(result_object).values(
                    job_id=job_id,
                    position=position,
                    file=made.file,
                    kind=made.kind,
                    sop_class_uid=made.sop_class_uid,
                    sop_instance_uid=made.sop_instance_uid,
                    series_instance_uid=made.series_instance_uid,
                    sha256=made.sha256,
                )
            )
            object_id = created.inserted_primary_key[0]  # type: ignore[index]
            for name in names:
                connection.execute(
                    insert(delivery).values(
                        object_id=object_id,
                        destination=name,
                        state=DeliveryState.QUEUED,
                        queued_at=now,
                        next_try_at=now,
                    )
                )
        supersede_earlier(connection, job_id)
        return True
