"""The outbox: which object still has to reach which destination.

Promises: an object is offered again until its destination has answered for good, and the answer is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, insert, or_, select, update

from app.node.store.database import Store
from app.node.store.schema import DeliveryState, JobState, delivery, job, result_object, study
from app.node.store.work import ResultObject


@dataclass(frozen=True)
class Delivery:
    """One object to be sent. Times are seconds since 1970."""

    delivery_id: int
    study_ref: str
    study_instance_uid: str
    revision: int
    attempts: int
    queued_at: float
    result: ResultObject


def result_folder(store: Store, study_instance_uid: str, revision: int) -> Path:
    """Where a result is kept; its name is a digest, never a received value."""
    return store.results_folder / hashlib.sha256(study_instance_uid.encode()).hexdigest() / str(revision)


def requeue_interrupted(store: Store, next_try_at: float, destination: str | None = None) -> int:
    """After a start or a fault: what was being sent, to one destination or to all, is due again."""
    with store.write() as connection:
        query = update(delivery).where(delivery.c.state == DeliveryState.SENDING)
        if destination is not None:
            query = query.where(delivery.c.destination == destination)
        changed = connection.execute(query.values(state=DeliveryState.QUEUED, next_try_at=next_try_at))
        return changed.rowcount


def park_unknown(store: Store, destinations: Iterable[str]) -> int:
    """Park what waits for a destination that the settings no longer name. Answers how many."""
    with store.write() as connection:
        changed = connection.execute(
            update(delivery)
            .where(
                delivery.c.state == DeliveryState.QUEUED, delivery.c.destination.not_in(list(destinations))
            )
            .values(
                state=DeliveryState.PARKED,
                message="the settings no longer name this destination: name it again and resend the study",
            )
        )
        return changed.rowcount


def take_due(store: Store, destination: str, now: float, limit: int = 200) -> list[Delivery]:
    """Mark what is due for a destination as being sent and answer it, in the order it was made."""
    query = (
        select(delivery, result_object, job.c.revision, study.c.study_ref, study.c.study_instance_uid)
        .join(result_object, result_object.c.id == delivery.c.object_id)
        .join(job, job.c.id == result_object.c.job_id)
        .join(study, study.c.id == job.c.study_id)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.next_try_at <= now,
        )
        .order_by(job.c.id, result_object.c.position)
        .limit(limit)
    )
    with store.read() as connection:  # a look costs no lock, and most looks find nothing
        if connection.execute(query.limit(1)).first() is None:
            return []
    with store.write() as connection:
        due = [
            Delivery(
                delivery_id=row.id,
                study_ref=row.study_ref,
                study_instance_uid=row.study_instance_uid,
                revision=row.revision,
                attempts=row.attempts,
                queued_at=row.queued_at,
                result=ResultObject(
                    file=row.file,
                    kind=row.kind,
                    sop_class_uid=row.sop_class_uid,
                    sop_instance_uid=row.sop_instance_uid,
                    series_instance_uid=row.series_instance_uid,
                    sha256=row.sha256,
                ),
            )
            for row in connection.execute(query)
        ]
        connection.execute(
            update(delivery)
            .where(delivery.c.id.in_([one.delivery_id for one in due]))
            .values(state=DeliveryState.SENDING)
        )
        return due


def record_accepted(store: Store, delivery_id: int, status: int, message: str, now: float) -> None:
    """The destination has the object."""
    _record(store, [delivery_id], DeliveryState.ACCEPTED, status, message, accepted_at=now)


def record_retry(
    store: Store, delivery_ids: Sequence[int], status: int | None, message: str, next_try_at: float
) -> None:
    """The destination did not take the objects this time."""
    _record(store, delivery_ids, DeliveryState.QUEUED, status, message, next_try_at=next_try_at)


def record_parked(store: Store, delivery_ids: Sequence[int], status: int | None, message: str) -> None:
    """The destination will not take the objects; a person has to look."""
    _record(store, delivery_ids, DeliveryState.PARKED, status, message)


def record_untouched(store: Store, delivery_ids: Sequence[int]) -> None:
    """Sending stopped before these were tried: they are due as before."""
    with store.write() as connection:
        connection.execute(
            update(delivery).where(delivery.c.id.in_(list(delivery_ids))).values(state=DeliveryState.QUEUED)
        )


def _record(
    store: Store,
    delivery_ids: Sequence[int],
    state: DeliveryState,
    status: int | None,
    message: str,
    **more: float,
) -> None:
    with store.write() as connection:
        connection.execute(
            update(delivery)
            .where(delivery.c.id.in_(list(delivery_ids)), delivery.c.state == DeliveryState.SENDING)
            .values(state=state, status=status, message=message, attempts=delivery.c.attempts + 1, **more)
        )


def requeue_study(store: Store, study_id: int, destinations: Iterable[str], now: float) -> int:
    """Send a study's newest result, and whatever of it is parked, again. Answers how many deliveries.

    A destination that the settings name by now and did not when the result was made gets it too.
    """
    newest = (
        select(func.max(job.c.id))
        .where(job.c.study_id == study_id, job.c.state == JobState.DONE)
        .scalar_subquery()
    )
    with store.write() as connection:
        objects = list(
            connection.execute(select(result_object.c.id).where(result_object.c.job_id == newest)).scalars()
        )
        of_study = (
            select(result_object.c.id)
            .join(job, job.c.id == result_object.c.job_id)
            .where(job.c.study_id == study_id)
        )
        changed = connection.execute(
            update(delivery)
            .where(
                or_(
                    delivery.c.object_id.in_(objects)
                    & delivery.c.state.in_((DeliveryState.ACCEPTED, DeliveryState.QUEUED)),
                    delivery.c.object_id.in_(of_study) & (delivery.c.state == DeliveryState.PARKED),
                )
            )
            .values(state=DeliveryState.QUEUED, attempts=0, queued_at=now, next_try_at=now)
        ).rowcount
        for name in destinations:
            having = set(
                connection.execute(
                    select(delivery.c.object_id).where(delivery.c.destination == name)
                ).scalars()
            )
            for object_id in objects:
                if object_id not in having:
                    connection.execute(
                        insert(delivery).values(
                            object_id=object_id,
                            destination=name,
                            state=DeliveryState.QUEUED,
                            queued_at=now,
                            next_try_at=now,
                        )
                    )
                    changed += 1
        return changed
