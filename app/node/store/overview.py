"""What an operator sees: every study with its newest result, its deliveries, its warnings and its failure.

Promises: one moment's truth, read in one transaction. Changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

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


@dataclass(frozen=True)
class DeliveryLine:
    """One object's way to one destination. Times are seconds since 1970; `identity` as in schema.py."""

    destination: str
    kind: str
    revision: int
    state: str
    attempts: int
    status: int | None
    message: str | None
    identity: str | None
    next_try_at: float


@dataclass(frozen=True)
class StudyLine:
    """One study as an operator sees it. Times are seconds since 1970; the newest job speaks.

    `remarks`: what its newest result says was set aside, one sentence a reason.
    """

    study_ref: str
    study_instance_uid: str
    state: str
    images: int
    others: int
    quarantined: int
    revision: int
    job_state: str | None
    result_status: str | None
    attempts: int
    failure_code: str | None
    failure_message: str | None
    last_received_at: float
    finished_at: float | None
    warnings: tuple[str, ...]
    deliveries: tuple[DeliveryLine, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateCounts:
    """How many rows are in which state. `oldest_unfinished_job_at`: seconds since 1970, None without one.

    `deliveries` by destination and state; `identities`, those accepted or parked, by destination and
    `delivery.identity`; `set_aside` by reason.
    """

    studies: dict[str, int]
    jobs: dict[str, int]
    results: dict[str, int]
    instances: dict[str, int]
    deliveries: dict[tuple[str, str], int]
    identities: dict[tuple[str, str], int]
    set_aside: dict[str, int]
    oldest_unfinished_job_at: float | None


def count_states(store: Store) -> StateCounts:
    """Count all rows by state, for metrics."""

    def count(connection: Connection, column: Any) -> dict[str, int]:
        rows = connection.execute(select(column, func.count()).where(column.is_not(None)).group_by(column))
        return {row[0]: row[1] for row in rows}

    unfinished = select(func.min(job.c.closed_at)).where(job.c.state.in_([JobState.QUEUED, JobState.RUNNING]))
    settled = delivery.c.state.in_((DeliveryState.ACCEPTED, DeliveryState.PARKED))

    def by_destination(connection: Connection, column: Any, *where: Any) -> dict[tuple[str, str], int]:
        query = select(delivery.c.destination, column, func.count()).where(*where)
        rows = connection.execute(query.group_by(delivery.c.destination, column))
        return {(row[0], row[1]): row[2] for row in rows}

    reasons = select(set_aside.c.reason, func.sum(set_aside.c.count)).group_by(set_aside.c.reason)
    with store.read() as connection:
        return StateCounts(
            studies=count(connection, study.c.state),
            jobs=count(connection, job.c.state),
            results=count(connection, job.c.result_status),
            instances=count(connection, instance.c.kind),
            deliveries=by_destination(connection, delivery.c.state),
            identities=by_destination(
                connection, delivery.c.identity, delivery.c.identity.is_not(None), settled
            ),
            set_aside={row[0]: int(row[1]) for row in connection.execute(reasons)},
            oldest_unfinished_job_at=connection.execute(unfinished).scalar(),
        )


def job_places(store: Store) -> list[tuple[str, int]]:
    """Study Instance UID and revision of every job, whatever the schema."""
    query = select(study.c.study_instance_uid, job.c.revision).join(job, job.c.study_id == study.c.id)
    with store.read() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def find_study(store: Store, named: str) -> int | None:
    """The id of the study with this Study Instance UID or study_ref."""
    query = select(study.c.id).where(or_(study.c.study_instance_uid == named, study.c.study_ref == named))
    with store.read() as connection:
        return connection.execute(query).scalar()


def study_lines(store: Store, limit: int = 1000) -> list[StudyLine]:
    """The studies that something arrived for last, newest first, and every one that needs a person."""
    newest = select(study.c.id).order_by(study.c.last_received_at.desc(), study.c.id.desc()).limit(limit)
    last_jobs = select(func.max(job.c.id)).group_by(job.c.study_id)
    failed = select(job.c.study_id).where(job.c.state == JobState.FAILED, job.c.id.in_(last_jobs))
    parked = (
        select(job.c.study_id)
        .join(result_object, result_object.c.job_id == job.c.id)
        .join(delivery, delivery.c.object_id == result_object.c.id)
        .where(delivery.c.state == DeliveryState.PARKED)
    )
    with store.read() as connection:
        rows = connection.execute(
            select(study)
            .where(or_(study.c.id.in_(newest), study.c.id.in_(failed), study.c.id.in_(parked)))
            .order_by(study.c.last_received_at.desc(), study.c.id.desc())
        ).all()
        wanted = [row.id for row in rows]
        counts = _counts(connection, wanted)
        jobs = _newest_jobs(connection, wanted)
        warnings: dict[int, list[str]] = defaultdict(list)
        for one in connection.execute(_of(select(warning), warning, wanted).order_by(warning.c.id)):
            warnings[one.study_id].append(one.message)
        deliveries = _deliveries(connection, wanted)
    return [
        _line(row, counts, jobs.get(row.id), tuple(warnings[row.id]), tuple(deliveries[row.id]))
        for row in rows
    ]


def _line(
    row: Any,
    counts: dict[tuple[int, str], int],
    newest: Any,
    warnings: tuple[str, ...],
    deliveries: tuple[DeliveryLine, ...],
) -> StudyLine:
    return StudyLine(
        study_ref=row.study_ref,
        study_instance_uid=row.study_instance_uid,
        state=row.state,
        images=counts.get((row.id, InstanceKind.IMAGE), 0),
        others=counts.get((row.id, InstanceKind.OTHER), 0),
        quarantined=counts.get((row.id, InstanceKind.QUARANTINE), 0),
        revision=newest.revision if newest else 0,
        job_state=newest.state if newest else None,
        result_status=newest.result_status if newest else None,
        attempts=newest.attempts if newest else 0,
        failure_code=newest.failure_code if newest else None,
        failure_message=newest.failure_message if newest else None,
        last_received_at=row.last_received_at,
        finished_at=newest.finished_at if newest else None,
        warnings=warnings,
        deliveries=deliveries,
    )


def _of(query: Select[Any], table: Any, studies: list[int]) -> Select[Any]:
    return query.where(table.c.study_id.in_(studies))


def _counts(connection: Connection, studies: list[int]) -> dict[tuple[int, str], int]:
    query = _of(select(instance.c.study_id, instance.c.kind, func.count()), instance, studies).group_by(
        instance.c.study_id, instance.c.kind
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def _newest_jobs(connection: Connection, studies: list[int]) -> dict[int, Any]:
    query = _of(select(job), job, studies).order_by(job.c.revision)
    return {row.study_id: row for row in connection.execute(query)}  # the last of each study stays


def _deliveries(connection: Connection, studies: list[int]) -> dict[int, list[DeliveryLine]]:
    query = (
        _of(select(delivery, result_object.c.kind, job.c.revision, job.c.study_id), job, studies)
        .join(result_object, result_object.c.id == delivery.c.object_id)
        .join(job, job.c.id == result_object.c.job_id)
        .order_by(job.c.revision, result_object.c.position, delivery.c.destination)
    )
    found: dict[int, list[DeliveryLine]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.study_id].append(
            DeliveryLine(
                destination=row.destination,
                kind=row.kind,
                revision=row.revision,
                state=row.state,
                attempts=row.attempts,
                status=row.status,
                message=row.message,
                identity=row.identity,
                next_try_at=row.next_try_at,
            )
        )
    return found
